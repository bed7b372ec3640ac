"""A graph in half precision, with float32 inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import onnx
from onnx import ModelProto, NodeProto, TensorProto
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from pipeline.export.graph import nodes_behind, nodes_of, properties_of, save_graph
from pipeline.tasks import Task

DECODES: Final[dict[Task, bool]] = {"detect": True, "segment": False}  # pixels of a box need more than 11 bits
QDQ_OPSET: Final = 19  # the first whose Q/DQ may have float16 scales


def write_half(source: Path, out: Path, precision: str = "fp16") -> None:
    """Write a float32 or Q/DQ file in half precision: weights, activations and, of Q/DQ, the scales.

    Inputs and outputs stay float32, with a cast behind and in front of them. So does what a detector's head computes
    from its output layers: box coordinates up to the image's side lie up to half a pixel apart in float16.

    Args:
        source: `fp32.onnx` of this pipeline, or a Q/DQ version of it.
        out: The file.
        precision: What its metadata say.

    """
    graph = onnx.load(source)
    properties = {**properties_of(graph), "precision": precision}
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        graph = onnx.version_converter.convert_version(graph, max(QDQ_OPSET, _opset(graph)))
    save_graph(_halved(graph, properties), out, properties)


def _halved(graph: ModelProto, properties: dict[str, Any]) -> ModelProto:
    decoding = nodes_behind(graph, nodes_of(graph, properties["float_layers"]))
    kept = decoding if DECODES[properties["task"]] else []
    graph = convert_float_to_float16(graph, keep_io_types=True, op_block_list=[], node_block_list=kept)
    ONNXModel(graph).topological_sort()  # the converter appends its casts
    return _without_round_trips(graph)


def _without_round_trips(graph: ModelProto) -> ModelProto:
    """Let what reads float32 that went through float16 read it directly.

    The converter puts a cast behind and in front of each node that it leaves in float32, between two of them as well.
    """
    kinds = _types(graph)
    to_half = {
        node.output[0]: node.input[0]
        for node in graph.graph.node
        if _target(node) == TensorProto.FLOAT16 and kinds.get(node.input[0]) == TensorProto.FLOAT
    }
    back = [node for node in graph.graph.node if _target(node) == TensorProto.FLOAT and node.input[0] in to_half]
    outputs = {value.name for value in graph.graph.output}
    for node in back:
        whole, rounded = to_half[node.input[0]], node.output[0]
        graph.graph.node.remove(node)
        if rounded in outputs:  # its name stays, so its maker takes it
            whole, rounded = rounded, whole
            to_half = {half: whole if source == rounded else source for half, source in to_half.items()}
        _rename(graph, rounded, whole)
    read = {name for node in graph.graph.node for name in node.input} | outputs
    for node in [node for node in graph.graph.node if node.output[0] in to_half and node.output[0] not in read]:
        graph.graph.node.remove(node)
    return graph


def _types(graph: ModelProto) -> dict[str, int]:
    """Return the element type of each tensor, by name."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    described = [*inferred.input, *inferred.output, *inferred.value_info]
    kinds = {value.name: value.type.tensor_type.elem_type for value in described}
    return kinds | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def _target(node: NodeProto) -> int | None:
    """Return the type that a cast casts to, None of other nodes."""
    return (
        next((int(entry.i) for entry in node.attribute if entry.name == "to"), None) if node.op_type == "Cast" else None
    )


def _rename(graph: ModelProto, old: str, new: str) -> None:
    for node in graph.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


def _opset(graph: ModelProto) -> int:
    return next(int(entry.version) for entry in graph.opset_import if entry.domain in {"", "ai.onnx"})
