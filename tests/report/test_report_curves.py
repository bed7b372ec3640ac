"""Curves are pictures, whatever is missing; histories that are not tables are refused by line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.report.curves import plot_prompt_curve, plot_training_curves, read_curve


def _is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.format == "PNG" and min(picture.size) > 300 and np.asarray(picture.convert("L")).std() > 5


def test_training_curves__histories_of_different_columns(tmp_path: Path) -> None:
    epochs = {"epoch": [1.0, 2.0, 3.0], "val/score": [0.1, math.nan, 0.3]}
    plain = epochs | {"train/box": [3.0, 2.0, 1.0]}
    runs = {
        "teacher": epochs | {"train/one": [2.0, 1.0, 0.5], "train/two": [1.0, 0.5, 0.2]},
        "nano control": plain,
        "nano distilled": plain | {"train/high": [90.0, 3.0, 0.1], "train/distill_share": [0.3, 0.2, 0.2]},
        "pico distilled": epochs | {"train/unlike_any": [1.0, 1.0, 1.0]},
    }
    plot_training_curves(tmp_path / "curves.png", runs, "segment")
    assert _is_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("iterations", [1, 400])
def test_prompt_curve__short_and_long(tmp_path: Path, iterations: int) -> None:
    steps = [float(i) for i in range(iterations)]
    plot_prompt_curve(tmp_path / "prompt.png", {"iteration": steps, "task_loss": steps, "overlap": steps})
    assert _is_picture(tmp_path / "prompt.png")


def test_read_curve__empty_cell_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch, val/score\n1,\n2,0.5\n")
    curve = read_curve(path, ["epoch"])
    assert curve["epoch"] == [1, 2]
    assert math.isnan(curve["val/score"][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1,2\n", r"history\.csv:1: expected a column val/score, got epoch, loss"),
        ("", r"history\.csv:1: expected a column epoch, val/score, got nothing"),
        ("epoch,val/score\n1,0.1\n2,high\n", r"history\.csv:3: expected 2 numbers, got '2,high'"),
        ("epoch,val/score\n1,0.1\n2\n", r"history\.csv:3: expected 2 numbers, got '2'"),
    ],
)
def test_read_curve__says_what_is_wrong_and_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(PipelineError, match=message):
        read_curve(path, ["epoch", "val/score"])
