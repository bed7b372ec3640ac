"""The engine inspector's JSON in the layouts of TensorRT 10 and 11."""

import json
from typing import Any

import pytest

from pipeline.export.inspector import layer_shares


def layer(kind: str, *inputs: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"Name": kind, "LayerType": kind, "Inputs": list(inputs), **more}


def old(text: str) -> dict[str, str]:
    return {"Format/Datatype": text}


def new(text: str) -> dict[str, str]:
    return {"Datatype": text, "Format": "Row major linear format"}


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        (old("Thirty-two wide channel vectorized row major Int8 format"), "int8"),
        (old("Channel major FP16 format where channel % 8 == 0"), "fp16"),
        (old("Row major linear FP32"), "fp32"),
        (old("Half"), "fp16"),
        (old("Float"), "fp32"),
        (new("Int8"), "int8"),
        (new("Half"), "fp16"),
        (new("BFloat16"), "bf16"),
        (new("Float"), "fp32"),
        (new("Int32"), "other"),
        (new("UInt8"), "other"),
    ],
)
def test_layer_shares__knows_the_names_of_both_majors(tensor: dict[str, str], name: str) -> None:
    layers = [layer("Convolution", tensor), layer("Convolution", new("Float"))]
    shares = layer_shares(json.dumps({"Layers": layers}))
    assert shares == ({"fp32": 1} if name == "fp32" else {name: 0.5, "fp32": 0.5})


def test_layer_shares__a_layer_counts_by_its_narrowest_input_or_weights() -> None:
    layers = [
        layer("CaskConvolution", old("Half"), old("Int8")),
        layer("CaskConvolution", old("N/A due to dynamic shapes"), Weights={"Type": "Int8", "Count": 9}),
        layer("kgen", old("Half"), old("Float")),
    ]
    shares = layer_shares(json.dumps({"Layers": layers, "Bindings": ["images"]}))
    assert shares == pytest.approx({"int8": 2 / 3, "fp16": 1 / 3})


def test_layer_shares__what_only_moves_data_is_not_counted() -> None:
    layers = [layer("Reformat", old("Int8")), layer("NoOp", old("Int8")), layer("Convolution", old("Float"))]
    assert layer_shares(json.dumps({"Layers": layers})) == {"fp32": 1}


@pytest.mark.parametrize("layers", [[], ["conv1", "conv2"], [layer("Convolution", old("N/A due to dynamic shapes"))]])
def test_layer_shares__is_empty_where_no_layer_states_a_datatype(layers: list[Any]) -> None:
    assert layer_shares(json.dumps({"Layers": layers})) == {}
