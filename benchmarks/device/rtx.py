"""An ONNX file in TensorRT for RTX: built anywhere, and loaded, run, compared and timed where the GPU takes it."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.backends import load

Facts = dict[str, Any]
RUNS: Final = 200


def check_file(path: Path) -> Facts:
    """Say how far a file gets: `built`, then `loaded`, `ran`, its difference to ONNX Runtime and its latency."""
    if find_spec("tensorrt_rtx_bindings") is None:
        return {"skipped": "tensorrt-rtx is not installed here"}
    import tensorrt_rtx_bindings as trt

    facts: Facts = {"version": trt.__version__}
    start = time.perf_counter()
    plan, error = _build(trt, path)
    facts |= {"built": plan is not None, "build_s": round(time.perf_counter() - start, 2), "error": error}
    if plan is None:
        return facts
    facts["size_mb"] = round(len(plan) / 1e6, 3)
    runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(plan)
    facts["loaded"] = engine is not None
    if engine is None:
        return {**facts, "error": "the engine cannot be deserialized here: no GPU, or one that it does not run on"}
    return facts | _run(trt, engine, path)


def _build(trt: Any, path: Path) -> tuple[bytes | None, str | None]:
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse(path.read_bytes()):
        return None, "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    images = network.get_input(0)
    _, *sides = images.shape
    profile.set_shape(images.name, (1, *sides), (1, *sides), (8, *sides))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return (None, "the builder gave no engine") if plan is None else (bytes(plan), None)


def _run(trt: Any, engine: Any, path: Path) -> Facts:
    """Run on the GPU through torch's memory, compare with ONNX Runtime, and time by the GPU's events."""
    import torch

    context = engine.create_execution_context()
    size = load(path).metadata.image_size_px
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    context.set_input_shape(names[0], tuple(images.shape))
    kinds = {trt.float32: torch.float32, trt.uint8: torch.uint8, trt.float16: torch.float16}
    tensors = {names[0]: images.cuda()}
    for name in names[1:]:
        shape = tuple(context.get_tensor_shape(name))
        tensors[name] = torch.empty(shape, dtype=kinds[engine.get_tensor_dtype(name)], device="cuda")
    for name, tensor in tensors.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.Stream()
    if not context.execute_async_v3(stream.cuda_stream):
        return {"ran": False, "error": "execute_async_v3 failed"}
    stream.synchronize()
    expected = load(path)(images.numpy())
    found = [tensors[name].float().cpu().numpy() for name in names[1:]]
    errors = [_relative_error(*pair) for pair in zip(expected, found, strict=True)]
    return {"ran": True, "relative_errors": errors, "gpu_ms": _gpu_ms(context, stream)}


def _relative_error(expected: npt.NDArray[Any], found: npt.NDArray[np.float32]) -> float:
    wanted = expected.astype(np.float64)
    return float(np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), 1e-12))


def _gpu_ms(context: Any, stream: Any) -> dict[str, float]:
    import torch

    times = []
    for _ in range(RUNS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record(stream)
        context.execute_async_v3(stream.cuda_stream)
        end.record(stream)
        end.synchronize()
        times.append(start.elapsed_time(end))
    return {"p50": round(float(np.median(times)), 4), "p90": round(float(np.quantile(times, 0.9)), 4), "runs": RUNS}
