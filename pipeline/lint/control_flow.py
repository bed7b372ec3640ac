"""What TensorRT wants of the bodies of If and Loop: equal types and ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnx import GraphProto, NodeProto, TensorProto

from pipeline.lint.graph import Graph, attribute, name_of, standard
from pipeline.lint.operators import type_name
from pipeline.lint.rule import Place, Rule, Target


def check_branches(graph: Graph, _: Target) -> Iterator[Place]:
    """Find branches of other types or ranks, of an If that is decided at run time."""
    for node in graph.nodes:
        branches = [attribute(node, f"{name}_branch") for name in ("then", "else")]
        if not standard(node) or node.op_type != "If" or not all(isinstance(body, GraphProto) for body in branches):
            continue
        outputs = [[entry.name for entry in body.output] for body in branches]
        if len(outputs[0]) != len(outputs[1]):
            yield Place(name_of(node), f"If whose branches have {len(outputs[0])} and {len(outputs[1])} outputs")
        if graph.types.get(node.input[0], TensorProto.BOOL) != TensorProto.BOOL:
            yield Place(name_of(node), f"If whose condition is {type_name(graph.types[node.input[0]])}, not BOOL")
        if node.input[0] not in graph.fixed:
            for then, other in zip(*outputs, strict=False):
                if found := _unlike(graph, then, other):
                    yield Place(name_of(node), f"If whose branches are {found}")


def check_loop(graph: Graph, _: Target) -> Iterator[Place]:
    """Find state of a Loop that changes its type or shape, and inputs that TensorRT wants."""
    for node in graph.nodes:
        body = attribute(node, "body") if standard(node) and node.op_type in {"Loop", "Scan"} else None
        if isinstance(body, GraphProto):
            for found in _interface_faults(node, body):
                yield Place(name_of(node), f"{node.op_type} {found}")
        if isinstance(body, GraphProto) and node.op_type == "Loop":
            for before, after in zip(node.input[2:], body.output[1:], strict=False):
                if found := _unlike(graph, before, after.name, sides=True):
                    yield Place(name_of(node), f"Loop whose state changes: {found}")


def _interface_faults(node: NodeProto, body: GraphProto) -> Iterator[str]:
    if node.op_type == "Scan":
        if attribute(node, "num_scan_inputs", 0) == len(node.input):
            yield "without state"
        return
    if not node.input[1]:
        yield "without a condition"
    if not node.input[0] and len(body.output) > len(node.input) - 1:
        yield "that collects outputs without a trip count"


def _unlike(graph: Graph, one: str, other: str, sides: bool = False) -> str:
    """Say how two tensors differ in type or rank, or in a side that both know."""
    kinds = [graph.types.get(name) for name in (one, other)]
    if None not in kinds and kinds[0] != kinds[1]:
        return " and ".join(type_name(kind) for kind in kinds if kind is not None)
    shapes = [graph.shapes.get(name) for name in (one, other)]
    if shapes[0] is None or shapes[1] is None:
        return ""
    if len(shapes[0]) != len(shapes[1]):
        return f"of {len(shapes[0])} and {len(shapes[1])} dimensions"
    pairs = zip(shapes[0], shapes[1], strict=True)
    if sides and any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
        return f"of the shapes {shapes[0]} and {shapes[1]}"
    return ""


RULES: Final[dict[str, Rule]] = {
    "branches": Rule("error", check_branches, "fold the condition (onnxslim), or give both branches one type and rank"),
    "loop": Rule("error", check_loop, "keep the state's type and shape"),
}
