"""What TensorRT wants of QuantizeLinear and DequantizeLinear: symmetric int8, constant scales, bias in float."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from onnx import NodeProto, TensorProto

from pipeline.lint.graph import Graph, attribute, name_of, standard
from pipeline.lint.numbers import FLOATS
from pipeline.lint.operators import supported_types, type_name
from pipeline.lint.rule import Place, Rule, Target
from pipeline.lint.shapes import volume

QUANTISABLE: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FP4_SINCE: Final = (10, 8)


def _pairs(graph: Graph) -> Iterator[tuple[NodeProto, int]]:
    """Yield every Q/DQ node with its quantised type."""
    for node in graph.nodes:
        if standard(node) and node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            quantised = node.input[0] if node.op_type == "DequantizeLinear" else node.output[0]
            if quantised in graph.types:
                yield node, graph.types[quantised]


def check_zero_point(graph: Graph, _: Target) -> Iterator[Place]:
    """Find asymmetric quantisation, and zero points that do not fit the scales."""
    for node, _kind in _pairs(graph):
        if len(node.input) > 2 and node.input[2]:
            if node.input[2] not in graph.fixed:
                yield Place(name_of(node), f"{node.op_type} whose zero point is not constant")
            scale, zero = (graph.shapes.get(name) for name in node.input[1:3])
            if scale is not None and zero is not None and volume(scale) != volume(zero):
                yield Place(name_of(node), f"{node.op_type} with {volume(zero)} zero points for {volume(scale)} scales")
            value = graph.value(node.input[2])
            floating = type_name(graph.types.get(node.input[2], 0)).startswith(("FP8", "FLOAT8"))
            if value is not None and not floating and np.any(value.astype(np.float32) != 0):
                yield Place(name_of(node), f"{node.op_type} with a zero point that is not 0")


def check_uint8(graph: Graph, _: Target) -> Iterator[Place]:
    """Find unsigned data that is dequantised without a quantiser before it, and quantisers that ask for it."""
    for node, kind in _pairs(graph):
        if kind != TensorProto.UINT8:
            continue
        if node.op_type == "DequantizeLinear" and not _quantised(graph, node.input[0]):
            yield Place(name_of(node), "DequantizeLinear of UINT8")
        elif attribute(node, "output_dtype", 0) == TensorProto.UINT8:
            yield Place(name_of(node), "QuantizeLinear with output_dtype UINT8")


def check_uint8_quantiser(graph: Graph, _: Target) -> Iterator[Place]:
    """Find quantisers to unsigned numbers; without a zero point that is ONNX's default."""
    for node, kind in _pairs(graph):
        if kind == TensorProto.UINT8 and node.op_type == "QuantizeLinear":
            yield Place(name_of(node), "QuantizeLinear to UINT8, which TensorRT computes as INT8")


def check_operand(graph: Graph, _: Target) -> Iterator[Place]:
    """Find quantisers of integers, and axes beyond the data's dimensions."""
    for node, _kind in _pairs(graph):
        shape, scales = graph.shapes.get(node.input[0]), graph.shapes.get(node.input[1], ())
        if node.op_type == "QuantizeLinear" and graph.types.get(node.input[0], TensorProto.FLOAT) not in FLOATS:
            yield Place(name_of(node), f"QuantizeLinear of {type_name(graph.types[node.input[0]])}")
        if shape and len(scales) == 1 and scales != (1,) and not -len(shape) <= attribute(node, "axis", 1) < len(shape):
            yield Place(name_of(node), f"{node.op_type} with axis {attribute(node, 'axis', 1)} of {len(shape)}")


def check_bias(graph: Graph, _: Target) -> Iterator[Place]:
    """Find biases quantised to int32; named by the node that they belong to."""
    for node, kind in _pairs(graph):
        if kind == TensorProto.INT32:
            users = graph.consumers.get(node.output[0], [])
            yield Place(name_of(users[0][0]) if users else name_of(node), "DequantizeLinear of INT32, a quantised bias")


def check_type(graph: Graph, target: Target) -> Iterator[Place]:
    """Find other quantised types that the version lacks."""
    supported = supported_types("DequantizeLinear", target.version) or set()
    if target.version < FP4_SINCE:
        supported = supported - {"FP4"}
    for node, kind in _pairs(graph):
        if type_name(kind) not in supported and kind not in {TensorProto.UINT8, TensorProto.INT32}:
            yield Place(name_of(node), f"{node.op_type} of {type_name(kind)}")


