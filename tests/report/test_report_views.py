"""The models run on test images for the pictures: what they say is drawn, each task's in its own form."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from models import build
from pipeline.backends import Backend, Metadata
from pipeline.checkpoint_info import SKIPPED, load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.digest import file_digest
from pipeline.distill.prompt import init_prompts
from pipeline.features import head_channels
from pipeline.params import Params
from pipeline.preprocess import load_image
from pipeline.report import views
from pipeline.report.pictures import DRAW
from pipeline.report.prompt_masks import draw_masks
from pipeline.tasks import Task
from pipeline.training.checkpoint import save_checkpoint
from pipeline.training.prompts import INFO, WEIGHTS, PromptsInfo

MODELS: dict[Task, str] = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}
COLUMNS = {"teacher": 1, "control": 2, "distilled, ONNX": 3}  # and the class that the made-up model answers
ANSWERS = {"teacher": 1, "control": 2, "fp32.onnx": 3}


def _load(path: Path) -> Backend:
    """Load a made-up model: its class wherever the image is red, or a box as wide as the image is red."""
    kind, task = ANSWERS[path.name], next(task for task in MODELS if task in path.parts)

    def segment(images: Any) -> list[Any]:
        return [(kind * (images[:, 0] > 0.5)).astype(np.uint8), images]

    def detect(images: Any) -> list[Any]:
        rows = [[[0, 0, 64 * image[0].mean(), 32, 0.9, kind]] for image in images]
        return [np.array(rows, dtype=np.float32)]

    metadata = Metadata(task, list("abcd"), 64, [8], end2end=True, precision="fp32")
    return Backend("torch", "cpu", 1, True, metadata, {"detect": detect, "segment": segment}[task])


@pytest.fixture(scope="module")
def artifacts(mini_dataset: PreparedDataset, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an untrained teacher of each task, and prompts."""
    root = tmp_path_factory.mktemp("artifacts")
    for task in params.tasks:
        model, folder = build(MODELS[task], task, mini_dataset.task_classes(task), seed=0), root / task / "prompts"
        save_checkpoint(
            root / task / "teacher", model, task=task, name="teacher", role="teacher", image_size_px=64, best_epoch=1,
            made_by="test",
        )  # fmt: skip
        folder.mkdir()
        prompts = init_prompts(head_channels(model), levels=2, prompts=3).state_dict()
        save_file({key: value.detach() for key, value in prompts.items()}, folder / WEIGHTS)
        info = PromptsInfo(
            levels=2, prompts=3, wavelet="haar", teacher="", task_loss_plain=0, task_loss_prompted=0, overlap=0,
            digest=file_digest(folder / WEIGHTS),
        )  # fmt: skip
        (folder / INFO).write_text(info.model_dump_json())
    return root


@pytest.fixture(autouse=True)
def _made_up_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "load", _load)


def test_views__every_task_image_and_map_of_the_prompts(
    artifacts: Path, mini_dataset: PreparedDataset, params: Params, tmp_path: Path
) -> None:
    drawn = views.draw(artifacts, mini_dataset, params)
    assert list(drawn) == params.tasks
    for task, drawings in drawn.items():
        images = mini_dataset.images("test")[: params.report.images]
        assert [scene.name for scene in drawings.predictions] == [image.stem for image in images]
        assert drawings.classes == mini_dataset.task_classes(task)
        strides = load_info(artifacts / task / "teacher").strides
        assert len(drawings.masks) == views.MASKED_IMAGES * len(strides)
        for index, masked in enumerate(drawings.masks):
            assert masked.name.endswith(f"stride {strides[index % len(strides)]}")
            assert list(masked.masks) == ["low band", "details, level 1", "details, level 2"]
        DRAW[task](tmp_path / f"{task}.png", drawings.predictions, drawings.classes)
        draw_masks(tmp_path / f"{task}-masks.png", drawings.masks)


def test_views__each_column_is_its_models_answer_to_that_image(
    artifacts: Path, mini_dataset: PreparedDataset, params: Params
) -> None:
    drawn = views.draw(artifacts, mini_dataset, params)
    for index, path in enumerate(mini_dataset.images("test")[: params.report.images]):
        red = load_image(path)[..., 0] / np.float32(255)
        boxes, maps = (drawn[task].predictions[index] for task in ("detect", "segment"))
        assert list(boxes.predictions) == list(maps.predictions) == list(COLUMNS)
        np.testing.assert_array_equal(maps.truth, mini_dataset.mask(path))
        np.testing.assert_array_equal(boxes.truth.classes, mini_dataset.boxes(path)[0])
        for column, kind in COLUMNS.items():
            np.testing.assert_array_equal(maps.predictions[column], kind * (red > 0.5))
            found = boxes.predictions[column]
            np.testing.assert_allclose(found.xyxy, [[0, 0, 64 * red.mean(), 32]], rtol=1e-4)
            assert (found.classes.tolist(), found.scores.tolist()) == ([kind], [pytest.approx(0.9)])


def test_views__no_column_for_a_control_that_was_switched_off(
    artifacts: Path, mini_dataset: PreparedDataset, params: Params, tmp_path: Path
) -> None:
    shutil.copytree(artifacts, tmp_path / "artifacts")
    for task in params.tasks:
        control = tmp_path / "artifacts" / task / params.students_of(task)[0] / "control"
        control.mkdir(parents=True)
        (control / SKIPPED).touch()
    for drawings in views.draw(tmp_path / "artifacts", mini_dataset, params).values():
        assert all(list(scene.predictions) == ["teacher", "distilled, ONNX"] for scene in drawings.predictions)
