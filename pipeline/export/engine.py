"""What this device runs of a student's files: each backend with each precision, built and measured, or why not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import numpy as np

from pipeline.backends import Backend, load
from pipeline.backends.tensorrt import unavailable
from pipeline.errors import PipelineError
from pipeline.export.gate import Trained, draw_least_alike, failure, measure, parity_table
from pipeline.params import Engine
from pipeline.records import BackendBuild, DeviceInfo, EngineRecord, Parity, Runtime, write_record


@dataclass(frozen=True)
class EngineJob:
    """Where the engines of one student come from and go.

    Attributes:
        exported: Folder of the ONNX files.
        params: The asked backends, and the builder's settings.
        device: From `probe`.
        out: Folder for engine files, and a copy of `engine.json`: the benchmark depends on artifacts alone.
        timing_caches: Folder of TensorRT's, which outlives the stage.

    """

    exported: Path
    params: Engine
    device: DeviceInfo
    out: Path
    timing_caches: Path


def build_engines(trained: Trained, job: EngineJob, records: Path, scratch: Path) -> None:
    """Build every asked backend for this device, and measure each against torch.

    ONNX Runtime on the CPU is the reference, in which the export stage has measured the files: `built` says that a
    session opened here and gave finite numbers. OpenVINO compiles the ONNX file whenever it is loaded. A backend that
    is not here is skipped with a reason. One that is here, and fails or costs more than `export.max_drop` allows, is
    rejected for this device: recorded with its numbers and a picture, and never timed.

    Args:
        trained: The student.
        job: What to build from.
        records: Folder for `engine.json`, and for accuracy, parity and pictures of what was built.
        scratch: Folder for what a person needs after a failure.

    Raises:
        PipelineError: if ONNX Runtime cannot run a file, or, with `engine.fail_on_rejection`, if a backend is rejected.

    """
    pictures = scratch if job.params.fail_on_rejection else records
    builds, parities = [], []
    for backend in job.params.backends:
        for precision in trained.export.precisions:
            build, parity = _build(trained, job, backend, precision, records, pictures)
            builds.append(build)
            parities += [parity] if parity else []
    if parities:
        print(parity_table(parities), file=sys.stderr)
    rejected = [build for build in builds if build.status == "rejected"]
    for build in rejected:
        print(f"{build.backend} {build.precision} is rejected for this device: {build.reason}", file=sys.stderr)
    if rejected and job.params.fail_on_rejection:
        raise PipelineError(_rejection(trained, rejected, pictures))
    record = EngineRecord(model=trained.accuracy.model, device=job.device, builds=builds)
    for folder in (job.out, records):
        write_record(folder / "engine.json", record)


def _build(
    trained: Trained, job: EngineJob, backend: Runtime, precision: str, records: Path, pictures: Path
) -> tuple[BackendBuild, Parity | None]:
    """Build one backend with one precision, and measure what is not the reference."""
    try:
        build, loaded = BUILDERS[backend](job, precision)
        if loaded is None:
            return build, None
        accuracy, parity = measure(trained, loaded, build.size_mb or 0.0)
    except PipelineError as error:
        if backend == REFERENCE:
            raise
        return _not_built("rejected", backend, precision, job.device, str(error)), None
    write_record(records / f"accuracy-{accuracy.runtime}.json", accuracy)
    write_record(records / f"parity-{parity.runtime}.json", parity)
    if parity.verdict == "failed":
        draw_least_alike(pictures, trained, loaded, parity)
        build = build.model_copy(update={"status": "rejected", "reason": failure(parity)})
    return build, parity


def _rejection(trained: Trained, rejected: list[BackendBuild], pictures: Path) -> str:
    """Say what was rejected, and every way to go on."""
    model = trained.accuracy.model
    drawn = ", ".join(map(str, sorted(pictures.glob("least-alike-*.png"))))
    listed = "\n".join(f"  {build.backend} {build.precision}: {build.reason}" for build in rejected)
    return (
        f"{model.name} ({model.role}): rejected for this device, and engine.fail_on_rejection is true:\n{listed}\n"
        + (f"The images that differ most: {drawn}\n" if drawn else "")
        + "To go on without it, set engine.fail_on_rejection to false, or take it out of engine.backends. To accept "
        "the loss, raise export.max_drop. For INT8, export.int8 and qat.enabled may bring it closer"
    )


REFERENCE: Final[Runtime] = "onnxruntime"
TENSORRT: Final = {"int8": "int8-tensorrt"}  # the file that TensorRT takes, where it is not named as its precision
Built = tuple[BackendBuild, Backend | None]  # the backend where it is still to be measured


def _onnxruntime(job: EngineJob, precision: str) -> Built:
    file = job.exported / f"{precision}.onnx"
    session = load(file)
    size = session.metadata.image_size_px
    if not np.isfinite(session(np.zeros((1, 3, size, size), dtype=np.float32))[0]).all():
        raise PipelineError(f"{file}: ONNX Runtime gives NaN or infinity on a black image")
    return _built("onnxruntime", precision, file, job.device), None


def _onnxruntime_gpu(job: EngineJob, precision: str, runtime: Runtime) -> Built:
    from pipeline.backends.onnxruntime import PROVIDERS, offered

    if PROVIDERS[runtime] not in offered():
        return _skipped(runtime, precision, job.device, f"ONNX Runtime offers {', '.join(offered())} here")
    name = TENSORRT.get(precision, precision) if runtime == "onnxruntime_tensorrt" else precision
    file = job.exported / f"{name}.onnx"
    return _built(runtime, precision, file, job.device), load(file, "cuda", runtime=runtime)


def _openvino(job: EngineJob, precision: str) -> Built:
    from pipeline.backends.openvino import PRECISIONS

    if find_spec("openvino") is None:
        return _skipped("openvino", precision, job.device, "it is not installed here: pip install openvino")
    if precision not in PRECISIONS:
        return _skipped("openvino", precision, job.device, "it computes the floats of a whole graph in one precision")
    file = job.exported / f"{precision}.onnx"
    return _built("openvino", precision, file, job.device), load(file, runtime="openvino")


def _tensorrt(job: EngineJob, precision: str) -> Built:
    if reason := unavailable():
        return _skipped("tensorrt", precision, job.device, reason)
    from pipeline.export.tensorrt import build_plan, fallen_back, refused_by_dla

    if reason := refused_by_dla(precision, job.params.tensorrt):
        return _skipped("tensorrt", precision, job.device, reason)
    plan = job.out / f"{precision}.plan"
    source = job.exported / f"{TENSORRT.get(precision, precision)}.onnx"
    info = build_plan(source, plan, job.params.tensorrt, job.timing_caches)
    build = _built("tensorrt", precision, plan, job.device)
    where = fallen_back(info, job.params.tensorrt)
    if info.layer_places and not info.layer_places["dla"]:
        print(f"WARNING {plan.name}: {where}", file=sys.stderr, flush=True)
    told = {"layer_shares": info.layer_shares, "layer_places": info.layer_places, "reason": where}
    return build.model_copy(update=told), load(plan, "cuda")


BUILDERS: Final[dict[str, Callable[[EngineJob, str], Built]]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime_cuda": partial(_onnxruntime_gpu, runtime="onnxruntime_cuda"),
    "onnxruntime_tensorrt": partial(_onnxruntime_gpu, runtime="onnxruntime_tensorrt"),
    "openvino": _openvino,
    "tensorrt": _tensorrt,
}


def _built(backend: Runtime, precision: str, file: Path, device: DeviceInfo) -> BackendBuild:
    return BackendBuild(
        backend=backend, precision=precision, status="built", reason=None, version=_version(backend, device),
        file=file.name, size_mb=file.stat().st_size / 1e6, layer_shares=None,
    )  # fmt: skip


def _skipped(backend: Runtime, precision: str, device: DeviceInfo, reason: str) -> Built:
    return _not_built("skipped", backend, precision, device, reason), None


def _not_built(
    status: Literal["rejected", "skipped"], backend: Runtime, precision: str, device: DeviceInfo, reason: str
) -> BackendBuild:
    return BackendBuild(
        backend=backend, precision=precision, status=status, reason=reason, version=_version(backend, device),
        file=None, size_mb=None, layer_shares=None,
    )  # fmt: skip


def _version(backend: Runtime, device: DeviceInfo) -> str | None:
    package, _, _provider = backend.partition("_")
    return device.versions.get(package)
