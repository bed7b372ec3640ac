"""ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy.typing as npt
import onnxruntime

from pipeline.backends import Array, Backend, read_metadata, require_file, require_int8_for, types_of
from pipeline.errors import PipelineError

CPU: Final = "CPUExecutionProvider"
UNOPTIMIZED: Final = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
PROVIDERS: Final = {
    "onnxruntime_cpu": CPU,
    "onnxruntime_unoptimized": CPU,
    "onnxruntime_cuda": "CUDAExecutionProvider",
    "onnxruntime_tensorrt": "TensorrtExecutionProvider",
}


def load_onnx(path: Path, device: str, threads: int, runtime: str) -> Backend:
    """Open a session on exactly the asked device with exactly the asked provider; `load` explains the arguments.

    The CUDA provider keeps its defaults, TF32 among them. Nodes without a CUDA kernel (shapes) run on the CPU. The
    TensorRT provider has to take the whole graph; it builds its engine here, anew for each session.

    ONNX Runtime 1.32 computes wrong numbers when it optimizes Q/DQ with half-precision scales, as TensorRT's INT8 file
    has them. So that file is never optimized, and only `onnxruntime_unoptimized` runs it without TensorRT.
    """
    require_file(path)
    kind, _, number = device.partition(":")
    provider = PROVIDERS[runtime]
    if (kind == "cpu") != (provider == CPU):
        raise PipelineError(f"device {device}: {provider} does not run there")
    _require(provider, offered(), device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    settings = {} if kind == "cpu" else {"device_id": number or "0"}
    if runtime == "onnxruntime_unoptimized":
        options.graph_optimization_level = UNOPTIMIZED
    if runtime == "onnxruntime_tensorrt":
        types = types_of(_precision(path, options))
        settings |= {f"trt_{name}_enable": "1" for name in types if name != "fp32"}
        if types == types_of("int8-tensorrt"):
            options.graph_optimization_level = UNOPTIMIZED
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = _open(path, device, options, provider, settings)
    _require(provider, session.get_providers(), device)
    metadata = read_metadata(path, session.get_modelmeta().custom_metadata_map)
    if runtime != "onnxruntime_unoptimized":
        require_int8_for(path, metadata.precision, tensorrt=runtime == "onnxruntime_tensorrt")
    name, shape = _input_of(session, path)

    def run(images: Array) -> list[npt.NDArray[Any]]:
        if any(isinstance(side, int) and side != got for side, got in zip(shape, images.shape, strict=True)):
            raise PipelineError(f"{path}: expected images of shape {tuple(shape)}, got {images.shape}")
        try:
            return list(session.run(None, {name: images}))
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise PipelineError(f"{path}: ONNX Runtime cannot run it on {device} with {provider}: {error}") from error

    dynamic_batch = not isinstance(shape[0], int)
    prefix = "onnxruntime" if kind == "cpu" else runtime
    precision = types_of(metadata.precision)[0] if runtime == "onnxruntime_tensorrt" else metadata.precision
    return Backend(f"{prefix}-{precision}", device, threads, dynamic_batch, metadata, run)


def _input_of(session: Any, path: Path) -> tuple[str, list[int | str | None]]:
    """Return the name and shape of the input; dynamic sides are no numbers."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        came = "; ".join(f"{given.name} of shape {given.shape}" for given in inputs) or "none"
        raise PipelineError(f"{path}: expected one input, images of shape (N, 3, S, S), got {came}")
    return inputs[0].name, inputs[0].shape


def offered() -> list[str]:
    """List the providers of the installed ONNX Runtime."""
    return list(onnxruntime.get_available_providers())


def _open(path: Path, device: str, options: Any, provider: str, settings: dict[str, str]) -> Any:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[(provider, settings)])
    except Exception as error:  # ONNX Runtime's errors share no base class
        raise PipelineError(f"{path}: ONNX Runtime cannot load it on {device} with {provider}: {error}") from error


def _precision(path: Path, options: Any) -> str:
    """Read a file's precision; TensorRT's provider types weakly and has to be told before it builds."""
    properties = _open(path, "cpu", options, CPU, {}).get_modelmeta().custom_metadata_map
    precision = read_metadata(path, properties).precision
    require_int8_for(path, precision, tensorrt=True)
    return precision


def _require(provider: str, present: list[str], device: str) -> None:
    if provider not in present:
        raise PipelineError(
            f"device {device}: ONNX Runtime {onnxruntime.__version__} does not offer {provider} here "
            f"(it offers {', '.join(present)}). Install onnxruntime-gpu in place of onnxruntime, with the CUDA, "
            "cuDNN and TensorRT versions that it asks for, or use device cpu"
        )
