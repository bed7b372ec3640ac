"""The small runtime gives what the evaluation measured, in pixels of the image as given, without torch."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner
from ultralytics.utils.nms import non_max_suppression

from pipeline.backends import load
from pipeline.bundle.unpack import unpack
from pipeline.bundle.write import write_bundle
from pipeline.cli import app
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.masks import segment
from pipeline.export.onnx import export_onnx
from pipeline.predict import MAX_DETECTIONS, NMS_IOU, SCORE_THRESHOLD, Box, Predictor
from pipeline.preprocess import letterbox, load_image, undo
from pipeline.tasks import Task
from pipeline.text import printable
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


def test_predictor__boxes_are_those_of_ultralytics(files: dict[Task, Path], image: Path) -> None:
    backend, pixels = load(files["detect"], threads=1), load_image(image)
    square, transform = letterbox(pixels, backend.metadata.image_size_px)
    output = torch.from_numpy(backend(square[None])[0])
    kept = non_max_suppression(output, 0.3, NMS_IOU, max_det=MAX_DETECTIONS)[0].numpy()
    expected = np.concatenate([undo(kept[:, :4], transform), kept[:, 4:]], axis=1)
    predictor = Predictor(files["detect"], threshold=0.3, threads=1)
    found = predictor(image)
    assert isinstance(found, list)
    assert len(found) > 5
    rows = [[*box.xyxy, box.score, predictor.classes.index(box.name)] for box in found]
    np.testing.assert_array_equal(np.array(rows, dtype=np.float32), expected)
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
    (tmp_path / "b.pt").write_bytes(b"")
    for name in ("", "a.pt", "b.pt", "a.onnx", "a.zip"):
        with pytest.raises(PipelineError, match=r"expected a bundle \(\.zip or unpacked\) or an \.onnx file"):
            Predictor(tmp_path / name)
    with pytest.raises(PipelineError, match="cannot be read: File name too long"):
        Predictor(tmp_path / ("a" * 300))


def test_predictor__refuses_a_bundle_without_its_reference(
    files: dict[Task, Path], mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "toy.zip", export=files["detect"].parent, results=tmp_path, dataset=mini_dataset)
    unpack(tmp_path / "toy.zip", tmp_path / "toy")
    manifest = json.loads((tmp_path / "toy/manifest.json").read_text())
    del manifest["files"]["models/fp32.onnx"]
    (tmp_path / "toy/manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "toy/models/fp32.onnx").unlink()
    with zipfile.ZipFile(tmp_path / "less.zip", "w") as archive:
        for name in ("manifest.json", *manifest["files"]):
            archive.write(tmp_path / "toy" / name, name)
    for model in (tmp_path / "toy", tmp_path / "less.zip"):
        with pytest.raises(PipelineError, match=r"lists no models/fp32\.onnx"):
            Predictor(model)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_predictor__refuses_a_threshold_that_is_none(files: dict[Task, Path], threshold: float) -> None:
    with pytest.raises(PipelineError, match="threshold: expected a number from 0 to 1"):
        Predictor(files["detect"], threshold=threshold)


@pytest.mark.shared
def test_predictor__finds_what_yolo_predict_finds(tmp_path: Path) -> None:
    """The same weights, image square and thresholds; torch and ONNX Runtime differ in the last digits."""
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    from models.weights import load_weights

    shared, size = ROOT.parent / "shared", 320
    weights = shared / "weights/yolov8n-from-int8.pt"
    model = load_weights(weights, DetectionModel)
    save(tmp_path / "toy", model, size_px=size)
    export_onnx(tmp_path / "toy", tmp_path / "export/fp32.onnx", EXPORT)
    predictor = Predictor(tmp_path / "export/fp32.onnx")
    paths = sorted((shared / "data/coco128/images/val2017").glob("*.jpg"))[:12]
    results = YOLO(weights).predict(
        paths, imgsz=size, rect=False, conf=SCORE_THRESHOLD, iou=NMS_IOU, max_det=MAX_DETECTIONS, device="cpu",
        verbose=False,
    )  # fmt: skip
    assert sum(len(result.boxes) for result in results) > 20
    for path, result in zip(paths, results, strict=True):
        found, boxes = predictor(path), result.boxes
        assert isinstance(found, list)
        assert [box.name for box in found] == [result.names[int(kind)] for kind in boxes.cls]
        np.testing.assert_allclose([box.score for box in found], boxes.conf, atol=1e-4)
        if found:
            np.testing.assert_allclose([box.xyxy for box in found], boxes.xyxy, atol=0.02)


# Files, folders, videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of three images, one of them damaged, and of what is none."""
    out = tmp_path / "shots"
    out.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    for name in ("a.jpg", "b.png"):
        (out / name).write_bytes(bytes(cv2.imencode(Path(name).suffix, pixels)[1]))
    content = (out / "a.jpg").read_bytes()
    (out / "broken.jpg").write_bytes(content[: len(content) // 2])
    (out / "._a.jpg").write_bytes(b"what macOS leaves")
    (out / "notes.txt").write_text("no image")
    (out / "deep").mkdir()
    (out / "deep/c.png").write_bytes((out / "b.png").read_bytes())
    return out


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def objects(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predict__json_is_one_object_a_line(files: dict[Task, Path], image: Path) -> None:
    for task, file in files.items():
        done = run(file, image, image, "--json")
        assert done.exit_code == 0, done.output
        first, second = objects(done)
        assert first == second
        assert first["image"] == str(image)
        if task == "detect":
            assert set(first["boxes"][0]) == {"xyxy", "score", "name"}
        else:
            assert sum(first["classes"].values()) == pytest.approx(1)


def test_predict__the_threshold_and_the_folder_count(files: dict[Task, Path], image: Path, tmp_path: Path) -> None:
    done = run(files["detect"], image, "--threshold", "1", "--out", tmp_path / "out")
    assert done.output.strip() == f"{image}: nothing"
    np.testing.assert_array_equal(load_image(tmp_path / "out/wide.png.predicted.png"), load_image(image))
    run(files["segment"], image, "--out", tmp_path / "maps")
    classes = cv2.imread(str(tmp_path / "maps/wide.png.classes.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(classes, Predictor(files["segment"], threads=1)(image))


def test_predict__one_bad_image_does_not_stop_the_others(files: dict[Task, Path], folder: Path) -> None:
    paths = [folder / name for name in ("broken.jpg", "absent.jpg", "notes.txt", "b.png")]
    done = run(files["detect"], *paths, "--threshold", "1")
    assert done.exit_code == 1
    assert done.stdout == f"{paths[3]}: nothing\n"
    assert done.stderr.splitlines() == [
        f"ERROR {paths[0]}: is truncated: its end is missing",
        f"ERROR {paths[1]}: no such file",
        f"ERROR {paths[2]}: not an image: expected JPEG, PNG, BMP, WebP or TIFF data",
    ]
    as_json = run(files["detect"], *paths, "--json")
    assert as_json.exit_code == 1
    assert as_json.stderr == ""
    assert [set(found) for found in objects(as_json)] == [{"image", "error"}] * 3 + [{"image", "boxes"}]
    assert objects(as_json)[1] == {"image": str(paths[1]), "error": "no such file"}


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("", ["a.jpg", "b.png", "broken.jpg"]),
        ("*.jpg", ["a.jpg", "broken.jpg"]),
        ("**/*.png", ["b.png", "deep/c.png"]),
        ("*", ["a.jpg", "b.png", "broken.jpg"]),
    ],
)
def test_predict__takes_folders_and_patterns(
    files: dict[Task, Path], folder: Path, monkeypatch: pytest.MonkeyPatch, argument: str, names: list[str]
) -> None:
    for base in (folder, Path()):
        monkeypatch.chdir(folder)
        found = objects(run(files["detect"], base / argument, "--json"))
        assert [Path(one["image"]) for one in found] == [base / name for name in names]


def test_predict__a_name_with_brackets_is_a_file_before_it_is_a_pattern(files: dict[Task, Path], folder: Path) -> None:
    shutil.copy(folder / "b.png", folder / "x[1].png")
    shutil.copy(folder / "b.png", folder / "x1.png")
    (found,) = objects(run(files["detect"], folder / "x[1].png", "--json"))
    assert found["image"] == str(folder / "x[1].png")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("-", "standard input is not read"),
        ("https://example.com/x.jpg", "a URL is not read: download it"),
        ("rtsp://10.0.0.1/live", "a URL is not read: download it"),
        ("0", "a camera is not read: record a video"),
        ("nope.jpg", "no such file"),
        ("", "no such file"),
        ("n" * 300 + ".jpg", "no such file"),
        ("nope/*.jpg", "no image or video matches this pattern"),
        ("a**.jpg", "no image or video matches this pattern"),
        ("empty", "the folder holds no image or video"),
        ("second.onnx", "is a model: predict takes one model"),
        ("bundle", "is a model: predict takes one model"),
        ("pipe", "is no regular file"),
        ("zero.mp4", "OpenCV cannot read this video"),
    ],
)
def test_predict__says_what_an_argument_is_instead(
    files: dict[Task, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    argument: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "bundle"):
        (tmp_path / name).mkdir()
    for name in ("second.onnx", "zero.mp4", "bundle/manifest.json"):
        (tmp_path / name).write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    done = run(files["detect"], argument)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"ERROR {argument}: ")
    assert message in done.stderr
    assert "dvc" not in done.stderr
    assert objects(run(files["detect"], argument, "--json"))[0]["image"] == argument
    assert capfd.readouterr().err == "", "OpenCV's own log stays quiet"


def video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(frames):
        writer.write(np.random.default_rng(index).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


def test_predict__a_video_counts_as_its_frames(files: dict[Task, Path], tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.avi", 3)
    done = run(files["segment"], clip, "--json", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert [found["image"] for found in objects(done)] == [f"{clip}#{index}" for index in range(3)]
    names = {f"clip.avi#{index}.{kind}.png" for index in range(3) for kind in ("predicted", "classes")}
    assert set(contents(tmp_path / "out")) == names
    before = contents(tmp_path)
    again = run(files["segment"], clip, "--out", tmp_path / "out")
    assert "predict overwrites nothing" in str(again.exception)
    assert contents(tmp_path) == before


def test_predict__a_truncated_video_is_reported_after_its_frames(files: dict[Task, Path], tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.mkv", 20)
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    done = run(files["detect"], clip, "--json")
    assert done.exit_code == 1
    *frames, last = objects(done)
    assert 0 < len(frames) < 20
    assert last["image"] == str(clip)
    assert "of 2.0 s: it is damaged or truncated" in last["error"]


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_predict__out_may_be_the_folder_of_the_images(files: dict[Task, Path], folder: Path, task: Task) -> None:
    shutil.copy(folder / "b.png", folder / "a.png")  # beside a.jpg
    shutil.copy(folder / "b.png", folder / "a.classes.png")
    before = contents(folder)
    assert run(files[task], folder, "--out", folder).exit_code == 1, "broken.jpg"
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    kinds = ("predicted", "classes") if task == "segment" else ("predicted",)
    expected = {f"{name}.{kind}.png" for name in ("a.jpg", "a.png", "a.classes.png", "b.png") for kind in kinds}
    assert set(after) - set(before) == expected


@pytest.mark.parametrize("kind", ["predicted", "classes"])
@pytest.mark.parametrize("link", [False, True])
def test_predict__overwrites_no_file_that_was_there(
    files: dict[Task, Path], folder: Path, tmp_path: Path, kind: str, link: bool
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    there = out / f"b.png.{kind}.png"
    if link:
        there.symlink_to(tmp_path / "nowhere")
    else:
        there.write_bytes(b"years of work")
    done = run(files["segment"], folder / "a.jpg", folder / "b.png", "--out", out)
    assert f"{there} exists: predict overwrites nothing: give --out another folder" in str(done.exception)
    assert "a.jpg: " not in done.output, "refused before anything was run"
    assert [path.name for path in out.iterdir()] == [there.name]
    assert there.is_symlink() if link else there.read_bytes() == b"years of work"


def test_predict__two_inputs_of_one_name_are_refused(files: dict[Task, Path], folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "b.png", folder / "deep/B.png")  # the same name where case does not count
    for second in (folder / "b.png", folder / "deep/B.png"):
        done = run(files["detect"], folder / "b.png", second, "--out", tmp_path / "out")
        assert "several inputs are called b.png" in str(done.exception)
        assert not (tmp_path / "out").exists()


def test_predict__out_should_be_a_folder(files: dict[Task, Path], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "o").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = contents(tmp_path)
    for name in ("o", "o/deeper", "link"):
        done = run(files["detect"], folder / "b.png", "--out", tmp_path / name)
        assert "expected a folder" in str(done.exception)
    assert contents(tmp_path) == before


def test_predict__out_that_cannot_be_written(
    files: dict[Task, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = run(files["detect"], folder / "b.png", "--out", tmp_path / ("o" * 300))
    assert long.exit_code == 1
    assert "cannot write this file: File name too long" in long.stderr
    # Tests may run as root, which may write anywhere.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != tmp_path)
    done = run(files["detect"], folder / "b.png", "--out", tmp_path / "out")
    assert "no permission to write to" in str(done.exception)


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"line\nbreak.png", b"\x1b[31mred.png", b"x" * 247 + b".png"])
def test_predict__any_file_name(files: dict[Task, Path], folder: Path, tmp_path: Path, name: bytes) -> None:
    path = folder / os.fsdecode(name)
    shutil.copy(folder / "b.png", path)
    done = run(files["detect"], path, "--threshold", "1")
    assert done.stdout == f"{printable(path)}: nothing\n"
    assert done.stdout.rstrip("\n").isprintable()
    assert [found["image"] for found in objects(run(files["detect"], path, "--json"))] == [str(path)]
    drawn = run(files["detect"], path, folder / "b.png", "--out", tmp_path / "out")
    too_long = len(name) > 200
    assert drawn.exit_code == int(too_long)
    assert len(contents(tmp_path / "out")) == 2 - too_long


def test_predict__help_explains_inputs_and_outputs() -> None:
    text = " ".join(run("--help").output.replace("│", " ").split())
    for word in (
        "TIFF",
        "clip.mp4#0",
        "patterns",
        "street.jpg.predicted.png",
        "never overwritten",
        '"error"',
        "status",
    ):
        assert word in text


def test_predict__imports_no_torch(files: dict[Task, Path], image: Path) -> None:
    code = (
        "import sys; from pipeline.cli import app\n"
        "try: app()\n"
        "finally: print(sorted({'torch', 'ultralytics', 'onnx', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "predict", str(files["detect"]), str(image), "--threshold", "0.99"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output(command, text=True, env=environment).splitlines() == [f"{image}: nothing", "[]"]


def test_predictor__a_legend_names_the_colors_where_labels_would_hide_the_objects(files: dict[str, Path]) -> None:
    segmenter, detector = Predictor(files["segment"]), Predictor(files["detect"])
    classes = np.array([[0, 1], [1, 2]], dtype=np.uint8)
    strip = segmenter.legend(classes, 300)
    assert strip.shape[1:] == (300, 3)
    colors = {tuple(color) for color in strip.reshape(-1, 3).tolist()}
    assert {segmenter._colour(segmenter.classes[index]) for index in (1, 2)} <= colors
    box = Box((1.0, 1.0, 9.0, 9.0), 0.5, detector.classes[0])
    assert detector.legend([box], 300).size == 0
    assert detector.legend([box] * 21, 300).size > 0
    assert segmenter.legend(classes, 30).shape[0] > strip.shape[0], "a narrow picture has more lines"
