"""A segmenter as an ONNX file: two outputs, one of them what a device needs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.backends import load
from pipeline.checkpoint_info import load_info
from pipeline.errors import PipelineError
from pipeline.export.onnx import export_onnx
from pipeline.export.ultralytics import export_ultralytics
from pipeline.params import Export
from tests.export.test_onnx_export import sides
from tests.tiny import CLASSES, awake, save

UINT8, FLOAT = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("segmenter") / "toy", awake("micro-n-sem.yaml", "segment"), "segment")


@pytest.fixture(scope="module")
def file(segmenter: Path, export_params: Export) -> Path:
    export_onnx(segmenter, segmenter.with_suffix(".onnx"), export_params)
    return segmenter.with_suffix(".onnx")


def test_export_onnx__a_segmenter_has_a_class_map_and_logits(file: Path) -> None:
    graph = onnx.load(file).graph
    assert [(value.name, sides(value)) for value in graph.input] == [("images", ["batch", 3, 64, 64])]
    assert [(value.name, value.type.tensor_type.elem_type, sides(value)) for value in graph.output] == [
        ("class_map", UINT8, ["batch", 64, 64]),
        ("logits", FLOAT, ["batch", len(CLASSES), 16, 16]),
    ]


def test_export_onnx__says_that_it_is_a_segmenter(file: Path, segmenter: Path) -> None:
    properties = {entry.key: json.loads(entry.value) for entry in onnx.load(file).metadata_props}
    expected = {
        "name": "toy", "task": "segment", "classes": CLASSES, "image_size_px": 64, "strides": [4, 8], "end2end": False,
        "precision": "fp32", "checkpoint_digest": load_info(segmenter).digest,
    }  # fmt: skip
    assert {key: properties[key] for key in expected} == expected


@pytest.mark.parametrize("name", ["micro-n-sem.yaml", "unet-mobilenet", "pspnet-mobilenet"])
def test_export_onnx__equal_weights_of_a_segmenter_give_equal_bytes(
    name: str, export_params: Export, tmp_path: Path
) -> None:
    for copy in ("a", "b"):
        folder = save(tmp_path / copy, awake(name, "segment"), "segment")
        export_onnx(folder, folder.with_suffix(".onnx"), export_params)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("opset", [13, 20])
def test_export_onnx__a_segmenter_of_a_fixed_batch_in_every_allowed_opset(
    segmenter: Path, export_params: Export, tmp_path: Path, opset: int
) -> None:
    params = export_params.model_copy(update={"dynamic_batch": False, "opset": opset})
    export_onnx(segmenter, tmp_path / "a.onnx", params)
    backend = load(tmp_path / "a.onnx", threads=1)
    assert not backend.dynamic_batch
    image = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    (classes, logits), (expected, _) = backend(image), load(segmenter, threads=1)(image)
    assert (classes.shape, logits.shape) == ((1, 64, 64), (1, len(CLASSES), 16, 16))
    assert (classes == expected).mean() > 0.999
    with pytest.raises(PipelineError, match=r"expected images of shape \(1, 3, 64, 64\)"):
        backend(np.repeat(image, 2, axis=0))


@pytest.mark.parametrize("size_px", [32, 64, 96, 160])  # PSPNet's grids divide the map at 96 alone
def test_export_onnx__pspnet_of_every_image_size(size_px: int, export_params: Export, tmp_path: Path) -> None:
    folder = save(tmp_path / "toy", awake("pspnet-mobilenet", "segment"), "segment", size_px=size_px)
    export_onnx(folder, tmp_path / "toy.onnx", export_params)
    images = np.random.default_rng(0).random((2, 3, size_px, size_px), dtype=np.float32)
    (classes, logits), (expected, reference) = (
        load(path, threads=1)(images) for path in (tmp_path / "toy.onnx", folder)
    )
    np.testing.assert_allclose(logits, reference, atol=2e-3)
    assert (classes == expected).mean() > 0.999


def test_export_ultralytics__stock_ultralytics_segments_with_it(segmenter: Path, tmp_path: Path) -> None:
    export_ultralytics(segmenter, tmp_path / "student.pt")
    code = (
        "import sys, numpy; from ultralytics import YOLO; model = YOLO(sys.argv[1]);"
        "image = numpy.random.default_rng(0).integers(0, 255, (48, 80, 3)).astype(numpy.uint8);"
        "print(model.task, *model.predict(image, imgsz=64, verbose=False)[0].semantic_mask.data.shape)"
    )
    command = [sys.executable, "-c", code, tmp_path / "student.pt"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True).splitlines()[-1] == "semantic 48 80"


def test_export_ultralytics__refuses_what_stock_ultralytics_lacks(tmp_path: Path) -> None:
    folder = save(tmp_path / "toy", awake("unet-mobilenet", "segment"), "segment")
    with pytest.raises(PipelineError, match="toy is a unet-mobilenet, which stock Ultralytics lacks: take its ONNX"):
        export_ultralytics(folder, tmp_path / "student.pt")
    assert not (tmp_path / "student.pt").exists()
