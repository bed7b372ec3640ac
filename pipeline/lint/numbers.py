"""Types and values that TensorRT takes, but not as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from onnx import TensorProto

from pipeline.lint.graph import Graph
from pipeline.lint.rule import Place, Rule, Target

QDQ: Final = {"QuantizeLinear", "DequantizeLinear"}
FP16_MAX: Final = 65504.0
FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def check_int64_input(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs of 64-bit integers."""
    for entry in graph.inputs:
        if graph.types.get(entry.name) == TensorProto.INT64:
            yield Place(entry.name, "an INT64 input")


def check_double(graph: Graph, _: Target) -> Iterator[Place]:
    """Find doubles, which are cast down."""
    for name, kind in graph.types.items():
        if kind == TensorProto.DOUBLE:
            yield Place(name, "a DOUBLE tensor: it becomes FP32, clamped to its range")


def check_uint8(graph: Graph, _: Target) -> Iterator[Place]:
    """Find bytes inside the network; as Q/DQ types they have a rule of their own."""
    outside = {entry.name for entry in graph.inputs} | graph.outputs
    for name, kind in graph.types.items():
        users = [graph.producers.get(name), *(node for node, _number in graph.consumers.get(name, []))]
        quantised = any(node is not None and node.op_type in QDQ for node in users)
        if kind == TensorProto.UINT8 and name not in outside and not quantised:
            yield Place(name, "a UINT8 tensor that is neither input nor output")


def check_fp16_range(graph: Graph, _: Target) -> Iterator[Place]:
    """Find constants that FP16 cannot hold."""
    for name, tensor in graph.constants.items():
        value = graph.value(name) if tensor.data_type in FLOATS else None
        if value is not None and np.any(np.abs(value.astype(np.float64)) > FP16_MAX):
            yield Place(name, f"a constant beyond {FP16_MAX:.0f}, the largest FP16 number")


RULES: Final[dict[str, Rule]] = {
    "int64-input": Rule("warning", check_int64_input, "bind int64 memory: since TensorRT 10 nothing casts it to int32"),
    "double": Rule("warning", check_double, "export in float32"),
    "uint8": Rule("warning", check_uint8, "cast at the inputs and outputs only"),
    "fp16-range": Rule("warning", check_fp16_range, "infinite in FP16: leave that layer in FP32, or clip it"),
}
