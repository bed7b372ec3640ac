"""Whether the file is sound: its size, its parts, its order, its types and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import onnx
from onnx import ModelProto
from onnx.external_data_helper import uses_external_data

from pipeline.lint.external import external_fault, external_link
from pipeline.lint.graph import INFERENCE_ERRORS, Graph, infer_shapes, misplaced, name_of, subgraphs
from pipeline.lint.operators import data_types, type_name
from pipeline.lint.rule import Place, Rule, Target

EXAMPLE_BATCH: Final = (1, 1, 8)  # min, opt, max of a free first side
EXAMPLE_SIDE: Final = (32, 320, 640)  # of any other


def check_external_data(graph: Graph, _: Target) -> Iterator[Place]:
    """Find weights in a file that is not there, or not where a model may look."""
    folder, seen = graph.path.parent, set()
    for name, tensor in graph.constants.items():
        if fault := external_fault(tensor, folder):
            file = next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), name)
            if (file, fault) not in seen:
                seen.add((file, fault))
                yield Place(file, f"weights in a file {fault}")


def check_external_link(graph: Graph, _: Target) -> Iterator[Place]:
    """Find weights behind symbolic links."""
    for name, tensor in graph.constants.items():
        if uses_external_data(tensor) and external_link(tensor, graph.path.parent):
            yield Place(name, "weights behind a symbolic link")


def check_order(graph: Graph, _: Target) -> Iterator[Place]:
    """Find nodes that stand before the node that makes their input; TensorRT sorts them."""
    for node in graph.late:
        yield Place(name_of(node), "it stands before the node that makes its input")


def check_cycle(graph: Graph, _: Target) -> Iterator[Place]:
    """Find nodes that no order puts behind what makes their inputs."""
    for body in subgraphs(graph.model.graph):
        for node in misplaced(body):
            yield Place(name_of(node), "its input depends on its own output")


def check_mixed_types(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs that must have one type and have several; strong typing never converts."""
    for node in graph.nodes:
        groups = data_types(node, graph)
        if node.op_type == "GridSample":
            groups = {"T": set[int]().union(*groups.values())}
        for kinds in groups.values() if node.op_type not in CONVERTED else ():
            if len(kinds) > 1:
                yield Place(
                    name_of(node), f"{node.op_type} of {' and '.join(sorted(type_name(kind) for kind in kinds))}"
                )


def check_input_rank(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs without a shape: no profile can help."""
    for entry in graph.inputs:
        if entry.name not in graph.shapes:
            yield Place(entry.name, "an input without a shape, not even its number of dimensions")


SAID_BETTER: Final = (check_external_data, check_cycle, check_mixed_types, check_input_rank)
CONVERTED: Final = {"Clip", "Slice"}  # operators whose further inputs TensorRT converts


def check_names(graph: Graph, _: Target) -> Iterator[Place]:
    """Find tensors that nothing makes or that are made twice, and a graph that gives nothing."""
    made = {entry.name for body in subgraphs(graph.model.graph) for entry in body.input} | set(graph.constants)
    for body in subgraphs(graph.model.graph):
        made |= {tensor.values.name for tensor in body.sparse_initializer}
        own = [name for node in body.node for name in node.output if name]
        made |= set(own)
        for name, count in Counter(own).items():
            if count > 1:
                yield Place(name, "several nodes make this tensor")
        for name, count in Counter(tensor.name for tensor in body.initializer).items():
            if count > 1:
                yield Place(name, "several initializers have this name")
    if not graph.model.graph.output:
        yield Place("the file", "a graph without outputs")
    read = [(name, name_of(node)) for node in graph.nodes for name in node.input if name]
    for name, where in read + [(name, name) for name in sorted(graph.outputs)]:
        if name not in made:
            yield Place(where, f"it needs {name!r}, which nothing makes")


def check_invalid(graph: Graph, target: Target) -> Iterator[Place]:
    """Find shapes and types that contradict each other, unless another rule says it better."""
    if any(True for check in SAID_BETTER for _ in check(graph, target)):
        return
    try:
        infer_shapes(_bare(graph.model), strict=True)
    except INFERENCE_ERRORS as error:
        yield Place("the file", _one_line(error))


def check_specification(graph: Graph, target: Target) -> Iterator[Place]:
    """Find what onnx.checker refuses, and TensorRT does not look at."""
    try:
        onnx.checker.check_model(_checkable(graph))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        yield Place("the file", _one_line(error))


def _bare(model: ModelProto) -> ModelProto:
    """Copy a model without what it says of its own tensors: TensorRT infers them from the inputs."""
    bare = ModelProto()
    bare.CopyFrom(model)
    for body in subgraphs(bare.graph):
        del body.value_info[:]
        for entry in body.output:
            entry.ClearField("type")
    return bare


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _checkable(graph: Graph) -> ModelProto:
    """Copy a model without outputs that have no shape (common, and no fault), and with external weights as inputs."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    for body in subgraphs(model.graph):
        for entry in list(body.output):
            if not entry.type.tensor_type.HasField("shape"):
                body.output.remove(entry)
        for tensor in list(body.initializer):
            if uses_external_data(tensor):
                body.initializer.remove(tensor)
                body.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


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
    "external-link": Rule(
        "warning", check_external_link, "TensorRT follows it, onnx and ONNX Runtime do not: copy the file itself"
    ),
    "order": Rule(
        "warning", check_order, "sort the nodes: TensorRT does so itself, onnx.checker and ONNX Runtime refuse the file"
    ),
    "cycle": Rule("error", check_cycle, "make the file anew"),
    "mixed-types": Rule("error", check_mixed_types, "insert a Cast: a strongly typed network converts nothing"),
    "invalid": Rule(
        "error", check_invalid, "make the file anew; onnx.checker.check_model(..., full_check=True) says more"
    ),
    "specification": Rule(
        "warning", check_specification, "TensorRT does not look at it; onnx.checker and other runtimes refuse the file"
    ),
    "input-rank": Rule("error", check_input_rank, "export with the input's shape"),
    "names": Rule("error", check_names, "make the file anew"),
    "profile": Rule("warning", check_profile, "give trtexec the sizes that you serve, or export with a fixed shape"),
    "data-dependent": Rule("warning", check_data_dependent, "no CUDA graph; leave it out and postprocess on the host"),
}
