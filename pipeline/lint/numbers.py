"""Types and values that TensorRT takes, but not as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from onnx import TensorProto

from pipeline.lint.external import PACKED
from pipeline.lint.graph import Graph
from pipeline.lint.operators import type_name
from pipeline.lint.rule import Place, Rule, Target

QDQ: Final = {"QuantizeLinear", "DequantizeLinear"}
FP16_MAX: Final = 65504.0
QUANTISED: Final = (TensorProto.UINT8, TensorProto.INT8, TensorProto.FLOAT8E4M3FN)
FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

FOUR_BITS: Final = (TensorProto.INT4, TensorProto.FLOAT4E2M1)
TYPES: Final = (*FLOATS, *QUANTISED, *FOUR_BITS, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)


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
    outside = {entry.name for entry in graph.inputs} | graph.outputs | set(graph.constants)
    for name, kind in graph.types.items():
        users = [graph.producers.get(name), *(node for node, _number in graph.consumers.get(name, []))]
        quantised = any(node is not None and node.op_type in QDQ for node in users)
        if kind == TensorProto.UINT8 and name not in outside and not quantised:
            yield Place(name, "a UINT8 tensor that is neither input nor output")


def check_tensor_type(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs, outputs and weights of a type that TensorRT does not have, used or not."""
    for entry in (*graph.model.graph.input, *graph.model.graph.output):
        kind = entry.type.tensor_type.elem_type
        if entry.type.HasField("tensor_type") and kind and kind not in TYPES:
            yield Place(entry.name, f"a tensor of {type_name(kind)}")
    for name, tensor in graph.constants.items():
        users = {node.op_type for node, _number in graph.consumers.get(name, [])}
        taken = QDQ | ({"Cast"} if tensor.data_type == TensorProto.UINT8 else set())
        if tensor.data_type in (*QUANTISED, *FOUR_BITS) and (name in graph.outputs or not users <= taken):
            yield Place(name, f"weights of {type_name(tensor.data_type)} that no DequantizeLinear takes")
        elif tensor.data_type not in TYPES:
            yield Place(name, f"weights of {type_name(tensor.data_type)}")
        elif tensor.data_type in PACKED and tensor.int32_data and math.prod(tensor.dims) > 1:
            yield Place(name, f"weights of {type_name(tensor.data_type)} that are not stored as raw data")


def check_fp16_range(graph: Graph, _: Target) -> Iterator[Place]:
    """Find constants that FP16 cannot hold."""
    for name, tensor in graph.constants.items():
        value = graph.value(name) if tensor.data_type in FLOATS else None
        if value is not None and np.any(np.abs(value.astype(np.float64)) > FP16_MAX):
            yield Place(name, f"a constant beyond {FP16_MAX:.0f}, the largest FP16 number")


RULES: Final[dict[str, Rule]] = {
    "int64-input": Rule("warning", check_int64_input, "bind int64 memory: since TensorRT 10 nothing casts it to int32"),
    "double": Rule("warning", check_double, "export in float32"),
    "uint8": Rule("error", check_uint8, "cast at the inputs and outputs only"),
    "tensor-type": Rule("error", check_tensor_type, "store it in another type"),
    "fp16-range": Rule("warning", check_fp16_range, "infinite in FP16: leave that layer in FP32, or clip it"),
}
