"""What this device can build from an ONNX file: built, or skipped and why."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.backends import load
from pipeline.errors import PipelineError
from pipeline.params import Engine
from pipeline.records import BackendBuild, DeviceInfo, EngineRecord, ModelInfo


def build_engines(onnx_path: Path, params: Engine, device: DeviceInfo, out_dir: Path, model: ModelInfo) -> EngineRecord:
    """Build every asked backend for this device.

    ONNX Runtime has no engine file of its own: `built` says that a session opened here and gave finite numbers, and
    the file is the ONNX file itself. TensorRT and OpenVINO are skipped with a reason; they are never a failure.

    Args:
        onnx_path: What `export_onnx` wrote.
        params: The asked backends.
        device: From `probe`.
        out_dir: Where engine files go; created, and empty as long as no backend has one.
        model: Which model the record is about.

    Raises:
        PipelineError: if ONNX Runtime cannot run the file: then no backend can be trusted with it.

    """
    out_dir.mkdir(parents=True, exist_ok=True)
    session = load(onnx_path)
    precision = session.metadata.precision
    builds = []
    for backend in params.backends:
        if backend == "onnxruntime":
            size = session.metadata.image_size_px
            if not np.isfinite(session(np.zeros((1, 3, size, size), dtype=np.float32))[0]).all():
                raise PipelineError(f"{onnx_path}: ONNX Runtime gives NaN or infinity on a black image")
            builds.append(_built(onnx_path, precision, device))
        else:
            builds.append(_skipped(backend, precision, device))
    return EngineRecord(model=model, device=device, builds=builds)


def _built(onnx_path: Path, precision: str, device: DeviceInfo) -> BackendBuild:
    return BackendBuild(
        backend="onnxruntime",
        precision=precision,
        status="built",
        reason=None,
        version=device.versions.get("onnxruntime"),
        file=onnx_path.as_posix(),
        size_mb=onnx_path.stat().st_size / 1e6,
    )


def _skipped(backend: str, precision: str, device: DeviceInfo) -> BackendBuild:
    later = "this version of the pipeline does not build it yet"
    reason = later if find_spec(backend) else f"the Python package {backend} is not installed here, and {later}"
    return BackendBuild(
        backend=backend,
        precision=precision,
        status="skipped",
        reason=reason,
        version=device.versions.get(backend),
        file=None,
        size_mb=None,
    )
