"""The gate of exported files, and what it says when one does not pass."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.errors import PipelineError
from pipeline.export.gate import check_gate
from pipeline.export.graph import module_path
from pipeline.export.onnx import export_onnx
from pipeline.export.quantize import calibrate
from pipeline.export.sensitivity import Sensitivity, describe, proposed, rank_layers
from pipeline.params import Evaluate
from pipeline.records import ModelInfo, OutputError, Parity
from tests.tiny import awake, export_params_of, save

INFO = ModelInfo(
    task="detect", name="toy", role="distilled", architecture="micro-n", params_m=0.1, image_size_px=64, digest="0"
)
EVALUATE = Evaluate(batch_size=4, score_threshold=0.001, nms_iou=0.7, max_detections=300, boundary_tolerance=0.01)


def parity(runtime: str, drop: float, budget: float) -> Parity:
    return Parity(
        model=INFO, runtime=runtime, images=4, outputs=[OutputError(name="boxes", max_abs=0.1, relative_l2=0.002)],
        agreement=0.98, max_box_error_px=0.1, max_score_error=0.1, least_alike=["3.png"], score_torch=0.5,
        score_exported=0.5 - drop, drop=drop, max_drop=budget,
    )  # fmt: skip


def test_check_gate__a_gain_passes_unless_the_network_should_be_the_same() -> None:
    check_gate([parity("onnxruntime-int8", -0.05, 0.01), parity("onnxruntime-fp16", 0.002, 0.002)])
    with pytest.raises(PipelineError, match="onnxruntime-fp32 is not the model"):
        check_gate([parity("onnxruntime-fp32", -0.003, 0.002)])


def test_check_gate__without_a_box_the_outputs_have_to_be_alike() -> None:
    trial = parity("onnxruntime-fp16", 0.003, 0.002).model_copy(update={"agreement": None, "max_relative_error": 0.02})
    assert trial.verdict == "nothing to compare"
    check_gate([trial])
    unlike = trial.model_copy(update={"outputs": [OutputError(name="boxes", max_abs=9.0, relative_l2=0.5)]})
    with pytest.raises(PipelineError, match=r"no box.*5\.0e-01.*FAILED"):
        check_gate([unlike])


def test_check_gate__a_breach_shows_every_file_and_the_advice() -> None:
    found = [parity("onnxruntime-fp32", 0.0, 0.002), parity("openvino-int8", 0.031, 0.01)]
    with pytest.raises(PipelineError) as error:
        check_gate(found, "try this")
    lines = str(error.value).splitlines()
    assert "toy (distilled): openvino-int8 is not the model that was trained" in lines[0]
    assert lines[1].split() == ["AP50-95", "torch", "drop", "allowed", "alike", "rel.", "error"]
    assert lines[2].split() == [
        "onnxruntime-fp32",
        "0.5000",
        "0.5000",
        "+0.0000",
        "0.002",
        "98.00",
        "%",
        "2.0e-03",
        "passed",
    ]
    assert lines[3].split()[:4] == ["openvino-int8", "0.4690", "0.5000", "+0.0310"]
    assert lines[3].endswith("FAILED")
    assert lines[-1] == "try this"


def test_rank_layers__finds_the_layer_whose_range_is_wrong(tmp_path: Path) -> None:
    params, images = export_params_of(), list(np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32))
    fp32, ranges = tmp_path / "fp32.onnx", tmp_path / "ranges.json"
    export_onnx(save(tmp_path / "toy", awake("micro-n.yaml", "detect"), "detect"), fp32, params)
    calibrate(fp32, images, params.int8, ranges)
    ranks = rank_layers(fp32, ranges, images, params.int8, EVALUATE)
    assert [layer.error for layer in ranks] == sorted((layer.error for layer in ranks), reverse=True)
    mild = ranks[len(ranks) // 2].layer
    readers = coarsen(fp32, ranges, mild)
    again = rank_layers(fp32, ranges, images, params.int8, EVALUATE)
    assert {layer.layer for layer in again[: len(readers)]} == readers


def coarsen(fp32: Path, ranges: Path, layer: str) -> set[str]:
    """Widen the range of a layer's input a thousand times, and return the layers that read it."""
    graph = onnx.load(fp32).graph
    tensor = next(node.input[0] for node in graph.node if module_path(node.name) == layer and node.op_type == "Conv")
    stored = json.loads(ranges.read_text())
    for end in ("lowest", "highest"):
        stored["data"][tensor][end]["data"][0] *= 1000
    ranges.write_text(json.dumps(stored))
    return {module_path(node.name) for node in graph.node if tensor in node.input and node.op_type == "Conv"}


def test_proposed__the_fewest_that_cause_half_of_the_error() -> None:
    layers = [Sensitivity(name, error) for name, error in (("a", 0.4), ("b", 0.4), ("c", 0.3), ("d", 0.1))]
    assert proposed(layers) == ["a", "b"]
    assert proposed([Sensitivity("a", 0.9), *layers]) == ["a"]
    assert "export.int8.float_layers: [a, b]" in describe(layers)
    assert describe(layers).splitlines()[1].split() == ["4.00e-01", "a"]
