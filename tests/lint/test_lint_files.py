"""Whole files: ours are ready; those that TensorRT refuses are refused for the right reason."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from pipeline.export.onnx import export_onnx
from pipeline.lint import lint
from pipeline.tasks import Task
from tests.lint.graphs import broken, errors
from tests.tiny import SIZE_PX, awake, export_params_of, save


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "task", "end2end", "opset"),
    [
        ("micro-n.yaml", "detect", None, 17),
        ("micro-n.yaml", "detect", True, 17),
        ("micro-n-sem.yaml", "segment", None, 17),
        slow("yolo11n.yaml", "detect", None, 17),
        slow("yolo26n.yaml", "detect", True, 13),
        slow("yolo26n.yaml", "detect", True, 17),
        slow("yolo26n.yaml", "detect", True, 20),
        slow("unet-mobilenet", "segment", None, 17),
        slow("pspnet-mobilenet", "segment", None, 17),
    ],
)
def test_lint__what_the_pipeline_exports_is_ready(
    name: str, task: Task, end2end: bool | None, opset: int, tmp_path: Path
) -> None:
    folder = save(tmp_path / "toy", awake(name, task, end2end=end2end), task)
    params = export_params_of(opset=opset)
    export_onnx(folder, tmp_path / "fp32.onnx", params)
    report = lint(tmp_path / "fp32.onnx")
    assert report.ready
    assert broken(report) == {"profile"}
    size = f"3x{SIZE_PX}x{SIZE_PX}"
    assert f"--minShapes=images:1x{size} --optShapes=images:1x{size}" in report.findings[0].found


def test_lint__a_fixed_batch_has_no_finding(fp32: Path) -> None:
    report = lint(fp32)
    assert report.findings == []
    assert (report.quantised, report.ready) == (0, True)


def test_lint__symmetric_int8_with_float_bias_is_ready(int8: Path) -> None:
    report = lint(int8)
    assert report.findings == []
    assert 0 < report.quantised < report.quantisable  # the head's outputs stay in float


def test_lint__fp16_is_ready(fp16: Path) -> None:
    assert lint(fp16).findings == []


def test_lint__unsigned_activations_are_refused(uint8: Path) -> None:
    assert errors(uint8) == {"zero-point", "int32-bias"}
    assert "uint8-quantiser" in broken(lint(uint8))


def test_lint__an_unsorted_file_is_refused(fp16: Path, tmp_path: Path) -> None:
    model = onnx.load(fp16)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[-1], *nodes[:-1]])
    onnx.save(model, tmp_path / "unsorted.onnx")
    report = lint(tmp_path / "unsorted.onnx")
    assert broken(report) == {"order"}
    assert report.findings[0].where == [nodes[-1].name]


def test_lint__a_file_half_converted_to_fp16_is_refused(fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32)
    del model.graph.value_info[:]
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == model.graph.node[0].input[2]]
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias).astype(np.float16), bias.name))
    onnx.save(model, tmp_path / "mixed.onnx")
    report = lint(tmp_path / "mixed.onnx")
    assert broken(report) == {"mixed-types"}
    assert report.findings[0].where == [model.graph.node[0].name]


def test_lint__onnx_runtimes_defaults_are_refused(defaults: Path) -> None:
    report = lint(defaults)
    assert errors(defaults) == {"zero-point", "int32-bias"}
    assert "weight-per-tensor" in broken(report)


@pytest.mark.slow
def test_lint__ultralytics_own_int8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics import YOLO

    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), pixels)
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: [a]\n")
    monkeypatch.chdir(tmp_path)  # it writes where it runs
    file = YOLO("yolo26n.yaml").export(
        format="onnx", quantize=8, imgsz=SIZE_PX, data="data.yaml", batch=1, workers=0, verbose=False
    )
    report = lint(tmp_path / file)
    by_rule = {finding.rule: finding for finding in report.findings}
    assert errors(tmp_path / file) == {"zero-point", "int32-bias"}
    assert len(by_rule["int32-bias"].where) == 102
    assert "/model.0/conv/Conv" in by_rule["int32-bias"].where
    assert len(by_rule["weight-per-tensor"].where) == 102
