"""ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from pipeline.backends import Array, Backend, read_metadata
from pipeline.errors import PipelineError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def load_onnx(path: Path, device: str, threads: int) -> Backend:
    """Open a session on exactly the asked device; `load` explains the arguments.

    The CUDA provider keeps its defaults, TF32 among them. Nodes without a CUDA kernel (shapes) run on the CPU.
    """
    if not path.exists():
        raise PipelineError(f"{path} not found: run `dvc repro` to make it")
    kind, _, number = device.partition(":")
    _require(PROVIDERS[kind], onnxruntime.get_available_providers(), device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    provider = (PROVIDERS[kind], {"device_id": number or "0"} if kind == "cuda" else {})
    session = _open(path, device, options, provider)
    _require(PROVIDERS[kind], session.get_providers(), device)
    metadata = read_metadata(path, session.get_modelmeta().custom_metadata_map)
    if metadata.precision == "int8-fp16":  # ONNX Runtime 1.32 computes wrong numbers when it optimises such a graph
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _open(path, device, options, provider)
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape  # dynamic sides are strings

    def run(images: Array) -> list[npt.NDArray[Any]]:
        if any(isinstance(side, int) and side != got for side, got in zip(shape, images.shape, strict=True)):
            raise PipelineError(f"{path}: expected images of shape {tuple(shape)}, got {images.shape}")
        return list(session.run(None, {name: images}))

    dynamic_batch = not isinstance(shape[0], int)
    return Backend(f"onnxruntime-{metadata.precision}", device, threads, dynamic_batch, metadata, run)


def _open(path: Path, device: str, options: Any, provider: tuple[str, dict[str, str]]) -> Any:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise PipelineError(f"{path}: ONNX Runtime cannot load it on {device}: {error}") from error


def _require(provider: str, present: list[str], device: str) -> None:
    if provider not in present:
        raise PipelineError(
            f"device {device}: ONNX Runtime {onnxruntime.__version__} does not offer {provider} here "
            f"(it offers {', '.join(present)}). Install onnxruntime-gpu in place of onnxruntime, with the CUDA "
            "and cuDNN versions that it asks for, or use device cpu"
        )
