"""Latency records as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table

from pipeline.backends import DEVICE_PHASES
from pipeline.evaluation.conditions import doubts_of, warnings_of
from pipeline.records import BatchLatency, Blocks, Latency, RuntimeLatency, Timing, WarmUp
from pipeline.text import PlainConsole

TRANSFERS: Final = "pageable memory, no CUDA graph"  # of the phases on a GPU; trtexec's numbers are lower


def print_latencies(records: Sequence[Latency]) -> None:
    """Print the tables of records that were measured together, and what makes them doubtful."""
    console = PlainConsole()
    for record in records:
        for table in latency_tables(record):
            console.print(table)
    for warning in dict.fromkeys(warning for record in records for warning in warnings_of(record)):
        console.print(f"WARNING {warning}", style="yellow")


def latency_tables(latency: Latency) -> list[Table]:
    """Lay out batch 1; then the phases by the device's clock and the larger batches, where there are any."""
    tables = [_batch_one(latency)]
    if any(row.compute is not None for row in latency.runtimes):
        tables.append(_device_phases(latency))
    if any(row.batches for row in latency.runtimes):
        tables.append(_batches(latency))
    return tables


def short(value: float) -> str:
    """Write 3 significant digits without an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def span(blocks: Blocks | None) -> str:
    """Write the lowest and the highest median of the blocks."""
    return "" if blocks is None else f"{short(blocks.min_ms)}-{short(blocks.max_ms)}"


def warmup_text(warmup: WarmUp | None) -> str:
    """Write the seconds, or that the median was still moving after them."""
    if warmup is None:
        return ""
    return f"{warmup.seconds:.1f} s" if warmup.stable else "unstable"


def _batch_one(latency: Latency) -> Table:
    devices = ", ".join(sorted({row.device for row in latency.runtimes}))
    model = f"{latency.model.task} {latency.model.label}"
    caption = (
        "batch 1, ms; pre, infer, post: medians; p50 to blocks: of the total\n"
        "blocks: lowest and highest median of the alternating blocks, a difference within is none"
    )
    rows = latency.runtimes
    tails = _tails(row.total for row in rows)
    headings = ("pre", "infer", "post", "p50", *tails, "blocks", "img/s", "warm-up")
    table = _table(f"{model}: {latency.device.cpu}, {latency.threads} threads, {devices}", headings, caption)
    for row in rows:
        parts = [row.preprocess.p50_ms, row.infer.p50_ms, row.postprocess.p50_ms, row.total.p50_ms]
        cells = [*map(short, parts), *_cells(row.total, tails)]
        table.add_row(row.runtime, *cells, span(row.blocks), short(row.throughput_per_s), steadiness(row))
    return table


def _device_phases(latency: Latency) -> Table:
    """List every phase with its percentiles; transfers and compute by the device's clock."""
    shown = [
        (row.runtime, phase, timing)
        for row in latency.runtimes
        for phase in ("preprocess", *DEVICE_PHASES, "postprocess")
        if row.compute is not None and (timing := getattr(row, phase)) is not None
    ]
    tails = _tails(timing for _, _, timing in shown)
    caption = f"ms; transfers and compute by the device's clock; {TRANSFERS}"
    table = _table("phases", ("phase", "p50", *tails, "mean"), caption)
    for runtime, phase, timing in shown:
        cells = [short(timing.p50_ms), *_cells(timing, tails), short(timing.mean_ms)]
        table.add_row(runtime, phase.replace("_", " "), *cells)
    return table


def _batches(latency: Latency) -> Table:
    timings = [row.infer for row in latency.runtimes] + [of.infer for row in latency.runtimes for of in row.batches]
    tails = _tails(timings)
    caption = "ms of a whole batch, without preprocessing and postprocessing"
    if any(row.runtime.startswith("tensorrt") for row in latency.runtimes):
        caption += "\nTensorRT: tuned for 1 image; beyond engine.tensorrt.max_batch a batch runs in parts"
    table = _table("inference alone", ("batch", "p50", *tails, "blocks", "img/s", "warm-up"), caption)
    for row in latency.runtimes:
        one = row.infer
        alone = ["1", short(one.p50_ms), *_cells(one, tails)]
        table.add_row(row.runtime, *alone, "", short(1e3 / one.mean_ms), steadiness(row))
        for batch in row.batches:
            cells = [str(batch.batch_size), short(batch.infer.p50_ms), *_cells(batch.infer, tails)]
            rest = [span(batch.blocks), short(batch.throughput_per_s), steadiness(batch)]
            table.add_row(row.runtime, *cells, *rest)
    return table


def _tails(timings: Iterable[Timing]) -> list[str]:
    """List the percentiles beside the median that any of the timings has."""
    timings = list(timings)
    return [name for name in ("p90", "p99") if any(getattr(timing, f"{name}_ms") is not None for timing in timings)]


def _cells(timing: Timing, tails: Sequence[str]) -> list[str]:
    values = [getattr(timing, f"{name}_ms") for name in tails]
    return ["" if value is None else short(value) for value in values]


def steadiness(row: RuntimeLatency | BatchLatency) -> str:
    """Write how long the warm-up took, or what makes the median doubtful, in a word."""
    if row.asked_runs is not None and row.runs < row.asked_runs:
        return f"{row.runs} runs"
    return "unstable" if doubts_of(row) else warmup_text(row.warmup)


def _table(title: str, headings: Sequence[str], caption: str) -> Table:
    table = Table("runtime", title=title, caption=caption, box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
