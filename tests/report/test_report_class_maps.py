"""Class maps lie over the image in their classes' colours, and the scores under them are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.colours import PALETTE
from pipeline.data.prepared import IGNORE
from pipeline.report.class_maps import _verdict, draw_class_maps
from pipeline.report.sheet import Scene

CLASSES = ["background", "cat", "dog"]
IMAGE = np.full((64, 64, 3), (200, 40, 40), dtype=np.uint8)
SIDE, TOP = 397, 34  # of a cell among four columns, and where the first row begins


def _map(value: int = 0, **patches: tuple[slice, slice]) -> Any:
    found = np.full((64, 64), value, dtype=np.uint8)
    for name, place in patches.items():
        found[place] = IGNORE if name == "ignored" else CLASSES.index(name)
    return found


def _cells(path: Path, truth: Any, *predictions: Any) -> list[Any]:
    found = {f"model {index}": prediction for index, prediction in enumerate(predictions)}
    draw_class_maps(path, [Scene("one", IMAGE, truth, found)], CLASSES)
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return [sheet[TOP : TOP + SIDE, 10 + k * (SIDE + 10) : 10 + k * (SIDE + 10) + SIDE] for k in range(4)]


LEFT, RIGHT = np.s_[:, :32], np.s_[:, 32:]


def test_class_maps__image_truth_and_models_side_by_side(tmp_path: Path) -> None:
    image, truth, right, wrong = _cells(tmp_path / "m.png", _map(cat=LEFT), _map(cat=LEFT), _map(dog=LEFT))
    assert (image == IMAGE[0, 0]).all()
    assert (truth == right).all()
    assert not (truth == wrong)[:, : SIDE // 2].all(axis=-1).any()
    assert (truth == wrong)[:, SIDE // 2 + 3 :].all()


def test_class_maps__class_colour_inside_and_full_at_its_boundary(tmp_path: Path) -> None:
    truth = _cells(tmp_path / "m.png", _map(cat=LEFT), _map(), _map())[1]
    boundary, inside = truth[200, SIDE // 2 - 2], truth[200, 60]
    assert tuple(boundary) == PALETTE[0]
    red, green, blue = inside
    assert red > green > blue  # an orange, through which the image shows
    assert tuple(inside) != tuple(boundary)


def test_class_maps__background_is_grey_and_ignored_is_hatched(tmp_path: Path) -> None:
    truth = _cells(tmp_path / "m.png", _map(ignored=LEFT), _map(), _map())[1]
    plain, hatched = truth[:, SIDE // 2 + 3 :], truth[:, : SIDE // 2 - 3]
    assert len(np.unique(plain)) == 1
    assert len(np.unique(hatched)) == 2


def test_class_maps__legend_names_what_is_shown_and_nothing_else(tmp_path: Path) -> None:
    two, four = tmp_path / "two.png", tmp_path / "four.png"
    _cells(two, _map(cat=LEFT), _map(), _map())
    _cells(four, _map(cat=LEFT, ignored=RIGHT), _map(dog=LEFT), _map())
    swatches = [np.asarray(Image.open(path).convert("RGB"))[-26:-8] for path in (two, four)]
    shown = [[bool((strip == colour).all(axis=-1).any()) for colour in PALETTE[:2]] for strip in swatches]
    assert shown == [[True, False], [True, True]]


def test_class_maps__more_classes_than_colours(tmp_path: Path) -> None:
    classes = [f"class {index}" for index in range(150)]
    found = np.arange(64 * 64).reshape(64, 64).astype(np.uint8) % 150
    draw_class_maps(tmp_path / "m.png", [Scene("one", IMAGE, found, {"teacher": found})], classes)
    with Image.open(tmp_path / "m.png") as sheet:
        assert sheet.height > 34 + 397 + 36 + 5 * 26  # the legend takes several lines


@pytest.mark.parametrize("shape", [(30, 200), (200, 30), (5, 5)])
def test_class_maps__any_image_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    scene = Scene("one", np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), {"a": np.ones(shape, np.uint8)})
    draw_class_maps(tmp_path / "m.png", [scene], CLASSES)
    assert Image.open(tmp_path / "m.png").width > 400


@pytest.mark.parametrize(
    ("truth", "found", "verdict"),
    [
        (_map(cat=LEFT), _map(cat=LEFT), "mIoU 1.00, 100.0 % of pixels right"),
        (_map(cat=LEFT), _map(), "mIoU 0.25, 50.0 % of pixels right"),
        (_map(), _map(dog=LEFT), "mIoU 0.50, 50.0 % of pixels right"),  # dog is not in the truth: not in the mean
        (_map(ignored=LEFT), _map(dog=LEFT), "mIoU 1.00, 100.0 % of pixels right"),
        (_map(IGNORE), _map(), "no labelled pixel"),
    ],
)
def test_verdict__over_the_classes_of_the_truth_and_its_labelled_pixels(truth: Any, found: Any, verdict: str) -> None:
    assert _verdict(truth, found) == verdict
