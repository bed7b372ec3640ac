"""Which latencies may be compared, and the ratio of two that may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table

from pipeline.errors import PipelineError
from pipeline.evaluation.conditions import doubts_of, warnings_of
from pipeline.evaluation.latency_table import short, span
from pipeline.records import Blocks, DeviceInfo, Latency

SETTING: Final = ("fingerprint", "threads", "batch_size")  # equal, or two latencies are not compared


@dataclass(frozen=True)
class Ratio:
    """One runtime and batch size of two records: medians in ms, a over b, and what the blocks leave it between."""

    runtime: str
    batch_size: int
    a_ms: float
    b_ms: float
    a_blocks: Blocks | None
    b_blocks: Blocks | None
    doubtful: bool = False  # one of the medians is not steady

    @property
    def value(self) -> float | None:
        """How many times as long a takes as b; None where a median is not steady."""
        return None if self.doubtful else self.a_ms / self.b_ms

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest ratio of any two blocks; None where a record has no blocks, or a median is not steady."""
        if self.a_blocks is None or self.b_blocks is None or self.doubtful:
            return None
        return self.a_blocks.min_ms / self.b_blocks.max_ms, self.a_blocks.max_ms / self.b_blocks.min_ms


def setting_of(latency: Latency) -> dict[str, str | int]:
    """Give what two latencies must share, as the report's summary.json keeps it."""
    return {
        "fingerprint": latency.device.fingerprint,
        "threads": latency.threads,
        "batch_size": latency.batch_size,
    }


def same_setting(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Tell whether two latencies may be compared: same device fingerprint, threads and batch size."""
    return all(first.get(key) == second.get(key) for key in SETTING)


def compare_latencies(a: Latency, b: Latency) -> list[Ratio]:
    """Divide a's medians by b's, runtime by runtime: of the total at batch 1, of inference alone beyond it.

    The report draws another image size as what it is, a trade; a ratio of two image sizes would hide it. A median that
    is not steady gives no ratio.

    Raises:
        PipelineError: if task, device, threads, batch or image size or the score threshold differ, no runtime is in
            both, or a median is 0.

    """
    differences = [] if same_setting(setting_of(a), setting_of(b)) else _differences(a, b)
    differences += [
        f"{key}: {first} and {second}"
        for key, first, second in (
            ("task", a.model.task, b.model.task),
            ("image_size_px", a.model.image_size_px, b.model.image_size_px),
            ("score_threshold", a.score_threshold, b.score_threshold),
        )
        if first != second
    ]
    if differences:
        raise PipelineError(
            f"latencies of {a.model.name} and {b.model.name} cannot be compared, expected equal conditions, got "
            f"{'; '.join(differences)}. Run `dvc repro benchmark` for both on one device, with equal params"
        )
    of_a, of_b = _medians(a), _medians(b)
    ratios = [_ratio(key, of_a[key], of_b[key]) for key in of_a if key in of_b]
    if not ratios:
        raise PipelineError(
            f"latencies of {a.model.name} and {b.model.name} cannot be compared: expected a runtime that is in both, "
            f"got {_runtimes(a)} and {_runtimes(b)}"
        )
    return ratios


def comparison_table(a: Latency, b: Latency) -> Table:
    """Lay out `compare_latencies` for a terminal of 80 columns, with what makes either record doubtful below."""
    notes = ["ms; blocks: lowest and highest median; between: ratios of any two blocks, 1 in it: no difference shown"]
    notes += [f"WARNING {name}: {text}" for name, of in (("a", a), ("b", b)) for text in warnings_of(of)]
    modes = [None if of.before is None else (of.before.power_mode, of.before.cpu_governor) for of in (a, b)]
    if modes[0] != modes[1]:
        notes.append(f"WARNING power mode and CPU governor: {modes[0]} and {modes[1]}")
    title = f"a: {_model(a)}; b: {_model(b)}"
    table = Table("runtime", title=title, caption="\n".join(notes), box=None, padding=(0, 1, 0, 0))
    for heading in ("batch", "a", "blocks", "b", "blocks", "a/b", "between"):
        table.add_column(heading, justify="right", no_wrap=True)
    for ratio in compare_latencies(a, b):
        medians = [short(ratio.a_ms), span(ratio.a_blocks), short(ratio.b_ms), span(ratio.b_blocks)]
        between = "" if ratio.bounds is None else f"{ratio.bounds[0]:.2f}-{ratio.bounds[1]:.2f}"
        value = "unstable" if ratio.value is None else f"{ratio.value:.2f}"
        table.add_row(ratio.runtime, str(ratio.batch_size), *medians, value, between)
    return table


def _runtimes(latency: Latency) -> str:
    return ", ".join(f"{row.runtime} on {row.device}" for row in latency.runtimes)


def _model(latency: Latency) -> str:
    return f"{latency.model.task} {latency.model.name} {latency.model.digest[:8]}"


Key = tuple[str, str, int]  # runtime, device, batch size
Median = tuple[float, Blocks | None, bool]  # ms, and whether it is doubtful


def _medians(latency: Latency) -> dict[Key, Median]:
    """Give each median, its blocks and whether it is doubtful.

    Raises:
        PipelineError: if a median is 0, of which no ratio can be taken.

    """
    found: dict[Key, Median] = {}
    for row in latency.runtimes:
        found[row.runtime, row.device, latency.batch_size] = row.total.p50_ms, row.blocks, bool(doubts_of(row))
        for batch in row.batches:
            median = batch.infer.p50_ms, batch.blocks, bool(doubts_of(batch))
            found[row.runtime, row.device, batch.batch_size] = median
    for (runtime, device, size), (median_ms, blocks, _) in found.items():
        if median_ms == 0 or (blocks is not None and blocks.min_ms == 0):
            raise PipelineError(
                f"latency of {latency.model.name} cannot be compared: expected medians above 0 ms, got 0 for {runtime} "
                f"on {device} at batch {size}; measure again with `dvc repro --force benchmark`"
            )
    return found


def _ratio(key: Key, a: Median, b: Median) -> Ratio:
    return Ratio(key[0], key[2], a[0], b[0], a[1], b[1], a[2] or b[2])


def _differences(a: Latency, b: Latency) -> list[str]:
    """Name what differs, within the devices too: their fingerprints alone say nothing to a reader."""
    firsts, seconds = _facts(a.device), _facts(b.device)
    of_a = setting_of(a) | {key: firsts.get(key) for key in firsts | seconds}
    of_b = setting_of(b) | {key: seconds.get(key) for key in firsts | seconds}
    return [f"{key}: {of_a[key]} and {of_b[key]}" for key in of_a if of_a[key] != of_b[key]]


def _facts(device: DeviceInfo) -> dict[str, Any]:
    facts = device.model_dump(exclude={"fingerprint", "versions"})
    return facts | {f"{name} version": version for name, version in device.versions.items()}
