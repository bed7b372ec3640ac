"""Which latencies may be compared, and the ratio of two that may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table

from pipeline.errors import PipelineError
from pipeline.evaluation.conditions import warnings_of
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

    @property
    def value(self) -> float:
        """How many times as long a takes as b."""
        return self.a_ms / self.b_ms

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest ratio of any two blocks; None where a record has no blocks."""
        if self.a_blocks is None or self.b_blocks is None:
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

    The report draws another image size as what it is, a trade; a ratio of two image sizes would hide it.

    Raises:
        PipelineError: if device, threads, batch or image size differ, or no runtime is in both.

    """
    differences = [] if same_setting(setting_of(a), setting_of(b)) else _differences(a, b)
    if a.model.image_size_px != b.model.image_size_px:
        differences.append(f"image_size_px: {a.model.image_size_px} and {b.model.image_size_px}")
    if differences:
        raise PipelineError(
            f"latencies of {a.model.name} and {b.model.name} cannot be compared, expected equal conditions, got "
            f"{'; '.join(differences)}. Run `dvc repro benchmark` for both on one device, with equal params"
        )
    of_a, of_b = _medians(a), _medians(b)
    ratios = [
        Ratio(runtime, size, of_a[key][0], of_b[key][0], of_a[key][1], of_b[key][1])
        for key in of_a
        if key in of_b
        for runtime, _, size in [key]
    ]
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
        table.add_row(ratio.runtime, str(ratio.batch_size), *medians, f"{ratio.value:.2f}", between)
    return table


def _runtimes(latency: Latency) -> str:
    return ", ".join(f"{row.runtime} on {row.device}" for row in latency.runtimes)


def _model(latency: Latency) -> str:
    return f"{latency.model.task} {latency.model.name} {latency.model.digest[:8]}"


def _medians(latency: Latency) -> dict[tuple[str, str, int], tuple[float, Blocks | None]]:
    """Give median and blocks by runtime, device and batch size."""
    found: dict[tuple[str, str, int], tuple[float, Blocks | None]] = {}
    for row in latency.runtimes:
        found[row.runtime, row.device, latency.batch_size] = row.total.p50_ms, row.blocks
        for batch in row.batches:
            found[row.runtime, row.device, batch.batch_size] = batch.infer.p50_ms, batch.blocks
    return found


def _differences(a: Latency, b: Latency) -> list[str]:
    """Name what differs, within the devices too: their fingerprints alone say nothing to a reader."""
    firsts, seconds = _facts(a.device), _facts(b.device)
    of_a = setting_of(a) | {key: firsts.get(key) for key in firsts | seconds}
    of_b = setting_of(b) | {key: seconds.get(key) for key in firsts | seconds}
    return [f"{key}: {of_a[key]} and {of_b[key]}" for key in of_a if of_a[key] != of_b[key]]


def _facts(device: DeviceInfo) -> dict[str, Any]:
    facts = device.model_dump(exclude={"fingerprint", "versions"})
    return facts | {f"{name} version": version for name, version in device.versions.items()}
