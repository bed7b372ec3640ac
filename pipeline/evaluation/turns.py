"""Warm up until stable, then take turns in short blocks.

A machine that slows down so slows everything that is measured, and the medians of a case's blocks say how far its
number moves by itself. The first runs of a block are not counted: the thread pool of the runtime before still spins
for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns
from typing import Final

from rich.progress import Progress

from pipeline.params import Benchmark
from pipeline.records import WarmUp
from pipeline.text import PlainConsole

BLOCK_S: Final = 0.25  # how long a turn lasts
UNCOUNTED: Final = 2  # first runs of a turn
COUNTED: Final = 5  # runs of a turn at least, where they are slow

Run = tuple[int, ...]  # nanoseconds per phase; the last is the whole run
Block = list[Run]  # what is counted of one turn


@dataclass(frozen=True)
class Case:
    """What takes turns: one runtime at one batch size; `run` runs it once and returns its times."""

    batch_size: int
    phases: tuple[str, ...]
    run: Callable[[], Run]


@dataclass(frozen=True)
class Measured:
    """A case's warm-up and its blocks."""

    case: Case
    warmup: WarmUp
    blocks: list[Block]


def warm_up(case: Case, params: Benchmark) -> WarmUp:
    """Run a case until the median of a block is close to that of the block before.

    Args:
        case: What to run.
        params: At least `warmup_min_s`, at most `warmup_max_s` (a block that has begun is finished), and
            `warmup_tolerance`, the share of the median by which two blocks may differ.

    """
    start = perf_counter_ns()
    medians: list[float] = []
    while True:
        seconds = (perf_counter_ns() - start) / 1e9
        stable = len(medians) > 1 and abs(medians[-1] - medians[-2]) <= params.warmup_tolerance * medians[-2]
        if seconds >= params.warmup_max_s or (stable and seconds >= params.warmup_min_s):
            return WarmUp(seconds=seconds, stable=stable)
        medians.append(block_median(_turn(case)))


def take_turns(cases: Sequence[Case], params: Benchmark) -> list[list[Block]]:
    """Give the cases turns until each has its time and its runs; none stops before the others have.

    Returns:
        The blocks of each case; all have equally many.

    """
    blocks: list[list[Block]] = [[] for _ in cases]
    with Progress(console=PlainConsole(stderr=True)) as progress:
        bar = progress.add_task("latency", total=1.0)
        while (done := min(_share(of, params) for of in blocks)) < 1:
            progress.update(bar, completed=done)
            for case, of in zip(cases, blocks, strict=True):
                of.append(_turn(case))
        progress.update(bar, completed=1.0)
    return blocks


def block_median(block: Block) -> float:
    """Return the median of the whole runs, nanoseconds."""
    return median(run[-1] for run in block)


def _share(blocks: list[Block], params: Benchmark) -> float:
    """Say how much of the asked time and runs is done, 1 for all."""
    wholes = [run[-1] for block in blocks for run in block]
    return min(len(wholes) / params.min_runs, sum(wholes) / (params.min_time_s * 1e9))


def _turn(case: Case) -> Block:
    end = perf_counter_ns() + BLOCK_S * 1e9
    runs: Block = []
    while len(runs) < UNCOUNTED + COUNTED or perf_counter_ns() < end:
        runs.append(case.run())
    return runs[UNCOUNTED:]
