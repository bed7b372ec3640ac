"""Runs to percentiles, and a runtime's cases to its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.backends import DEVICE_PHASES, Backend
from pipeline.evaluation.turns import Block, Measured, block_median
from pipeline.records import BatchLatency, Blocks, RuntimeLatency, Timing

PHASES: Final = ("preprocess", "infer", "postprocess", "total")


def runtime_latency(backend: Backend, measured: Sequence[Measured]) -> RuntimeLatency:
    """Sum up what was measured of a backend.

    Args:
        backend: For its names.
        measured: Batch 1 first; then the device's phases and larger batches, where there are any.

    """
    one, *rest = measured
    timings = _timings(one)
    for other in rest:
        if other.case.batch_size == 1:
            timings |= {phase: timing for phase, timing in _timings(other).items() if phase in DEVICE_PHASES}
    return RuntimeLatency(
        runtime=backend.runtime,
        device=backend.device,
        runs=_runs(one),
        asked_runs=one.asked_runs,
        throughput_per_s=_throughput(one),
        warmup=one.warmup,
        blocks=blocks_of(one.blocks),
        batches=[_batch_latency(other) for other in rest if other.case.batch_size > 1],
        **timings,
    )


def timing_of(milliseconds: npt.NDArray[np.float64]) -> Timing:
    """Compute mean, standard deviation and percentiles, interpolated linearly, of (runs,) milliseconds.

    A percentile needs ten runs beyond it (`LEAST_RUNS`), and is None with fewer.
    """
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    timing = Timing(
        mean_ms=float(milliseconds.mean()), std_ms=float(milliseconds.std()), p50_ms=p50, p90_ms=p90, p99_ms=p99
    )
    return timing.of_runs(len(milliseconds))


def blocks_of(blocks: list[Block]) -> Blocks:
    """Find the lowest and the highest median among the blocks."""
    medians = [block_median(block) / 1e6 for block in blocks]
    return Blocks(count=len(blocks), min_ms=min(medians), max_ms=max(medians))


def _batch_latency(measured: Measured) -> BatchLatency:
    return BatchLatency(
        batch_size=measured.case.batch_size,
        runs=_runs(measured),
        asked_runs=measured.asked_runs,
        throughput_per_s=_throughput(measured),
        warmup=measured.warmup,
        blocks=blocks_of(measured.blocks),
        **_timings(measured),
    )


def _timings(measured: Measured) -> dict[str, Timing]:
    nanoseconds = np.array([run for block in measured.blocks for run in block], dtype=np.float64)  # (runs, phases)
    return {phase: timing_of(nanoseconds[:, column] / 1e6) for column, phase in enumerate(measured.case.phases)}


def _runs(measured: Measured) -> int:
    return sum(len(block) for block in measured.blocks)


def _throughput(measured: Measured) -> float:
    """Divide the images by the time of the whole runs: images per second."""
    seconds = sum(run[-1] for block in measured.blocks for run in block) / 1e9
    return _runs(measured) * measured.case.batch_size / seconds
