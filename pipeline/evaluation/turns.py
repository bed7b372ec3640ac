"""Warm up until stable, then take turns in short blocks, each within a time limit.

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

from pipeline.evaluation.progress import Reporter
from pipeline.params import Benchmark
from pipeline.records import WarmUp

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
    name: str = ""  # in messages


@dataclass(frozen=True)
class Measured:
    """A case's warm-up and its blocks; fewer runs than `asked_runs` where the time limit ended it."""

    case: Case
    warmup: WarmUp
    blocks: list[Block]
    asked_runs: int


def warm_up(case: Case, params: Benchmark) -> WarmUp:
    """Run a case until the median of a block is close to that of the block before.

    Args:
        case: What to run.
        params: At least `warmup_min_s`, at most `warmup_max_s` (a run that has begun is finished), and
            `warmup_tolerance`, the share of the median by which two blocks may differ.

    """
    start = perf_counter_ns()
    medians: list[float] = []
    while True:
        seconds = (perf_counter_ns() - start) / 1e9
        stable = len(medians) > 1 and abs(medians[-1] - medians[-2]) <= params.warmup_tolerance * medians[-2]
        if seconds >= params.warmup_max_s or (stable and seconds >= params.warmup_min_s):
            return WarmUp(seconds=seconds, stable=stable)
        medians.append(block_median(_turn(case, params.warmup_max_s - seconds)))


def take_turns(cases: Sequence[Case], params: Benchmark) -> list[list[Block]]:
    """Give the cases turns until each has its time and its runs; none stops before the others have.

    A case that has run for `max_time_s` takes no further turn, whatever its runs.

    Returns:
        The blocks of each case, at least one.

    """
    blocks: list[list[Block]] = [[] for _ in cases]
    spent = [0.0] * len(cases)  # seconds, with the runs that do not count
    with Reporter("latency") as reporter:
        while (done := min(_share(of, time, params) for of, time in zip(blocks, spent, strict=True))) < 1:
            for index, case in enumerate(cases):
                left = params.max_time_s - spent[index]
                if left > 0:
                    reporter.update(done, case.name)
                    start = perf_counter_ns()
                    block = _turn(case, left)
                    if len(block) > 1 or not blocks[index]:  # one run alone is a cold one that the limit cut off
                        blocks[index].append(block)
                    spent[index] += (perf_counter_ns() - start) / 1e9
        reporter.update(1.0)
    return blocks


def block_median(block: Block) -> float:
    """Return the median of the whole runs, nanoseconds."""
    return median(run[-1] for run in block)


def _share(blocks: list[Block], spent_s: float, params: Benchmark) -> float:
    """Say how much of the asked time and runs is done, 1 for all or where the time is up."""
    if spent_s >= params.max_time_s:
        return 1
    wholes = [run[-1] for block in blocks for run in block]
    asked = min(len(wholes) / params.min_runs, sum(wholes) / (params.min_time_s * 1e9))
    return max(asked, spent_s / params.max_time_s)


def _turn(case: Case, limit_s: float) -> Block:
    """Run a case for a quarter of a second and often enough, or once at least where the time is up before."""
    start = perf_counter_ns()
    runs: Block = []
    while len(runs) < UNCOUNTED + COUNTED or perf_counter_ns() - start < BLOCK_S * 1e9:
        runs.append(case.run())
        if perf_counter_ns() - start >= limit_s * 1e9:
            break
    return runs[UNCOUNTED:] or runs[-1:]
