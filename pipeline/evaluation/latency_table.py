"""Latency records as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pipeline.backends import DEVICE_PHASES
from pipeline.evaluation.conditions import warnings_of
from pipeline.records import Blocks, Latency, WarmUp
from pipeline.text import PlainConsole


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
    model = f"{latency.model.task} {latency.model.name} {latency.model.role}"
    caption = (
        "batch 1, ms; pre, infer, post: medians; p50 to blocks: of the total\n"
        "blocks: lowest and highest median of the alternating blocks, a difference within is none"
    )
    headings = ("pre", "infer", "post", "p50", "p90", "p99", "blocks", "img/s", "warm-up")
    table = _table(f"{model}: {latency.device.cpu}, {latency.threads} threads, {devices}", headings, caption)
    for row in latency.runtimes:
        parts = [row.preprocess.p50_ms, row.infer.p50_ms, row.postprocess.p50_ms]
        total = [row.total.p50_ms, row.total.p90_ms, row.total.p99_ms]
        cells = [short(value) for value in (*parts, *total)]
        table.add_row(row.runtime, *cells, span(row.blocks), short(row.throughput_per_s), warmup_text(row.warmup))
    return table


def _device_phases(latency: Latency) -> Table:
    """List every phase with its percentiles; transfers and compute by the device's clock."""
    table = _table("phases", ("phase", "p50", "p90", "p99", "mean"), "ms; transfers and compute by the device's clock")
    for row in latency.runtimes:
        for phase in ("preprocess", *DEVICE_PHASES, "postprocess"):
            timing = getattr(row, phase)
            if row.compute is not None and timing is not None:
                values = (timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.mean_ms)
                table.add_row(row.runtime, phase.replace("_", " "), *(short(value) for value in values))
    return table


def _batches(latency: Latency) -> Table:
    headings = ("batch", "p50", "p90", "p99", "blocks", "img/s", "warm-up")
    table = _table("inference alone", headings, "ms of a whole batch, without preprocessing and postprocessing")
    for row in latency.runtimes:
        one = row.infer
        alone = ["1", short(one.p50_ms), short(one.p90_ms), short(one.p99_ms)]
        table.add_row(row.runtime, *alone, "", short(1e3 / one.mean_ms), warmup_text(row.warmup))
        for batch in row.batches:
            timing = batch.infer
            cells = [str(batch.batch_size), short(timing.p50_ms), short(timing.p90_ms), short(timing.p99_ms)]
            rest = [span(batch.blocks), short(batch.throughput_per_s), warmup_text(batch.warmup)]
            table.add_row(row.runtime, *cells, *rest)
    return table


def _table(title: str, headings: Sequence[str], caption: str) -> Table:
    table = Table("runtime", title=title, caption=caption, box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
