"""A graph in half precision, with float32 inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import onnx
from onnx import ModelProto
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from pipeline.export.graph import nodes_behind, nodes_of, properties_of, save_graph
from pipeline.tasks import Task

DECODES: Final[dict[Task, bool]] = {"detect": True, "segment": False}  # pixels of a box need more than 11 bits
QDQ_OPSET: Final = 19  # the first whose Q/DQ may have float16 scales


def write_half(source: Path, out: Path) -> None:
    """Write a float32 or Q/DQ file in half precision: weights, activations and, of Q/DQ, the scales.

    Inputs and outputs stay float32, with a cast behind and in front of them. So does what a detector's head computes
    from its output layers: box coordinates up to the image's side lie up to half a pixel apart in float16.

    Args:
        source: `fp32.onnx` or `int8.onnx` of this pipeline.
        out: The file; its precision is `fp16`, or `int8-fp16` for TensorRT's strong typing.

    """
    graph = onnx.load(source)
    properties = properties_of(graph)
    quantized = properties["precision"] == "int8"
    if quantized:
        graph = onnx.version_converter.convert_version(graph, max(QDQ_OPSET, _opset(graph)))
    properties["precision"] = "int8-fp16" if quantized else "fp16"
    save_graph(_halved(graph, properties), out, properties)


def _halved(graph: ModelProto, properties: dict[str, Any]) -> ModelProto:
    decoding = nodes_behind(graph, nodes_of(graph, properties["float_layers"]))
    kept = decoding if DECODES[properties["task"]] else []
    graph = convert_float_to_float16(graph, keep_io_types=True, op_block_list=[], node_block_list=kept)
    ONNXModel(graph).topological_sort()  # the converter appends its casts
    return graph


def _opset(graph: ModelProto) -> int:
    return next(int(entry.version) for entry in graph.opset_import if entry.domain in {"", "ai.onnx"})
