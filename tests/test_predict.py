"""The small runtime gives what the evaluation measured, in pixels of the image as given, without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.backends import load
from pipeline.bundle.unpack import unpack
from pipeline.bundle.write import write_bundle
from pipeline.cli import app
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.boxes import predict_boxes
from pipeline.evaluation.masks import segment
from pipeline.export.onnx import export_onnx
from pipeline.params import Params
from pipeline.predict import MAX_DETECTIONS, NMS_IOU, Predictor
from pipeline.preprocess import load_image
from pipeline.tasks import Task
from tests.tiny import awake, export_params_of, save

ROOT = Path(__file__).parents[1]
MODELS: dict[Task, str] = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}
EXPORT = export_params_of()


@pytest.fixture(scope="module")
def files(mini_dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    exported = {}
    for task, name in MODELS.items():
        folder = tmp_path_factory.mktemp(task)
        save(folder / "toy", awake(name, task, mini_dataset.task_classes(task)), task)
        export_onnx(folder / "toy", folder / "export/fp32.onnx", EXPORT)
        exported[task] = folder / "export/fp32.onnx"
    return exported


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "wide.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8))
    return path


def test_predictor__boxes_are_those_that_are_evaluated(files: dict[Task, Path], image: Path, params: Params) -> None:
    same = {"score_threshold": 0.3, "nms_iou": NMS_IOU, "max_detections": MAX_DETECTIONS}
    (expected,) = predict_boxes(load(files["detect"], threads=1), [image], params.evaluate.model_copy(update=same))
    predictor = Predictor(files["detect"], threshold=0.3, threads=1)
    found = predictor(image)
    assert isinstance(found, list)
    assert len(found) > 5
    rows = [[*box.xyxy, box.score, predictor.classes.index(box.name)] for box in found]
    np.testing.assert_array_equal(np.array(rows, dtype=np.float32), expected.boxes)
    assert found == predictor(load_image(image)), "a file and its pixels are the same"
    assert max(box.xyxy[2] for box in found) > 64, "boxes are in the image's pixels, not the network's"


def test_predictor__class_maps_are_those_that_are_evaluated(files: dict[Task, Path], image: Path) -> None:
    (expected,) = segment(load(files["segment"], threads=1), [image], 1)
    found = Predictor(files["segment"], threads=1)(image)
    assert isinstance(found, np.ndarray)
    assert found.shape == (90, 200)
    np.testing.assert_array_equal(found, expected.classes)


def test_predictor__a_bundle_is_its_fp32_model(
    files: dict[Task, Path], image: Path, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "toy.zip", export=files["detect"].parent, results=tmp_path, dataset=mini_dataset)
    unpack(tmp_path / "toy.zip", tmp_path / "toy")
    expected = Predictor(files["detect"], threads=1)(image)
    for model in (tmp_path / "toy.zip", tmp_path / "toy"):
        assert Predictor(model, threads=1)(image) == expected
    (tmp_path / "toy/models/fp32.onnx").write_bytes(b"damaged")
    with pytest.raises(PipelineError, match=r"models/fp32\.onnx is damaged"):
        Predictor(tmp_path / "toy")


def test_predictor__draws_into_a_copy(files: dict[Task, Path], image: Path) -> None:
    pixels = load_image(image)
    before = pixels.copy()
    for file in files.values():
        predictor = Predictor(file, threads=1)
        drawn = predictor.drawn(pixels)
        assert drawn.shape == pixels.shape
        assert drawn.dtype == np.uint8
        assert (drawn != pixels).any()
        np.testing.assert_array_equal(pixels, before)
    nothing = Predictor(files["detect"], threshold=1.0, threads=1)
    np.testing.assert_array_equal(nothing.drawn(pixels), pixels)


@pytest.mark.parametrize(
    "wrong", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8)]
)
def test_predictor__refuses_what_is_no_image(files: dict[Task, Path], wrong: np.ndarray) -> None:
    with pytest.raises(PipelineError, match=r"expected an image \(H, W, 3\) uint8 RGB, got"):
        Predictor(files["detect"], threads=1)(wrong)


def test_predictor__refuses_what_is_no_model(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a.pt"):
        with pytest.raises(PipelineError, match=r"expected a bundle \(\.zip or unpacked\) or an \.onnx file"):
            Predictor(path)


def test_predict__json_is_one_object_a_line(files: dict[Task, Path], image: Path, tmp_path: Path) -> None:
    for task, file in files.items():
        done = CliRunner().invoke(app, ["predict", str(file), str(image), str(image), "--json"])
        assert done.exit_code == 0, done.output
        first, second = (json.loads(line) for line in done.output.splitlines())
        assert first == second
        assert first["image"] == str(image)
        if task == "detect":
            assert set(first["boxes"][0]) == {"xyxy", "score", "name"}
        else:
            assert sum(first["classes"].values()) == pytest.approx(1)


def test_predict__the_threshold_and_the_folder_count(files: dict[Task, Path], image: Path, tmp_path: Path) -> None:
    command = ["predict", str(files["detect"]), str(image), "--threshold", "1", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.output.strip() == f"{image}: nothing"
    np.testing.assert_array_equal(load_image(tmp_path / "out/wide.png"), load_image(image))
    CliRunner().invoke(app, ["predict", str(files["segment"]), str(image), "--out", str(tmp_path / "maps")])
    classes = cv2.imread(str(tmp_path / "maps/wide.classes.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(classes, Predictor(files["segment"], threads=1)(image))


def test_predict__two_images_of_one_name_are_refused(files: dict[Task, Path], image: Path, tmp_path: Path) -> None:
    command = ["predict", str(files["detect"]), str(image), str(image), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code != 0
    assert "several images are called wide" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_predict__imports_no_torch(files: dict[Task, Path], image: Path) -> None:
    code = (
        "import sys; from pipeline.cli import app\n"
        "try: app()\n"
        "finally: print(sorted({'torch', 'ultralytics', 'onnx', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "predict", str(files["detect"]), str(image), "--threshold", "0.99"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output(command, text=True, env=environment).splitlines() == [f"{image}: nothing", "[]"]