def check_scale(graph: Graph, _: Target) -> Iterator[Place]:
    """Find scales that are computed, or not positive."""
    for node, _kind in _pairs(graph):
        if node.input[1] not in graph.fixed:
            yield Place(name_of(node), f"{node.op_type} whose scale is not constant")
        else:
            value = graph.value(node.input[1])
            if value is not None and not np.all(value.astype(np.float32) > 0):
                yield Place(name_of(node), f"{node.op_type} with a scale that is not above 0")


def check_activation(graph: Graph, _: Target) -> Iterator[Place]:
    """Find activations quantised per channel."""
    for node, _kind in _pairs(graph):
        if _scales(graph, node) > 1 and not _is_weight(graph, node):
            yield Place(name_of(node), f"{node.op_type} of an activation per channel")


def check_weight_axis(graph: Graph, _: Target) -> Iterator[Place]:
    """Find weights quantised along another axis than the output channels."""
    for node, user in _weights(graph):
        shape = graph.shapes.get(node.input[0], ())
        if _scales(graph, node) == 1 or len(graph.shapes.get(node.input[1], ())) != 1 or not shape:
            continue  # one scale for all, or blocks
        axis, expected = attribute(node, "axis", 1) % len(shape), _output_axis(user, len(shape))
        if axis != expected:
            yield Place(name_of(user), f"{user.op_type} weights quantised along axis {axis}, not {expected}")
        elif _scales(graph, node) != shape[axis]:
            yield Place(name_of(user), f"{_scales(graph, node)} scales for {shape[axis]} output channels")


def check_weight_per_tensor(graph: Graph, _: Target) -> Iterator[Place]:
    """Find weights with one scale for all channels: taken, at a cost in accuracy."""
    for node, user in _weights(graph):
        shape = graph.shapes.get(node.input[0], ())
        if _scales(graph, node) == 1 and shape and shape[_output_axis(user, len(shape))] != 1:
            yield Place(name_of(user), f"{user.op_type} weights with one scale for all channels")


def count_quantised(graph: Graph) -> tuple[int, int]:
    """Count the layers whose data and weights are both dequantised, and all that could be."""
    layers = [node for node in graph.nodes if standard(node) and node.op_type in QUANTISABLE]
    return sum(all(_dequantised(graph, name) for name in node.input[:2]) for node in layers), len(layers)


def _dequantised(graph: Graph, name: str) -> bool:
    node = graph.producers.get(name)
    return node is not None and node.op_type == "DequantizeLinear"


def _quantised(graph: Graph, name: str) -> bool:
    node = graph.producers.get(name)
    return node is not None and node.op_type == "QuantizeLinear"


def _is_weight(graph: Graph, node: NodeProto) -> bool:
    return node.input[0] in graph.fixed


def _scales(graph: Graph, node: NodeProto) -> int:
    return int(np.prod([side for side in graph.shapes.get(node.input[1], ()) if isinstance(side, int)]))


def _weights(graph: Graph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield every dequantiser of weights with the layer that takes them."""
    for node, kind in _pairs(graph):
        if node.op_type == "DequantizeLinear" and kind != TensorProto.INT32 and _is_weight(graph, node):
            for user, number in graph.consumers.get(node.output[0], []):
                if user.op_type in QUANTISABLE and number == 1:
                    yield node, user


def _output_axis(user: NodeProto, rank: int) -> int:
    """Find the axis of the output channels in a layer's weights."""
    if user.op_type == "MatMul":
        return rank - 1
    if user.op_type == "Gemm":
        return 0 if attribute(user, "transB", 0) else 1
    return 1 if user.op_type == "ConvTranspose" else 0


RULES: Final[dict[str, Rule]] = {
    "zero-point": Rule("error", check_zero_point, "quantise symmetrically (ActivationSymmetric, WeightSymmetric)"),
    "uint8-quantisation": Rule("error", check_uint8, "quantise to signed int8, with an explicit zero point of 0"),
    "uint8-quantiser": Rule(
        "warning", check_uint8_quantiser, "numbers above 127 times the scale saturate: quantise to signed int8"
    ),
    "quantised-operand": Rule("error", check_operand, "quantise floating point, along an axis that it has"),
    "int32-bias": Rule("error", check_bias, "keep biases in float (QuantizeBias=False)"),
    "quantised-type": Rule("error", check_type, "quantise to int8"),
    "scale": Rule("error", check_scale, "store scales as initialisers above 0"),
    "activation-per-channel": Rule("error", check_activation, "quantise activations per tensor, weights per channel"),
    "weight-axis": Rule("error", check_weight_axis, "one scale per output channel, and `axis` set to it"),
    "weight-per-tensor": Rule("warning", check_weight_per_tensor, "quantise weights per channel (per_channel=True)"),
}
