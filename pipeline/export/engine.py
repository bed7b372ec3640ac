"""What this device runs of a student's files: each backend with each precision, built and measured, or why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.backends import Backend, load
from pipeline.errors import PipelineError
from pipeline.export.gate import Trained, check_gate, draw_least_alike, measure
from pipeline.params import Engine
from pipeline.records import BackendBuild, DeviceInfo, EngineRecord, read_record, write_record


def build_engines(
    trained: Trained, exported: Path, params: Engine, device: DeviceInfo, out: Path, records: Path, scratch: Path
) -> None:
    """Build every asked backend for this device, and put each built file through the gate.

    ONNX Runtime has no engine file of its own: `built` says that a session opened here and gave finite numbers; the
    export stage has measured it. OpenVINO compiles the ONNX file whenever it is loaded. A backend that is not here is
    skipped with a reason, which is no failure.

    Args:
        trained: The student.
        exported: Folder of its ONNX files.
        params: The asked backends.
        device: From `probe`.
        out: Where engine files go, and a copy of `engine.json`: the benchmark depends on artifacts alone.
        records: Folder for `engine.json`, and for accuracy and parity of what was built.
        scratch: Folder for what a person needs after a failure.

    Raises:
        PipelineError: if ONNX Runtime cannot run a file, or a built file costs more than `export.max_drop` allows.

    """
    builds, measured = [], []
    for backend in params.backends:
        for precision in trained.export.precisions:
            build, loaded = BUILDERS[backend](exported / f"{precision}.onnx", device)
            builds.append(build)
            if loaded is not None:
                measured.append((loaded, *measure(trained, loaded, build.size_mb or 0.0)))
    parities = [parity for _, _, parity in measured]
    failed = ((loaded, parity) for loaded, _, parity in measured if not parity.passed)
    check_gate(parities, "\n".join(draw_least_alike(scratch, trained, loaded, parity) for loaded, parity in failed))
    for _, accuracy, parity in measured:
        write_record(records / f"accuracy-{accuracy.runtime}.json", accuracy)
        write_record(records / f"parity-{parity.runtime}.json", parity)
    record = EngineRecord(model=trained.accuracy.model, device=device, builds=builds)
    for folder in (out, records):
        write_record(folder / "engine.json", record)


def _onnxruntime(file: Path, device: DeviceInfo) -> tuple[BackendBuild, Backend | None]:
    session = load(file)
    size = session.metadata.image_size_px
    if not np.isfinite(session(np.zeros((1, 3, size, size), dtype=np.float32))[0]).all():
        raise PipelineError(f"{file}: ONNX Runtime gives NaN or infinity on a black image")
    return _built("onnxruntime", file, device), None


def _openvino(file: Path, device: DeviceInfo) -> tuple[BackendBuild, Backend | None]:
    from pipeline.backends.openvino import PRECISIONS

    if find_spec("openvino") is None:
        return _skipped("openvino", file, device, "it is not installed here: pip install openvino"), None
    if file.stem not in PRECISIONS:
        return _skipped("openvino", file, device, "it computes the floats of a whole graph in one precision"), None
    return _built("openvino", file, device), load(file, runtime="openvino")


def _tensorrt(file: Path, device: DeviceInfo) -> tuple[BackendBuild, Backend | None]:
    return _skipped("tensorrt", file, device, "this version of the pipeline does not build it yet"), None


Builder = Callable[[Path, DeviceInfo], tuple[BackendBuild, Backend | None]]
BUILDERS: Final[dict[str, Builder]] = {"onnxruntime": _onnxruntime, "openvino": _openvino, "tensorrt": _tensorrt}


def _built(backend: str, file: Path, device: DeviceInfo) -> BackendBuild:
    return BackendBuild(
        backend=backend, precision=file.stem, status="built", reason=None, version=device.versions.get(backend),
        file=file.as_posix(), size_mb=file.stat().st_size / 1e6,
    )  # fmt: skip


def _skipped(backend: str, file: Path, device: DeviceInfo, reason: str) -> BackendBuild:
    return BackendBuild(
        backend=backend, precision=file.stem, status="skipped", reason=reason, version=device.versions.get(backend),
        file=None, size_mb=None,
    )  # fmt: skip


def load_built(folder: Path, threads: int) -> Iterator[Backend]:
    """Load what the engine stage has built into a folder, in its order."""
    for build in read_record(folder / "engine.json", EngineRecord).builds:
        if build.file is not None:
            yield load(Path(build.file), threads=threads, runtime=build.backend)
