"""What is known of devices: a build that fails on JetPack 6, and what the DLA takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onnx import TensorProto

from pipeline.lint.graph import Graph, name_of
from pipeline.lint.numbers import QDQ
from pipeline.lint.quantisation import QUANTISABLE
from pipeline.lint.rule import Place, Rule, Target

FIXED_IN: Final = (10, 7)  # the first version known to build INT8 end2end detectors
LAST_DLA, DLA_AGAIN, EXPLICIT_DLA = (10, 7), (11, 4), (11, 0)
DLA_OPERATORS: Final = {  # NVIDIA's list of layers, in ONNX names
    "Abs", "Add", "Atan", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "Cos",
    "Div", "Equal", "Flatten", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "Identity", "LRN", "LeakyRelu",
    "Less", "MatMul", "Max", "MaxPool", "Min", "Mul", "PRelu", "Pow", "ReduceMax", "Relu", "Reshape", "Resize",
    "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip


def check_int8_end2end(graph: Graph, target: Target) -> Iterator[Place]:
    """Find INT8 with the choice of detections in the graph."""
    if target.version < FIXED_IN and any(node.op_type in QDQ for node in graph.nodes):
        for node in graph.nodes:
            if node.op_type == "TopK":
                yield Place(name_of(node), "INT8 and TopK in one graph: JetPack 6 with TensorRT 10.3 fails to build it")


def check_dla_version(_: Graph, target: Target) -> Iterator[Place]:
    """Say that a version has no DLA."""
    if target.dla and LAST_DLA < target.version < DLA_AGAIN:
        yield Place("the file", "this version has no DLA: 10.7 was the last of 10, 11.4.1 has it on AGX Orin only")


def check_dla_operator(graph: Graph, target: Target) -> Iterator[Place]:
    """Find operators that the DLA hands to the GPU."""
    taken = DLA_OPERATORS | (QDQ if target.version >= EXPLICIT_DLA else set())
    for node in graph.nodes if target.dla else ():
        if node.op_type not in taken and not set(node.output) <= graph.fixed:
            yield Place(name_of(node), f"the DLA has no {node.op_type}")


def check_dla_shape(graph: Graph, target: Target) -> Iterator[Place]:
    """Find inputs with free sides."""
    for entry in graph.inputs if target.dla else ():
        if not all(isinstance(side, int) for side in graph.shapes.get(entry.name, (None,))):
            yield Place(entry.name, "the DLA takes one shape only, the batch included")


def check_dla_fp32(graph: Graph, target: Target) -> Iterator[Place]:
    """Find layers in FP32."""
    for node in graph.nodes if target.dla else ():
        data = node.input[0] if node.op_type in QUANTISABLE else ""
        producer = graph.producers.get(data)
        dequantised = producer is not None and producer.op_type == "DequantizeLinear"
        if graph.types.get(data) == TensorProto.FLOAT and not dequantised:
            yield Place(name_of(node), f"{node.op_type} in FP32; the DLA computes in FP16 and INT8")


RULES: Final[dict[str, Rule]] = {
    "int8-end2end": Rule("warning", check_int8_end2end, "ship the raw head there, or use TensorRT 10.7 or later"),
    "dla-version": Rule("warning", check_dla_version, "build for the GPU, or with a version that has it"),
    "dla-operator": Rule(
        "warning", check_dla_operator, "it runs on the GPU (--allowGPUFallback), copied there and back"
    ),
    "dla-shape": Rule("warning", check_dla_shape, "export with a fixed shape (params.yaml: export.dynamic_batch)"),
    "dla-fp32": Rule("warning", check_dla_fp32, "it runs on the GPU: export FP16 or INT8"),
}
