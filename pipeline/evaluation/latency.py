"""Batch-1 latency of several models and runtimes, measured alternately in one process on the same real images.

    decode        not timed: images are decoded into memory first
    preprocess    letterbox, (H, W, 3) uint8 to (1, 3, S, S) float32
    infer         the backend's call, host array to host array: on a GPU the transfers are in it
    postprocess   threshold, NMS where the head needs it, boxes back in the original image's pixels; of a segmenter,
                  the class map at the original image's size
    total         clock from the first to the last of these

They take turns in short blocks, so that a machine that slows down slows all of them. The first runs of a block
are not counted: the thread pool of the runtime before still spins for a moment. Torch is eager, fused, fp32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.backends import Backend, load
from pipeline.checkpoint_info import load_info
from pipeline.errors import PipelineError
from pipeline.evaluation.detect import detections
from pipeline.params import Benchmark, Evaluate, Params
from pipeline.preprocess import Image, LetterboxTransform, letterbox, load_image, undo, undo_map
from pipeline.records import DeviceInfo, Latency, ModelInfo, RuntimeLatency, Timing

IMAGES: Final = 32  # decoded into memory and cycled through
BLOCK_S: Final = 0.25  # how long a runtime's turn lasts
UNCOUNTED: Final = 2  # first runs of a turn
COUNTED: Final = 5  # runs of a turn at least, where they are slow
SCORE_THRESHOLD: Final = 0.25  # a device's, as in `yolo predict`; evaluate's is far lower and its NMS far slower
PHASES: Final = ("preprocess", "infer", "postprocess", "total")

Run = tuple[int, int, int, int]  # nanoseconds, in the order of PHASES


@dataclass(frozen=True)
class Contender:
    """One model, loaded in each runtime that is to be timed."""

    info: ModelInfo
    backends: Sequence[Backend]


def contenders(artifacts: Path, params: Params) -> list[Contender]:
    """Load each task's teacher in torch, and every distilled student in torch and ONNX Runtime, with equal threads."""
    threads = params.benchmark.threads
    loaded = []
    for task in params.tasks:
        teacher = artifacts / task / "teacher"
        loaded.append(Contender(load_info(teacher).model_info(), [load(teacher, threads=threads)]))
    for name, student in params.students.items():
        folder = artifacts / student.task / name
        distilled, exported = folder / "distilled", folder / "export/fp32.onnx"
        runtimes = [load(path, threads=threads) for path in (distilled, exported)]
        loaded.append(Contender(load_info(distilled).model_info(), runtimes))
    return loaded


def measure(
    models: Sequence[Contender],
    image_paths: Sequence[Path],
    params: Benchmark,
    *,
    device: DeviceInfo,
    evaluate: Evaluate,
) -> list[Latency]:
    """Time every model in each of its runtimes, and print a table per model.

    Args:
        models: The models and their backends, all with equal threads.
        image_paths: Real images; the first 32 are used.
        params: Warm-up, and how long and how often each runtime runs at least.
        device: What they run on, for the records.
        evaluate: NMS's IoU and the most detections; the score threshold is 0.25.

    Returns:
        One record per model.

    Raises:
        PipelineError: if the backends' thread counts differ, or there is nothing to measure.

    """
    backends = [backend for model in models for backend in model.backends]
    threads = {backend.threads for backend in backends}
    if len(threads) != 1 or not image_paths:
        raise PipelineError(
            f"latency: expected backends with equal threads and at least one image, got threads "
            f"{[backend.threads for backend in backends]} and {len(image_paths)} images"
        )
    images = cycle([load_image(path) for path in image_paths[:IMAGES]])
    for backend in backends:
        _warm_up(backend, images, params.warmup_s, evaluate)
    runs = iter(_alternate(backends, images, params, evaluate))
    records = [
        Latency(
            model=model.info,
            device=device,
            threads=backends[0].threads,
            batch_size=1,
            score_threshold=SCORE_THRESHOLD,
            runtimes=[_summary(backend, next(runs)) for backend in model.backends],
        )
        for model in models
    ]
    for record in records:
        Console().print(latency_table(record))
    return records


