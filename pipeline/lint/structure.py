"""Whether the file is sound: its size, its parts, its order, its types and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx

from pipeline.lint.graph import Graph, name_of, standard, subgraphs
from pipeline.lint.operators import data_types, supported_types, type_name
from pipeline.lint.rule import Place, Rule, Target

EXAMPLE_BATCH: Final = (1, 1, 8)  # min, opt, max of a free first side
EXAMPLE_SIDE: Final = (32, 320, 640)  # of any other


def check_external_data(graph: Graph, _: Target) -> Iterator[Place]:
    """Find weights in a file that is not there."""
    for file in sorted({file for tensor in graph.constants.values() if (file := graph.missing(tensor))}):
        yield Place(file, "weights are in a file that is missing or too short")


def check_order(graph: Graph, _: Target) -> Iterator[Place]:
    """Find nodes that stand before the node that makes their input."""
    for body in subgraphs(graph.model.graph):
        later = {name for node in body.node for name in node.output}
        for node in body.node:
            if later.intersection(node.input):
                yield Place(name_of(node), "it stands before the node that makes its input")
            later.difference_update(node.output)


def check_mixed_types(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs that must have one type and have several; strong typing never converts."""
    for node in graph.nodes:
        for kinds in data_types(node, graph).values():
            if len(kinds) > 1:
                yield Place(
                    name_of(node), f"{node.op_type} of {' and '.join(sorted(type_name(kind) for kind in kinds))}"
                )


def check_input_rank(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs without a shape: no profile can help."""
    for entry in graph.inputs:
        if entry.name not in graph.shapes:
            yield Place(entry.name, "an input without a shape, not even its number of dimensions")


SAID_BETTER: Final = (check_external_data, check_order, check_mixed_types, check_input_rank)


def check_invalid(graph: Graph, target: Target) -> Iterator[Place]:
    """Find what onnx.checker and strict inference refuse, unless another rule says it better."""
    if any(True for check in SAID_BETTER for _ in check(graph, target)):
        return
    try:
        onnx.checker.check_model(graph.path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, UnicodeDecodeError) as error:
        yield Place("the file", " ".join(str(error).split())[:300])


def check_rank(graph: Graph, target: Target) -> Iterator[Place]:
    """Find tensors whose number of dimensions does not follow from the inputs; the first of each chain."""
    for node in graph.nodes:
        known = standard(node) and supported_types(node.op_type, target.version) is not None
        if known and all(name in graph.shapes or not name for name in node.input):
            for name in node.output:
                if name and name not in graph.shapes:
                    yield Place(name, f"{node.op_type} whose output's number of dimensions is not known")


def check_profile(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs with free sides, and the optimisation profile that they need."""
    for entry in graph.inputs:
        shape = graph.shapes.get(entry.name, ())
        if all(isinstance(side, int) for side in shape):
            continue
        free = ", ".join(str(side or "?") for side in shape)
        triple = " ".join(
            f"--{name}Shapes={entry.name}:" + "x".join(str(_side(side, axis, which)) for axis, side in enumerate(shape))
            for which, name in enumerate(("min", "opt", "max"))
        )
        yield Place(entry.name, f"shape ({free}) needs a profile, for example {triple}")


def _side(side: int | str | None, axis: int, which: int) -> int:
    return side if isinstance(side, int) else (EXAMPLE_SIDE if axis else EXAMPLE_BATCH)[which]


def check_data_dependent(graph: Graph, _: Target) -> Iterator[Place]:
    """Find outputs whose size depends on the image."""
    for node in graph.nodes:
        if node.op_type in {"NonMaxSuppression", "NonZero"}:
            yield Place(name_of(node), f"{node.op_type}: the size of its output depends on the data")


RULES: Final[dict[str, Rule]] = {
    "external-data": Rule("error", check_external_data, "copy it beside the .onnx file"),
    "order": Rule(
        "error", check_order, "sort the nodes: ONNX wants it, and onnx.checker and ONNX Runtime refuse the file"
    ),
    "mixed-types": Rule("error", check_mixed_types, "insert a Cast: a strongly typed network converts nothing"),
    "invalid": Rule(
        "error", check_invalid, "make the file anew; onnx.checker.check_model(..., full_check=True) says more"
    ),
    "input-rank": Rule("error", check_input_rank, "export with the input's shape"),
    "rank": Rule("error", check_rank, "export with static shapes, or fold constants (onnxslim)"),
    "profile": Rule("warning", check_profile, "give trtexec the sizes that you serve, or export with a fixed shape"),
    "data-dependent": Rule("warning", check_data_dependent, "no CUDA graph; leave it out and postprocess on the host"),
}
