"""One tiny dataset, written in all three formats side by side, so that the readers can be held against each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.params import Prepare

CLASSES = ["cat", "dog"]
WIDTH, HEIGHT = 64, 32  # powers of two: normalised labels are exact
Boxes = list[tuple[str, tuple[int, int, int, int]]]
SAMPLES: dict[str, tuple[str, Boxes]] = {
    "a": ("train", [("cat", (0, 0, 16, 8)), ("dog", (8, 4, 64, 32))]),
    "b": ("train", [("dog", (1, 2, 3, 5))]),
    "c": ("train", []),
    "d": ("train", [("cat", (10, 10, 20, 20))]),
    "e": ("val", [("cat", (30, 0, 40, 10))]),
    "f": ("test", [("dog", (5, 6, 50, 30)), ("dog", (6, 6, 50, 30))]),
}


def pixels(number: int) -> np.ndarray:
    """Return an image that differs for every number, (HEIGHT, WIDTH, 3)."""
    return np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def write_images(root: Path) -> None:
    for number, (name, (split, _)) in enumerate(SAMPLES.items()):
        folder = root / "images" / split
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), pixels(number))


def write_yolo(root: Path) -> None:
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(CLASSES))
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\ntest: images/test\nnames:\n{names}\n")
    for name, (split, boxes) in SAMPLES.items():
        rows = []
        for label, (x1, y1, x2, y2) in boxes:
            numbers = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
            rows.append(f"{CLASSES.index(label)} {' '.join(map(str, numbers))}\n")
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"{name}.txt").write_text("".join(rows))


def write_coco(root: Path) -> None:
    """Category ids have a gap and stand in disorder."""
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    (root / "annotations").mkdir()
    for split in ("train", "val", "test"):
        images, annotations = [], []
        for number, (name, (its_split, boxes)) in enumerate(SAMPLES.items()):
            if its_split == split:
                images.append({"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT})
                for label, (x1, y1, x2, y2) in boxes:
                    bbox, category = [x1, y1, x2 - x1, y2 - y1], {"cat": 3, "dog": 7}[label]
                    number_so_far = len(annotations)
                    annotations.append(
                        {"id": number_so_far, "image_id": number, "category_id": category, "bbox": bbox, "iscrowd": 0}
                    )
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content, indent=1))


def write_voc(root: Path) -> None:
    for name, (split, boxes) in SAMPLES.items():
        objects = "".join(
            f"<object>\n<part><name>tail</name></part>\n<name>{label}</name>\n<difficult>1</difficult>\n<bndbox>"
            f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>\n</object>\n"
            for label, (x1, y1, x2, y2) in boxes
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        folder = root / "voc" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.xml").write_text(
            f"<annotation>\n<filename>{name}.png</filename>\n{size}\n{objects}</annotation>\n"
        )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder that is a YOLO (`data.yaml`), COCO (`annotations`) and VOC (`voc`) dataset at once."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for write in (write_images, write_yolo, write_coco, write_voc):
        write(folder)
    return folder


@pytest.fixture
def make_params() -> Callable[..., Prepare]:
    """Return a function that makes the stage's parameters, changed where asked."""

    def make(**changes: object) -> Prepare:
        scenes = {"train_images": 3, "val_images": 2, "test_images": 2}
        usual = {"source": "scenes", "path": ".", "annotations": None, "image_size_px": 64, "calibration_images": 2}
        masks = {"classes": "classes.txt", "ignore": [], "resize": False}
        usual |= {"val_fraction": 0.0, "test_fraction": 0.0, "seed": 0, "scenes": scenes, "masks": masks}
        usual["coco"] = {"keep_crowds": False}
        return Prepare.model_validate(usual | changes)

    return make
