"""What TensorRT restricts in operators that it has: attributes, outputs, ranks, inputs that must be constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from onnx import NodeProto

from pipeline.lint.graph import Graph, attribute, name_of, schema_of, standard
from pipeline.lint.numbers import FLOATS
from pipeline.lint.rule import Place, Rule, Target

ATTRIBUTES: Final[dict[str, dict[str, tuple[Any, ...]]]] = {  # allowed values; a list's elements each
    "AveragePool": {"dilations": (1,)},
    "BatchNormalization": {"training_mode": (0,)},
    "LSTM": {"input_forget": (0,), "layout": (0,)},
    "LpNormalization": {"p": (1, 2)},
    "LpPool": {"dilations": (1,), "p": (1, 2)},
    "MaxPool": {"dilations": (1,)},
    "Resize": {
        "mode": ("nearest", "linear", "cubic"),
        "coordinate_transformation_mode": (
            "half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners",
        ),
        "antialias": (0,),
        "keep_aspect_ratio_policy": ("stretch",),
    },
    "ScatterND": {"reduction": ("none",)},
}  # fmt: skip
ONE_OUTPUT: Final = {"MaxPool": "Indices", "LayerNormalization": "Mean"}  # the first one that is not to be had
FOLDED: Final = {"Cast", "Constant", "Identity"}  # what the parser folds on the way to a reduction's axes
CONSTANT_INPUTS: Final = {"CumSum": 1, "OneHot": 1, "Squeeze": 1, "Unsqueeze": 1}  # by position; Reduce* have 1 as well
MAX_K: Final = 3840  # the most that a TopK gives


def _standard(graph: Graph) -> Iterator[NodeProto]:
    return (node for node in graph.nodes if standard(node))


def check_attribute(graph: Graph, _: Target) -> Iterator[Place]:
    """Find attributes with a value that TensorRT lacks."""
    for node in _standard(graph):
        for name, allowed in ATTRIBUTES.get(node.op_type, {}).items():
            value = attribute(node, name)
            values = value if isinstance(value, list) else [value]
            if value is not None and not all(each in allowed for each in values):
                listed = " or ".join(str(each) for each in allowed)
                yield Place(name_of(node), f"{node.op_type} with {name} {value}; TensorRT takes {listed}")


def check_top_k(graph: Graph, _: Target) -> Iterator[Place]:
    """Find TopK of more than TensorRT gives."""
    for node in _standard(graph):
        if node.op_type == "TopK":
            value = graph.value(node.input[1]) if len(node.input) > 1 else attribute(node, "k")
            if value is not None and int(value if isinstance(value, int) else value.item()) > MAX_K:
                yield Place(name_of(node), f"TopK with a K above {MAX_K}")


def check_outputs(graph: Graph, _: Target) -> Iterator[Place]:
    """Find second outputs that TensorRT does not compute."""
    for node in _standard(graph):
        schema = schema_of(node, graph.opset)
        if node.op_type in ONE_OUTPUT and any(node.output[1:]):
            yield Place(name_of(node), f"{node.op_type} with its output {ONE_OUTPUT[node.op_type]}")
        elif schema is not None and len(node.output) > schema.max_output:
            yield Place(name_of(node), f"{node.op_type} with {len(node.output)} outputs of {schema.max_output}")


def check_computation(graph: Graph, _: Target) -> Iterator[Place]:
    """Find what depends on an attribute and a type or a value together: remainders, and dropout in training."""
    for node in _standard(graph):
        kind = graph.types.get(node.input[0]) if node.input else None
        if node.op_type == "Mod" and not attribute(node, "fmod", 0) and kind in FLOATS:
            yield Place(name_of(node), "Mod of floating point without fmod 1")
        delta = graph.value(node.input[2]) if node.op_type == "Range" and len(node.input) > 2 else None
        if delta is not None and not delta.all():
            yield Place(name_of(node), "Range in steps of 0")
        training = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        value = graph.value(training)
        if training and (value is None or bool(value.any())):
            yield Place(name_of(node), "Dropout in training, or whose training_mode is not a constant")


def check_constant_input(graph: Graph, _: Target) -> Iterator[Place]:
    """Find axes and depths that are computed."""
    for node in _standard(graph):
        reduction = node.op_type.startswith("Reduce")
        position = 1 if reduction else CONSTANT_INPUTS.get(node.op_type, len(node.input))
        if position >= len(node.input):
            continue
        name = node.input[position]
        if name not in graph.fixed or (reduction and name and not _stored(graph, name)):
            yield Place(name_of(node), f"{node.op_type} whose input {position} is not constant")


def _stored(graph: Graph, name: str) -> bool:
    """Say whether a tensor is a constant, or one that is only cast."""
    maker = graph.producers.get(name)
    while name not in graph.constants and maker is not None and maker.op_type in FOLDED and maker.input:
        name = maker.input[0]
        maker = graph.producers.get(name)
    return name in graph.constants


RULES: Final[dict[str, Rule]] = {
    "attribute": Rule("error", check_attribute, "change the layer, or its export"),
    "top-k": Rule("error", check_top_k, "keep fewer: 300 detections are usual"),
    "outputs": Rule("error", check_outputs, "export the model without that output"),
    "computation": Rule("error", check_computation, "change the layer, or its export"),
    "constant-input": Rule("error", check_constant_input, "make it an initialiser, or fold constants (onnxslim)"),
}
