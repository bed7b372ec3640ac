"""ONNX files in OpenVINO, on the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from pipeline.backends import Array, Backend, read_metadata, require_file, require_int8_for
from pipeline.errors import PipelineError

PRECISIONS: Final = ("fp32", "int8")  # OpenVINO computes the floats of a whole graph in one precision: no mixed files


def load_openvino(path: Path, device: str, threads: int) -> Backend:
    """Compile a file; `load` explains the arguments. Each batch size that is run is compiled for itself, once.

    Raises:
        PipelineError: if the package is missing, the device is no CPU, or the file is in half precision or TensorRT's.

    """
    try:
        import openvino
    except ImportError as error:
        raise PipelineError(f"{path}: OpenVINO is not installed here: pip install openvino") from error
    if device != "cpu":
        raise PipelineError(f"device {device}: OpenVINO runs on the cpu here")
    require_file(path)
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise PipelineError(f"{path}: OpenVINO {openvino.__version__} cannot read it: {error}") from error
    described = {} if not model.has_rt_info("framework") else model.get_rt_info("framework").value
    metadata = read_metadata(path, {key: str(value) for key, value in described.items()})
    require_int8_for(path, metadata.precision, tensorrt=False)
    if metadata.precision not in PRECISIONS:
        raise PipelineError(
            f"{path}: OpenVINO computes the floats of a whole graph in one precision, and this file mixes them: use "
            f"{' or '.join(f'{name}.onnx' for name in PRECISIONS)}"
        )
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 wherever the CPU has it, whatever the file says
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    expected = model.input(0).partial_shape

    @cache
    def compiled(shape: tuple[int, ...]) -> Any:
        sized = model.clone()
        try:
            sized.reshape(list(shape))
            return core.compile_model(sized, "CPU", options)
        except RuntimeError as error:
            raise PipelineError(f"{path}: OpenVINO {openvino.__version__} cannot compile it here: {error}") from error

    def run(images: Array) -> list[npt.NDArray[Any]]:
        if not expected.compatible(openvino.PartialShape(list(images.shape))):
            raise PipelineError(f"{path}: expected images of shape {expected}, got {images.shape}")
        try:
            answer = compiled(images.shape)(images, share_inputs=True)
        except RuntimeError as error:
            raise PipelineError(f"{path}: OpenVINO {openvino.__version__} cannot run it here: {error}") from error
        return [answer[index] for index in range(len(answer))]

    dynamic_batch = expected[0].is_dynamic
    return Backend(f"openvino-{metadata.precision}", device, threads, dynamic_batch, metadata, run)
