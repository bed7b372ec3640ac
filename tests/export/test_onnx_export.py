import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.backends import load
from pipeline.checkpoint_info import load_info
from pipeline.errors import PipelineError
from pipeline.export.onnx import export_onnx
from pipeline.params import Export

CLASSES = ["circle", "square", 'a "quoted" näme']
ANCHORS = 8 * 8 + 4 * 4 + 2 * 2  # of 64 px at strides 8, 16, 32


def sides(value: onnx.ValueInfoProto) -> list[str | int]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def test_export_onnx__equal_weights_give_equal_bytes(
    exported: Path, checkpoints: dict[str, Path], export_params: Export, tmp_path: Path
) -> None:
    again = tmp_path / "elsewhere" / "again.onnx"
    export_onnx(checkpoints["raw"], again, export_params)
    assert again.read_bytes() == exported.read_bytes()
    assert list(again.parent.iterdir()) == [again]


def test_export_onnx__carries_what_a_device_needs(exported: Path, checkpoints: dict[str, Path]) -> None:
    model = onnx.load(exported)
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    info = load_info(checkpoints["raw"])
    assert properties == {
        "name": "raw",
        "task": "detect",
        "classes": CLASSES,
        "image_size_px": 64,
        "strides": [8, 16, 32],
        "end2end": False,
        "precision": "fp32",
        "preprocessing": {
            "resize": "letterbox",
            "interpolation": "bilinear",
            "scale_up": True,
            "centred": True,
            "padding": 114,
            "colour": "RGB",
            "layout": "NCHW",
            "range": [0, 1],
        },
        "checkpoint_digest": info.digest,
        "licence": "AGPL-3.0",
        "producer": "freekd-pipeline",
        "float_layers": [
            *(f"model.22.{branch}.{level}.2" for branch in ("cv2", "cv3") for level in range(3)),
            "model.22.dfl.conv",
        ],
    }


def test_export_onnx__holds_no_path_and_no_date(exported: Path) -> None:
    content = exported.read_bytes()
    assert str(Path.home()).encode() not in content
    assert str(exported.parents[1]).encode() not in content
    assert str(Path(__file__).parents[2]).encode() not in content
    assert not re.search(rb"20[2-9]\d-\d\d-\d\d", content)


def test_export_onnx__a_raw_head_and_a_free_batch(exported: Path) -> None:
    model = onnx.load(exported)
    assert [(value.name, sides(value)) for value in model.graph.input] == [("images", ["batch", 3, 64, 64])]
    assert [(value.name, sides(value)) for value in model.graph.output] == [
        ("output0", ["batch", 4 + len(CLASSES), ANCHORS])
    ]


def test_export_onnx__opset_and_nothing_unused(exported: Path) -> None:
    model = onnx.load(exported)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert not {node.op_type for node in model.graph.node} & {"Identity", "Shape", "BatchNormalization"}
    onnx.checker.check_model(model, full_check=True)


def test_export_onnx__end2end_rows_are_capped_by_anchors(
    checkpoints: dict[str, Path], export_params: Export, tmp_path: Path
) -> None:
    fixed = export_params.model_copy(update={"dynamic_batch": False})
    export_onnx(checkpoints["end2end"], tmp_path / "fp32.onnx", fixed)
    model = onnx.load(tmp_path / "fp32.onnx")
    assert sides(model.graph.input[0]) == [1, 3, 64, 64]
    assert sides(model.graph.output[0]) == [1, ANCHORS, 6]
    backend = load(tmp_path / "fp32.onnx", threads=1)
    assert backend.metadata.end2end
    assert not backend.dynamic_batch
    (output,) = backend(np.zeros((1, 3, 64, 64), dtype=np.float32))
    assert output.shape == (1, ANCHORS, 6)
    assert (np.diff(output[0, :, 4]) <= 0).all()
    with pytest.raises(PipelineError, match=r"expected images of shape \(1, 3, 64, 64\)"):
        backend(np.zeros((2, 3, 64, 64), dtype=np.float32))


@pytest.mark.parametrize("opset", [13, 20])
def test_export_onnx__every_allowed_opset_loads(
    checkpoints: dict[str, Path], export_params: Export, tmp_path: Path, opset: int
) -> None:
    export_onnx(checkpoints["raw"], tmp_path / "a.onnx", export_params.model_copy(update={"opset": opset}))
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset
    assert load(tmp_path / "a.onnx")(np.zeros((2, 3, 64, 64), dtype=np.float32))[0].shape == (2, 7, ANCHORS)


def test_export_onnx__refuses_what_is_no_checkpoint(export_params: Export, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is not a checkpoint"):
        export_onnx(tmp_path, tmp_path / "a.onnx", export_params)
    assert not (tmp_path / "a.onnx").exists()
