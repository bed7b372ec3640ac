"""Latency of several models and runtimes, measured alternately in one process on the same real images.

    decode        not timed: images are decoded into memory first
    preprocess    letterbox, (H, W, 3) uint8 to (1, 3, S, S) float32
    infer         the backend's call, host array to host array: on a GPU the transfers are in it
    postprocess   threshold, NMS where the head needs it, boxes back in the original image's pixels; of a segmenter,
                  the class map at the original image's size
    total         clock from the first to the last of these

A runtime with a device clock takes a second turn, in which that clock parts the call into transfers and compute: the
events cost time themselves, which is not in `infer`. Transfers are from and to pageable memory, and no CUDA graph is
used, in torch and TensorRT alike. Beyond batch 1 there is inference alone. Torch is eager, fused,
fp32; this file does not import it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.backends import DEVICE_PHASES, Array, Backend, Phases, load
from pipeline.checkpoint_info import load_info
from pipeline.errors import PipelineError
from pipeline.evaluation.conditions import read_conditions, read_load
from pipeline.evaluation.detect import detections
from pipeline.evaluation.latency_summary import PHASES, runtime_latency
from pipeline.evaluation.latency_table import print_latencies
from pipeline.evaluation.progress import Reporter
from pipeline.evaluation.turns import Case, Measured, Run, take_turns, warm_up
from pipeline.params import Benchmark, Evaluate, Params
from pipeline.preprocess import Image, LetterboxTransform, letterbox, load_image, undo, undo_map
from pipeline.records import DeviceInfo, Latency, ModelInfo, WarmUp

IMAGES: Final = 32  # decoded into memory and cycled through
BATCHES: Final = 2  # of each size, likewise
SCORE_THRESHOLD: Final = 0.25  # a device's, as in `yolo predict`; evaluate's is far lower and its NMS far slower


@dataclass(frozen=True)
class Contender:
    """One model, loaded in each runtime that is to be timed."""

    info: ModelInfo
    backends: Sequence[Backend]


def contenders(artifacts: Path, params: Params, deployed: Mapping[str, Sequence[Backend]]) -> list[Contender]:
    """List what is measured: each task's teacher and every distilled student in torch, a student's other runtimes.

    Args:
        artifacts: The folder of checkpoints.
        params: Tasks, students, and the threads of all runtimes.
        deployed: By student, what it is deployed in, loaded with these threads; each with a `runtime` of its own.

    """
    threads = params.benchmark.threads
    loaded = []
    for task in params.tasks:
        teacher = artifacts / task / "teacher"
        loaded.append(Contender(load_info(teacher).model_info(), [load(teacher, threads=threads)]))
    for name, student in params.students.items():
        distilled = artifacts / student.task / name / "distilled"
        runtimes = [load(distilled, threads=threads), *deployed.get(name, [])]
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
    """Time every model in each of its runtimes, and print the tables.

    Args:
        models: The models and their backends, all with equal threads.
        image_paths: Real images; the first 32 are used.
        params: Batch sizes, warm-up, how long and how often each runtime runs at least, and how long at most.
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
    load_before = read_load()
    images = [load_image(path) for path in image_paths[:IMAGES]]
    cases = _cases(backends, images, params.batch_sizes, evaluate)
    flat = [case for of in cases for case in of]
    warmups = _warm_up(flat, params)
    before = read_conditions()
    blocks = take_turns(flat, params)
    after = read_conditions()
    measured = map(Measured, flat, warmups, blocks, [params.min_runs] * len(flat))
    rows = map(runtime_latency, backends, [list(islice(measured, len(of))) for of in cases])
    records = [
        Latency(
            model=model.info,
            device=device,
            threads=backends[0].threads,
            batch_size=1,
            score_threshold=SCORE_THRESHOLD,
            load=load_before,
            before=before,
            after=after,
            runtimes=list(islice(rows, len(model.backends))),
        )
        for model in models
    ]
    print_latencies(records)
    return records


def _warm_up(cases: Sequence[Case], params: Benchmark) -> list[WarmUp]:
    found = []
    with Reporter("warm-up") as reporter:
        for index, case in enumerate(cases):
            reporter.update(index / len(cases), case.name)
            found.append(warm_up(case, params))
        reporter.update(1.0)
    return found


def _cases(
    backends: Sequence[Backend], images: Sequence[Image], batch_sizes: Sequence[int], evaluate: Evaluate
) -> list[list[Case]]:
    """List what takes turns, by backend: batch 1; its device's phases and larger batches where it has them."""
    endless = cycle(images)
    inputs = {
        (backend.metadata.image_size_px, size): _batches(images, backend.metadata.image_size_px, size)
        for backend in backends
        for size in batch_sizes
    }
    found = []
    for backend in backends:
        side = backend.metadata.image_size_px
        name = f"{backend.runtime} on {backend.device}"
        of = [Case(1, PHASES, partial(run_image, backend, endless, evaluate), name)]
        if backend.phases is not None:
            run = partial(_device_phases, backend.phases, cycle(inputs[side, 1]))
            of.append(Case(1, (*DEVICE_PHASES, "whole"), run, f"phases of {name}"))
        for size in batch_sizes[1:] if backend.dynamic_batch else []:
            run = partial(_infer, backend, cycle(inputs[side, size]))
            of.append(Case(size, ("infer",), run, f"{name} at batch {size}"))
        found.append(of)
    return found


def _batches(images: Sequence[Image], side: int, size: int) -> list[Array]:
    """Letterbox images into batches (size, 3, side, side)."""
    endless = cycle(images)
    return [np.stack([letterbox(next(endless), side)[0] for _ in range(size)]) for _ in range(BATCHES)]


def run_image(backend: Backend, images: Iterator[Image], evaluate: Evaluate) -> Run:
    """Take the next image through all phases; returns nanoseconds in the order of `PHASES`."""
    image = next(images)
    start = perf_counter_ns()
    square, transform = letterbox(image, backend.metadata.image_size_px)
    ready = perf_counter_ns()
    output = backend(square[None])[0]
    answered = perf_counter_ns()
    POSTPROCESS[backend.metadata.task](backend, output, transform, evaluate)
    end = perf_counter_ns()
    return ready - start, answered - ready, end - answered, end - start


def _device_phases(phases: Phases, batches: Iterator[Array]) -> Run:
    batch = next(batches)
    start = perf_counter_ns()
    _, milliseconds = phases(batch)
    whole = perf_counter_ns() - start
    return *(round(milliseconds[name] * 1e6) for name in DEVICE_PHASES), whole


def _infer(backend: Backend, batches: Iterator[Array]) -> Run:
    batch = next(batches)
    start = perf_counter_ns()
    backend(batch)
    return (perf_counter_ns() - start,)


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
