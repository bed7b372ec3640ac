"""An ONNX file as the rules see it: nodes, types, shapes and constants by the model's own names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from pipeline.errors import PipelineError
from pipeline.lint.external import external_fault

Shape = tuple[int | str | None, ...]  # a number, a name, or nothing known
MAX_OPSET: Final = 2**31 - 1  # that onnx can look up
OWN: Final = ("", "ai.onnx")  # domains of standard ONNX
INFERENCE_ERRORS: Final = (onnx.shape_inference.InferenceError, ValueError, RuntimeError)
FRAGILE: Final = {"EyeLike", "RegexFullMatch"}
HIDDEN: Final = "hidden"
RANDOM: Final = {"RandomNormalLike", "RandomUniformLike"}  # not constant, though their inputs may be


@dataclass(frozen=True)
class Graph:
    """A model without its local functions and without the weights of external files."""

    path: Path
    model: ModelProto
    opset: int  # of ONNX's own domain
    nodes: list[NodeProto]  # those of subgraphs too; not those that lack an input or output, which are `invalid`
    inputs: list[ValueInfoProto]
    outputs: set[str]
    types: dict[str, int]  # element type by tensor, as far as ONNX can infer it
    shapes: dict[str, Shape]
    constants: dict[str, TensorProto]  # initialisers and Constant nodes
    fixed: set[str]  # what follows from constants and static shapes alone
    producers: dict[str, NodeProto]
    foreign: list[NodeProto]  # nodes of another domain that TensorRT reads as ONNX's operator of that name
    late: list[NodeProto]  # nodes that stood in the file before the node that makes their input
    consumers: dict[str, list[tuple[NodeProto, int]]]  # node and number of its input

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """Read a constant; None if the tensor is no constant, or its data or its external file is not as it says."""
        tensor = self.constants.get(name)
        if tensor is None or external_fault(tensor, self.path.parent):
            return None
        try:
            return numpy_helper.to_array(tensor, base_dir=str(self.path.parent))
        except (ValueError, TypeError, KeyError, OSError, onnx.checker.ValidationError):
            return None


def read_graph(path: Path) -> Graph:
    """Read a file and infer its types and shapes as far as they can be.

    Raises:
        PipelineError: if the file is not there or is no ONNX.

    """
    if not path.is_file():
        raise PipelineError(f"{path}: expected an ONNX file, found {'a folder' if path.is_dir() else 'nothing'} there")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise PipelineError(f"{path}: expected an ONNX file, got something else ({error})") from error
    if not model.ir_version or not model.graph.node:
        raise PipelineError(f"{path}: expected an ONNX file with a graph, got a file without nodes")
    model = _inlined(path, model)
    if not all(_is_text(text) for text in _texts(model)):
        raise PipelineError(f"{path}: damaged, it has names that are no text: copy or export it again")
    graphs = list(subgraphs(model.graph))
    late = [node for graph in graphs for node in misplaced(graph)]
    foreign = [renamed for graph in graphs for node in graph.node if (renamed := _adopt(node))]
    for graph in graphs:
        _sort(graph)
    return _index(path, _inferred(model), late, foreign)


def _inlined(path: Path, model: ModelProto) -> ModelProto:
    try:
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as error:
        raise PipelineError(f"{path}: damaged, its local functions cannot be read ({error})") from error


def _is_text(text: str | bytes) -> bool:
    return isinstance(text, str) and text == text.encode(errors="replace").decode()


def _texts(model: ModelProto) -> Iterator[str | bytes]:
    """Yield every name; one that is no UTF-8 comes as bytes."""
    for entry in model.opset_import:
        yield entry.domain
    for graph in subgraphs(model.graph):
        for described in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            yield described.name
        for tensor in graph.initializer:
            yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
        for node in graph.node:
            yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
            yield from (entry.name for entry in node.attribute)


def name_of(node: NodeProto) -> str:
    """Name a node; one without a name goes by its first output."""
    return node.name or f"{node.op_type} of {next(iter(node.output), '(no output)')}"


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Read a node's attribute; text comes as str, and one of another type than the default as the default."""
    for entry in node.attribute:
        if entry.name == name and not entry.ref_attr_name:
            value = onnx.helper.get_attribute_value(entry)
            value = value.decode(errors="replace") if isinstance(value, bytes) else value
            numbers = isinstance(value, int | float) and isinstance(default, int | float)
            return value if default is None or numbers or type(value) is type(default) else default
    return default


def subgraphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and the bodies of its If, Loop and Scan nodes."""
    yield graph
    for node in graph.node:
        for entry in node.attribute:
            for body in _bodies(entry):
                yield from subgraphs(body)


def _bodies(entry: AttributeProto) -> list[GraphProto]:
    return [entry.g] if entry.type == AttributeProto.GRAPH else list(entry.graphs)


def standard(node: NodeProto) -> bool:
    """Say whether a node is of ONNX's own domain."""
    return node.domain in OWN


def schema_of(node: NodeProto, opset: int) -> onnx.defs.OpSchema | None:
    """Look up a standard operator; None if ONNX has no such one."""
    if standard(node) and onnx.defs.has(node.op_type, opset):
        return onnx.defs.get_schema(node.op_type, opset)
    return None


def _adopt(node: NodeProto) -> NodeProto | None:
    """Give a node named as one of ONNX's operators ONNX's own domain: the parser reads the name alone.

    Returns:
        The node as it was; None if nothing changed.

    """
    if standard(node) or not onnx.defs.has(node.op_type):
        return None
    before = NodeProto.FromString(node.SerializeToString())
    node.domain = ""
    return before


def misplaced(graph: GraphProto) -> list[NodeProto]:
    """List the nodes that stand before the node that makes their input."""
    later = {name for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if later.intersection(_read(node)):
            found.append(node)
        later.difference_update(node.output)
    return found


def _read(node: NodeProto) -> set[str]:
    """Collect the names that a node and the bodies within it read."""
    bodies = [body for entry in node.attribute for body in _bodies(entry)]
    return {*node.input, *(name for body in bodies for inner in body.node for name in _read(inner))} - {""}


def _sort(graph: GraphProto) -> None:
    """Put the nodes in order, as TensorRT does; a cycle stays."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    needs = {number: {makers[name] for name in _read(node) if name in makers} for number, node in enumerate(graph.node)}
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        return
    if any(maker > number for number, makers_of in needs.items() for maker in makers_of):
        nodes = [graph.node[number] for number in order]
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _complete(node: NodeProto, opset: int) -> bool:
    schema = schema_of(node, opset)
    return schema is None or (len(node.input) >= schema.min_input and len(node.output) >= schema.min_output)


def infer_shapes(model: ModelProto, strict: bool = False) -> ModelProto:
    """Infer types and shapes; leave out the operators whose inference ends the process if their input has no type.

    Raises:
        onnx.shape_inference.InferenceError: if `strict`, and shapes contradict each other.

    """
    copy = ModelProto()
    copy.CopyFrom(model)
    if hidden := [node for graph in subgraphs(copy.graph) for node in graph.node if node.op_type in FRAGILE]:
        copy.opset_import.add(domain=HIDDEN, version=1)
        for node in hidden:
            node.domain = HIDDEN
    inferred = onnx.shape_inference.infer_shapes(copy, strict_mode=strict, data_prop=True)
    for node in (node for graph in subgraphs(inferred.graph) for node in graph.node if node.domain == HIDDEN):
        node.domain = ""
    return inferred


def _inferred(model: ModelProto) -> ModelProto:
    try:
        inferred = infer_shapes(model)
        if any(node.op_type == "Loop" for graph in subgraphs(inferred.graph) for node in graph.node):
            _describe_state(inferred)
            inferred = infer_shapes(inferred)
    except INFERENCE_ERRORS:  # the rule `invalid` says what is wrong
        return model
    return inferred


def _describe_state(model: ModelProto) -> None:
    """Give the state in the body of a Loop the shape that it starts with: ONNX's inference leaves it out."""
    graphs = list(subgraphs(model.graph))
    known = {entry.name: entry.type for graph in graphs for entry in (*graph.value_info, *graph.input)}
    known |= {
        tensor.name: onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        for graph in graphs
        for tensor in graph.initializer
    }
    for node in (node for graph in graphs for node in graph.node if node.op_type == "Loop"):
        body = attribute(node, "body")
        if isinstance(body, GraphProto):
            for name, inner in zip(node.input[2:], body.input[2:], strict=False):
                if name in known and known[name].tensor_type.HasField("shape"):
                    inner.type.CopyFrom(known[name])
            for outer in body.output[1 : 1 + len(node.input[2:])]:
                outer.type.tensor_type.ClearField("shape")
            del body.value_info[:]


def _index(path: Path, model: ModelProto, late: list[NodeProto], foreign: list[NodeProto]) -> Graph:
    graphs = list(subgraphs(model.graph))
    opset = max((entry.version for entry in model.opset_import if entry.domain in OWN), default=1)
    opset = min(max(opset, 0), MAX_OPSET)
    nodes = [node for graph in graphs for node in graph.node if _complete(node, opset)]
    constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
    for node in nodes:
        if node.op_type == "Constant" and (tensor := _constant(node)) is not None:
            constants[node.output[0]] = tensor
    types = {name: tensor.data_type for name, tensor in constants.items()}
    shapes: dict[str, Shape] = {name: tuple(tensor.dims) for name, tensor in constants.items()}
    for graph in graphs:
        for described in (*graph.value_info, *graph.input, *graph.output):
            _describe(described, types, shapes)
    consumers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in nodes:
        for number, name in enumerate(node.input):
            consumers.setdefault(name, []).append((node, number))
    return Graph(
        path=path,
        model=model,
        opset=opset,
        nodes=nodes,
        inputs=[entry for entry in model.graph.input if entry.name not in constants],  # old files list weights there
        outputs={entry.name for entry in model.graph.output},
        types=types,
        shapes=shapes,
        constants=constants,
        fixed=_fixed(nodes, set(constants), shapes),
        producers={name: node for node in nodes for name in node.output},
        consumers=consumers,
        foreign=foreign,
        late=late,
    )


def _describe(described: ValueInfoProto, types: dict[str, int], shapes: dict[str, Shape]) -> None:
    if not described.type.HasField("tensor_type"):
        return
    tensor = described.type.tensor_type
    if tensor.elem_type:
        types[described.name] = tensor.elem_type
    if tensor.HasField("shape"):
        sides = [side.dim_value if side.HasField("dim_value") else side.dim_param or None for side in tensor.shape.dim]
        shapes[described.name] = tuple(sides)


def _constant(node: NodeProto) -> TensorProto | None:
    if isinstance(value := attribute(node, "value"), TensorProto):
        return value
    for kind, dtype in {"float": np.float32, "int": np.int64}.items():
        for name in (f"value_{kind}", f"value_{kind}s"):
            if (value := attribute(node, name)) is not None:
                return numpy_helper.from_array(np.array(value, dtype=dtype))
    return None  # text or sparse


def _fixed(nodes: list[NodeProto], constants: set[str], shapes: dict[str, Shape]) -> set[str]:
    fixed = {*constants, ""}
    for node in nodes:
        if node.op_type == "Shape":
            known = all(isinstance(side, int) for side in shapes.get(node.input[0], (None,)))
        else:
            known = bool(node.input) and node.op_type not in RANDOM and all(name in fixed for name in node.input)
        if known:
            fixed.update(node.output)
    return fixed
