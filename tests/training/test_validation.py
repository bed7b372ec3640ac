"""Validation while training measures what evaluation measures, and a trained teacher is used as it is."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.backends import load
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import DatasetInfo, PreparedDataset, SplitInfo, open_dataset
from pipeline.data.write import label_lines
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.boxes import predict_boxes
from pipeline.export.ultralytics import export_ultralytics
from pipeline.params import Machine, Params
from pipeline.tasks import Task, main_score
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.run import adopt
from pipeline.training.trainer import Job, validate
from tests.tiny import CLASSES, awake, save

SHAPES = [(64, 64), (48, 96), (96, 48), (100, 80), (37, 90), (64, 128)]
MODELS = [("detect", "micro-n.yaml"), ("detect", "yolo26n.yaml"), ("segment", "micro-n-sem.yaml")]


@dataclass(frozen=True)
class FixedJob(Job):
    """A job whose model is given."""

    fixed: Any = None

    def build_model(self) -> Any:
        return deepcopy(self.fixed)


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    """Images of blobs in several shapes, with empty labels and masks; every split is all of them."""
    root = tmp_path / "dataset"
    for folder in ("images", "labels", "masks", "splits"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(SHAPES):
        coarse = rng.integers(0, 255, (8, 8, 3), np.uint8)
        cv2.imwrite(str(root / f"images/{index}.png"), cv2.resize(coarse, (width, height)))
        cv2.imwrite(str(root / f"masks/{index}.png"), rng.integers(0, len(CLASSES), (height, width), np.uint8))
        (root / f"labels/{index}.txt").write_text("")
    counts = SplitInfo(images=len(SHAPES), boxes=0, digest="d")
    info = DatasetInfo(
        source="test", licence="none", classes=CLASSES, mask_classes=CLASSES, image_size_px=64,
        splits={"train": counts, "val": counts, "test": counts}, digest="d",
    )  # fmt: skip
    (root / "dataset.json").write_text(info.model_dump_json())
    for split in ("train", "val", "test"):
        (root / f"splits/{split}.txt").write_text("".join(f"images/{index}.png\n" for index in range(len(SHAPES))))
    return open_dataset(root)


def label_what_is_found(dataset: PreparedDataset, checkpoint: Path, params: Params) -> None:
    """Make some of the boxes that a detector finds its truth, a little moved, so that its AP is neither 0 nor 1."""
    rng = np.random.default_rng(0)
    for found in predict_boxes(load(checkpoint), dataset.images("val"), params.evaluate):
        large = found.boxes[(found.boxes[:, 2:4] - found.boxes[:, :2]).min(axis=1) > 6]
        rows = large[:40:4]
        moved = rows[:, :4] + rng.uniform(-0.8, 0.8, rows[:, :4].shape)
        moved = np.clip(moved, 0, [found.width, found.height] * 2)
        lines = label_lines(rows[:, 5].astype(int), moved, (found.width, found.height))
        (dataset.root / "labels" / f"{found.image.stem}.txt").write_text(lines)


@pytest.mark.parametrize(("task", "name"), MODELS, ids=[name for _, name in MODELS])
def test_validate__equals_evaluation(
    dataset: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path, task: Task, name: str
) -> None:
    model = awake(name, task)
    checkpoint = save(tmp_path / "checkpoint", model, task)
    if task == "detect":
        label_what_is_found(dataset, checkpoint, params)
    record = evaluate(
        load(checkpoint), dataset, "val", params.evaluate, model=load_info(checkpoint).model_info(), size_mb=1.0
    )
    job = FixedJob(task, name, params.teacher[task], cpu, dataset, tmp_path / "state", fixed=model)
    score = validate(job)[f"val/{main_score(task)}"]
    assert record.main > 0.05
    assert score == pytest.approx(record.main, abs=0.01)


def write_trained(folder: Path, task: Task) -> Path:
    """Write a model as a stock `.pt` file, as a user brings it, beside its checkpoint."""
    name = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}[task]
    checkpoint = save(folder / "mine", awake(name, task), task)
    export_ultralytics(checkpoint, folder / "mine.pt")
    return folder / "mine.pt"


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_adopt__writes_the_weights_of_the_file_as_they_are(
    dataset: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path, task: Task
) -> None:
    out, mine = tmp_path / "teacher", write_trained(tmp_path, task)
    recipe = params.teacher[task].model_copy(update={"epochs": 0})
    job = Job(task, str(mine), recipe, cpu, dataset, tmp_path / "state")
    adopt(job, out, out / "history.csv", made_by="test")
    model, info = load_checkpoint(out)
    before, _ = load_checkpoint(tmp_path / "mine")
    assert (info.role, info.best_epoch, info.classes) == ("teacher", 0, CLASSES)
    for key, value in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)
    header, row = (line.split(",") for line in (out / "history.csv").read_text().splitlines())
    assert header[:2] == ["epoch", "val/score"]
    assert row[0] == "0"
    assert 0 <= float(row[1]) <= 1


@pytest.mark.parametrize(
    "classes", [["circle", "star", "square"], ["circle", "square"], [*CLASSES, "cross"], ["a", "b", "c"]], ids=",".join
)
def test_adopt__refuses_a_model_of_other_classes(
    dataset: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path, classes: list[str]
) -> None:
    recipe = params.teacher["detect"].model_copy(update={"epochs": 0})
    other = replace(dataset, info=dataset.info.model_copy(update={"classes": classes}))
    job = Job("detect", str(write_trained(tmp_path, "detect")), recipe, cpu, other, tmp_path / "state")
    with pytest.raises(PipelineError, match=f"classes circle, square, star; the dataset has {', '.join(classes)}"):
        adopt(job, tmp_path / "teacher", tmp_path / "history.csv", made_by="test")
    assert not (tmp_path / "teacher").exists()
