"""Runtimes behind one small interface: `load(path, device) -> Backend`, `backend(images) -> outputs` over numpy.

Loading an ONNX file never imports torch. A runtime never falls back silently: asked for a device and not getting it is
an error that names the fix.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pipeline.device import available_threads, set_threads
from pipeline.errors import PipelineError
from pipeline.records import ClassNames, FilePrecision, ImageSizePx, Strides
from pipeline.tasks import Task

Array = npt.NDArray[np.float32]
Phases = Callable[[Array], tuple[list[npt.NDArray[Any]], dict[str, float]]]  # outputs, and milliseconds per phase

DEVICE_PHASES = ("host_to_device", "compute", "device_to_host")


@dataclass(frozen=True)
class Metadata:
    """What a model says about itself, in `model.json` or in the ONNX file."""

    task: Task
    classes: ClassNames
    image_size_px: ImageSizePx
    strides: Strides
    end2end: bool
    precision: FilePrecision


Facts = TypeVar("Facts")  # a dataclass whose fields are keys of an ONNX file's properties


@dataclass(frozen=True)
class Backend:
    """A loaded model.

    Calling it maps (N, 3, S, S) float32 RGB in [0, 1], contiguous, to a list of arrays. A detector has one, float32:
    (N, D, 6) xyxy, score, class, best first, if `metadata.end2end`; else (N, 4 + classes, A) with boxes as centre x,
    centre y, width, height. Pixels are those of the S x S input. A segmenter has two: the class map (N, S, S) uint8,
    which is what a device needs, and the logits (N, classes, h, w) float32 at the head's stride, which parity needs.

    `phases`, where the device has a clock of its own, does the same call and says how many milliseconds of it were each
    of DEVICE_PHASES, by the device's events after it has been synchronised.
    """

    runtime: str  # torch, onnxruntime-fp32, ...
    device: str
    threads: int
    dynamic_batch: bool  # False: N is 1
    metadata: Metadata
    run: Callable[[Array], list[npt.NDArray[Any]]]
    phases: Phases | None = None

    def __call__(self, images: Array) -> list[npt.NDArray[Any]]:
        """Run the model; returns after the result is there, on a GPU too."""
        return self.run(images)


def load(path: Path, device: str = "cpu", threads: int = 0, runtime: str = "onnxruntime") -> Backend:
    """Load a checkpoint folder with torch, an `.onnx` file, or a `.plan` file with TensorRT.

    Args:
        path: The folder or the file.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads, 0 for all that this process may use. Of this session in ONNX Runtime and OpenVINO; of the
            whole process in torch, OpenCV and numpy's BLAS, whose last `load` counts.
        runtime: What runs an `.onnx` file: onnxruntime (on the device's own provider), onnxruntime_cuda,
            onnxruntime_tensorrt or openvino; onnxruntime_unoptimized: on the CPU, node by node, which is slow.

    Raises:
        PipelineError: if the path is none of these, the device is not to be had, the file lacks the pipeline's
            metadata or is for another runtime, or a plan was built elsewhere.

    """
    threads = threads or available_threads()
    set_threads(threads)
    kind, _, number = device.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not (kind == "cuda" and number.isdecimal())):
        raise PipelineError(f"device: expected cpu, cuda or cuda:N, got {device!r}")
    if path.suffix == ".onnx" and runtime == "openvino":
        from pipeline.backends.openvino import load_openvino

        return load_openvino(path, device, threads)
    if path.suffix == ".onnx":
        from pipeline.backends.onnxruntime import load_onnx

        return load_onnx(path, device, threads, f"onnxruntime_{kind}" if runtime == "onnxruntime" else runtime)
    if path.suffix == ".plan":
        from pipeline.backends.tensorrt import load_plan

        return load_plan(path, device, threads)
    if path.is_dir():
        from pipeline.backends.torch import load_torch

        return load_torch(path, device, threads)
    raise PipelineError(f"{path}: expected a checkpoint folder, an .onnx or a .plan file; `dvc repro` makes them")


def require_file(path: Path) -> None:
    """Refuse a path where no ONNX file can be read; a runtime waits forever at a pipe."""
    if not path.exists():
        raise PipelineError(f"{path} not found: run `dvc repro` to make it")
    if not path.is_file():
        raise PipelineError(f"{path}: expected an ONNX file, found no regular file there")


def types_of(precision: str) -> tuple[str, ...]:
    """List the types that a file of a precision computes in: `int8-tensorrt` has half-precision floats."""
    return ("int8", "fp16") if precision == "int8-tensorrt" else (precision,)


def require_int8_for(path: Path, precision: str, *, tensorrt: bool) -> None:
    """Refuse the INT8 file that is not for the runtime at hand.

    Args:
        path: The file.
        precision: From its metadata.
        tensorrt: Whether TensorRT computes, through ONNX Runtime or not.

    """
    if tensorrt and precision == "int8":
        raise PipelineError(
            f"{path}: its activations are unsigned, for ONNX Runtime and OpenVINO, and TensorRT takes signed ones "
            "alone: use int8-tensorrt.onnx"
        )
    if not tensorrt and precision == "int8-tensorrt":
        raise PipelineError(f"{path}: this INT8 file is for TensorRT alone: use int8.onnx")


def read_metadata(path: Path, properties: dict[str, str]) -> Metadata:
    """Read what runs a model from the properties that `export_onnx` wrote, see `read_properties`."""
    return read_properties(path, properties, Metadata)


def read_properties(path: Path, properties: dict[str, str], kind: type[Facts]) -> Facts:
    """Read an ONNX file's properties, one JSON value per key, into a dataclass.

    Args:
        path: The file, for the message.
        properties: Its `metadata_props`; anybody may have written them.
        kind: A dataclass; each of its fields is a key, and is checked by the field's type.

    Raises:
        PipelineError: if a key is missing, is no JSON or not what its field takes.

    """
    keys = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if missing := [key for key in keys if key not in properties]:
        raise PipelineError(
            f"{path}: its metadata lacks {', '.join(missing)}, so it was not exported by this pipeline; "
            "make it with `dvc repro export`"
        )
    try:
        values = json.dumps({key: _json_value(path, key, properties[key]) for key in keys})
        return TypeAdapter(kind).validate_json(values, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PipelineError(
            f"{path}: its metadata has a wrong {where}: {first['msg']}, got {str(first['input'])[:100]!r}; make it "
            "again with `dvc repro export`"
        ) from None


def _json_value(path: Path, key: str, text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        raise PipelineError(
            f"{path}: its metadata has a wrong {key}: expected JSON, got {text[:100]!r}; make it again with "
            "`dvc repro export`"
        ) from None
    return value
