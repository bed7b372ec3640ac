"""What TensorRT wants of convolutions: shapes that are known and fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnx import NodeProto

from pipeline.lint.graph import Graph, Shape, attribute, name_of, standard
from pipeline.lint.rule import Place, Rule, Target

KINDS: Final = ("Conv", "ConvTranspose")


def check_weights(graph: Graph, _: Target) -> Iterator[Place]:
    """Find weights and biases whose shapes are not known, and those that do not fit."""
    for node in graph.nodes:
        if standard(node) and node.op_type in KINDS and len(node.input) > 1:
            for found in _faults(graph, node):
                yield Place(name_of(node), f"{node.op_type} {found}")


def _faults(graph: Graph, node: NodeProto) -> Iterator[str]:
    weights = graph.shapes.get(node.input[1])
    if weights is None or not _known(weights):
        if node.input[1] not in graph.fixed:
            yield "with weights of unknown shape"
        return
    if len(weights) < 3:
        return
    transposed, groups = node.op_type == "ConvTranspose", attribute(node, "group", 1)
    data = graph.shapes.get(node.input[0], ())
    expected = weights[0] if transposed else _times(weights[1], groups)
    if len(data) > 1 and isinstance(data[1], int) and data[1] != expected:
        yield f"of {data[1]} channels with weights for {expected}"
    yield from _kernel_faults(node, data, weights[2:])
    if len(node.input) > 2 and node.input[2]:
        channels = _times(weights[1], groups) if transposed else weights[0]
        bias = graph.shapes.get(node.input[2], (channels,))
        if bias != (channels,):
            yield f"whose bias has the shape {_listed(bias)}, not ({channels})"


def _kernel_faults(node: NodeProto, data: Shape, kernel: Shape) -> Iterator[str]:
    said = attribute(node, "kernel_shape", [])
    if said and tuple(said) != kernel:
        yield f"with kernel_shape {said} and weights of {_listed(kernel)}"
    padding, pads = str(attribute(node, "auto_pad", "NOTSET")), attribute(node, "pads", [])
    if padding.startswith("SAME") and pads:
        yield f"with pads beside auto_pad {padding}"
    if node.op_type == "ConvTranspose" or padding.startswith("SAME") or len(data) != len(kernel) + 2:
        return
    pads = pads if len(pads) == 2 * len(kernel) else [0] * 2 * len(kernel)
    dilations = attribute(node, "dilations", [1] * len(kernel))
    for axis, (side, width, dilation) in enumerate(zip(data[2:], kernel, dilations, strict=False)):
        reach = dilation * (_number(width) - 1) + 1
        if isinstance(side, int) and side + pads[axis] + pads[axis + len(kernel)] < reach:
            yield f"whose kernel reaches over {reach} pixels of {side}"


def _known(shape: Shape) -> bool:
    return all(isinstance(side, int) for side in shape)


def _number(side: int | str | None) -> int:
    return side if isinstance(side, int) else 1


def _times(side: int | str | None, groups: int) -> int:
    return _number(side) * groups


def _listed(shape: Shape) -> str:
    return f"({', '.join(str(side or '?') for side in shape)})"


RULES: Final[dict[str, Rule]] = {
    "convolution": Rule("error", check_weights, "give it weights and biases of fixed shapes that fit its input"),
}