def latency_table(latency: Latency) -> Table:
    """Lay out a latency record for a terminal, milliseconds."""
    devices = ", ".join(sorted({row.device for row in latency.runtimes}))
    model = f"{latency.model.task} {latency.model.name} {latency.model.role}"
    title = f"{model}: {latency.device.cpu}, {latency.threads} threads, {devices}"
    caption = "batch 1, ms; pre, infer, post: medians; p50 to mean: of the total"
    table = Table("runtime", title=title, caption=caption, box=None, padding=(0, 1, 0, 0))  # fits 80 columns
    for heading in ("runs", "pre", "infer", "post", "p50", "p90", "p99", "mean", "img/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in latency.runtimes:
        phases = [row.preprocess.p50_ms, row.infer.p50_ms, row.postprocess.p50_ms]
        total = [row.total.p50_ms, row.total.p90_ms, row.total.p99_ms, row.total.mean_ms]
        cells = [f"{value:.2f}" for value in (*phases, *total)]
        table.add_row(row.runtime, str(row.runs), *cells, f"{row.throughput_per_s:.1f}")
    return table


def _alternate(
    backends: Sequence[Backend], images: Iterator[Image], params: Benchmark, evaluate: Evaluate
) -> list[list[Run]]:
    """Give the backends turns until each has its time and its runs; none stops before the others have."""
    runs: list[list[Run]] = [[] for _ in backends]
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("latency", total=1.0)
        while (done := min(_share(of, params) for of in runs)) < 1:
            progress.update(bar, completed=done)
            for backend, of in zip(backends, runs, strict=True):
                of.extend(_turn(backend, images, evaluate))
        progress.update(bar, completed=1.0)
    return runs


def _share(runs: list[Run], params: Benchmark) -> float:
    """Say how much of the asked time and runs is done, 1 for all."""
    return min(len(runs) / params.min_runs, sum(run[-1] for run in runs) / (params.min_time_s * 1e9))


def _turn(backend: Backend, images: Iterator[Image], evaluate: Evaluate) -> list[Run]:
    end = perf_counter_ns() + BLOCK_S * 1e9
    runs: list[Run] = []
    while len(runs) < UNCOUNTED + COUNTED or perf_counter_ns() < end:
        runs.append(_run(backend, next(images), evaluate))
    return runs[UNCOUNTED:]


def _warm_up(backend: Backend, images: Iterator[Image], seconds: float, evaluate: Evaluate) -> None:
    end = perf_counter_ns() + seconds * 1e9
    while perf_counter_ns() < end:
        _run(backend, next(images), evaluate)


def _run(backend: Backend, image: Image, evaluate: Evaluate) -> Run:
    """Take one image through all phases."""
    start = perf_counter_ns()
    square, transform = letterbox(image, backend.metadata.image_size_px)
    ready = perf_counter_ns()
    output = backend(square[None])[0]
    answered = perf_counter_ns()
    POSTPROCESS[backend.metadata.task](backend, output, transform, evaluate)
    end = perf_counter_ns()
    return ready - start, answered - ready, end - answered, end - start


def _boxes(backend: Backend, output: npt.NDArray[Any], transform: LetterboxTransform, evaluate: Evaluate) -> None:
    found = detections(
        output,
        end2end=backend.metadata.end2end,
        score_threshold=SCORE_THRESHOLD,
        nms_iou=evaluate.nms_iou,
        max_detections=evaluate.max_detections,
    )[0]
    undo(found[:, :4], transform)


def _class_map(_backend: Backend, output: npt.NDArray[Any], transform: LetterboxTransform, _: Evaluate) -> None:
    undo_map(output[0], transform)


POSTPROCESS: Final = {"detect": _boxes, "segment": _class_map}


def _summary(backend: Backend, runs: list[Run]) -> RuntimeLatency:
    milliseconds = np.array(runs, dtype=np.float64) / 1e6  # (runs, phases)
    timings = {phase: _timing(milliseconds[:, column]) for column, phase in enumerate(PHASES)}
    return RuntimeLatency(
        runtime=backend.runtime,
        device=backend.device,
        runs=len(runs),
        throughput_per_s=len(runs) / (milliseconds[:, -1].sum() / 1e3),
        **timings,
    )


def _timing(milliseconds: npt.NDArray[np.float64]) -> Timing:
    p50, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    return Timing(
        mean_ms=float(milliseconds.mean()), std_ms=float(milliseconds.std()), p50_ms=p50, p90_ms=p90, p99_ms=p99
    )
