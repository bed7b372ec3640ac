"""What this device runs of a student's files: each backend with each precision, built and measured, or why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.backends import Backend, load
from pipeline.backends.tensorrt import unavailable
from pipeline.errors import PipelineError
from pipeline.export.gate import Trained, check_gate, draw_least_alike, measure
from pipeline.params import Engine
from pipeline.records import BackendBuild, DeviceInfo, EngineRecord, Runtime, write_record


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
    """Build every asked backend for this device, and put each built file through the gate.

    ONNX Runtime has no engine file of its own: `built` says that a session opened here and gave finite numbers; the
    export stage has measured it. OpenVINO compiles the ONNX file whenever it is loaded. A backend that is not here is
    skipped with a reason, which is no failure.

    Args:
        trained: The student.
        job: What to build from.
        records: Folder for `engine.json`, and for accuracy and parity of what was built.
        scratch: Folder for what a person needs after a failure.

    Raises:
        PipelineError: if ONNX Runtime cannot run a file, TensorRT is here and cannot build one, or a built file costs
            more than `export.max_drop` allows.

    """
    builds, measured = [], []
    for backend in job.params.backends:
        for precision in trained.export.precisions:
            build, loaded = BUILDERS[backend](job, precision)
            builds.append(build)
            if loaded is not None:
                measured.append((loaded, *measure(trained, loaded, build.size_mb or 0.0)))
    parities = [parity for _, _, parity in measured]
    failed = ((loaded, parity) for loaded, _, parity in measured if not parity.passed)
    check_gate(parities, "\n".join(draw_least_alike(scratch, trained, loaded, parity) for loaded, parity in failed))
    for _, accuracy, parity in measured:
        write_record(records / f"accuracy-{accuracy.runtime}.json", accuracy)
        write_record(records / f"parity-{parity.runtime}.json", parity)
    record = EngineRecord(model=trained.accuracy.model, device=job.device, builds=builds)
    for folder in (job.out, records):
        write_record(folder / "engine.json", record)


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
    from pipeline.export.tensorrt import build_plan

    plan = job.out / f"{precision}.plan"
    source = job.exported / f"{TENSORRT.get(precision, precision)}.onnx"
    info = build_plan(source, plan, job.params.tensorrt, job.timing_caches)
    build = _built("tensorrt", precision, plan, job.device)
    return build.model_copy(update={"layer_shares": info.layer_shares}), load(plan, "cuda")


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
    build = BackendBuild(
        backend=backend, precision=precision, status="skipped", reason=reason, version=_version(backend, device),
        file=None, size_mb=None, layer_shares=None,
    )  # fmt: skip
    return build, None


def _version(backend: Runtime, device: DeviceInfo) -> str | None:
    package, _, _provider = backend.partition("_")
    return device.versions.get(package)
