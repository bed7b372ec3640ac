"""Boxes are drawn over any image, and the count under them is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.report.boxes import Boxes, _verdict, draw_boxes, undrawn
from pipeline.report.sheet import Scene

GREY = np.full((96, 128, 3), 128, dtype=np.uint8)


def _boxes(rows: list[list[float]], classes: list[int], scores: list[float] | None = None) -> Boxes:
    return Boxes(
        np.array(rows, dtype=np.float32).reshape(-1, 4),
        np.array(classes, dtype=np.int64),
        None if scores is None else np.array(scores),
    )


TRUTH = _boxes([[10, 10, 50, 50], [60, 20, 100, 60]], [0, 1])


def _draw(path: Path, found: Boxes, image: Any = GREY) -> Any:
    draw_boxes(path, [Scene("scene-1", image, TRUTH, {"teacher": found})], ["cat", "dog"])
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_boxes__in_their_colour_where_they_are_and_none_below_the_score(tmp_path: Path) -> None:
    high = _draw(tmp_path / "high.png", _boxes([[10, 10, 50, 50]], [0], [0.9]))
    low = _draw(tmp_path / "low.png", _boxes([[10, 10, 50, 50]], [0], [0.1]))
    differs = np.abs(high - low).sum(axis=-1) > 0
    ys, xs = np.nonzero(differs[: 34 + 300])
    scale, left = 400 / 128, 10 + 400 + 10  # the second cell
    assert left + 10 * scale - 2 <= xs.min() <= left + 10 * scale + 2
    assert ys.max() == pytest.approx(34 + 50 * scale, abs=2)


@pytest.mark.parametrize("shape", [(96, 128, 3), (600, 40, 3), (7, 7, 3)])
def test_boxes__any_image_size_and_degenerate_boxes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    odd = _boxes([[5, 5, 5, 5], [-20, -20, 999, 999], [500, 500, 501, 501], [3, 3, 1, 1]], [0, 1, 0, 1], [1, 1, 1, 1])
    assert _draw(tmp_path / "p.png", odd, np.zeros(shape, dtype=np.uint8)).std() > 0


def test_boxes__many_are_told_apart_by_color_alone(tmp_path: Path) -> None:
    rows = [[2.0 + 3 * step, 5.0 + 2 * step, 40.0 + 3 * step, 40.0 + 2 * step] for step in range(20)]
    pictures = []
    for names in (["cat", "dog"], ["a long name", "another"]):
        truth = _boxes(rows, [step % 2 for step in range(20)])
        draw_boxes(tmp_path / "p.png", [Scene("s", GREY, truth, {"teacher": truth})], names)
        pictures.append(np.asarray(Image.open(tmp_path / "p.png"))[: 34 + 300])
    assert (pictures[0] == pictures[1]).all()


def test_undrawn__names_models_whose_scores_are_all_low() -> None:
    low, high, none = (_boxes([[1, 1, 9, 9]], [0], [score]) for score in (0.07, 0.3, 0.1))
    nothing = _boxes([], [], [])
    scenes = [
        Scene("one", GREY, TRUTH, {"teacher": low, "control": none, "distilled, ONNX": nothing}),
        Scene("two", GREY, TRUTH, {"teacher": low, "control": high, "distilled, ONNX": nothing}),
    ]
    assert undrawn(scenes) == ("No box is drawn of teacher (highest score 0.07), distilled, ONNX (highest score 0.00).")
    assert undrawn([Scene("two", GREY, TRUTH, {"control": high})]) == ""


def test_boxes__nothing_found(tmp_path: Path) -> None:
    assert _draw(tmp_path / "p.png", _boxes([], [], [])).std() > 0


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (_boxes([], [], []), "0 of 2 found, 0 false"),
        (_boxes([[11, 10, 50, 50], [61, 20, 100, 60]], [0, 1], [0.9, 0.8]), "2 of 2 found, 0 false"),
        (_boxes([[11, 10, 50, 50]], [1], [0.9]), "0 of 2 found, 1 false"),
        (_boxes([[10, 10, 50, 50], [12, 12, 50, 50]], [0, 0], [0.4, 0.9]), "1 of 2 found, 1 false"),
        (_boxes([[30, 10, 70, 50]], [0], [0.9]), "0 of 2 found, 1 false"),
    ],
)
def test_verdict__right_class_at_iou_half_and_each_object_once(found: Boxes, verdict: str) -> None:
    assert _verdict(TRUTH, found) == verdict
