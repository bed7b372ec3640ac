"""Plots are pictures, whatever is missing; histories that are not tables are refused by line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.report.history import Point, Snapshot
from pipeline.report.plots import plot_accuracy_latency, plot_prompt_curve, plot_training_curves, read_curve

HERE = ("cpu-a", 2, 1)


def _is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.format == "PNG" and min(picture.size) > 300 and np.asarray(picture.convert("L")).std() > 5


def test_accuracy_latency__drawn_with_and_without_points(tmp_path: Path) -> None:
    points = [
        Point("teacher", "teacher", "torch", 0.61, 21.0, HERE, "d"),
        Point("nano", "distilled", "torch", 0.5, 5.0, HERE, "d"),
        Point("nano", "distilled", "a-future-runtime", 0.5, 2.0, HERE, "d"),
    ]
    for name, now in (("some.png", points), ("none.png", [])):
        plot_accuracy_latency(tmp_path / name, now, [], "detect")
        assert _is_picture(tmp_path / name)


def test_accuracy_latency__earlier_commits_get_their_own_panel(tmp_path: Path) -> None:
    now = [Point("nano", "distilled", "torch", 0.5, 5.0, HERE, "d")]
    device = {"teacher": {"fingerprint": "cpu-b", "threads": 2, "batch_size": 1}}
    metrics = {"detect": {"teacher": {"torch": {"map50_95": 0.6, "p50_ms": 9.0}}}}
    earlier = [Snapshot("abc1234", "2026-01-01", "First", metrics, {"detect": {"device": device}})]
    for name, snapshots in (("one.png", []), ("two.png", earlier)):
        plot_accuracy_latency(tmp_path / name, now, snapshots, "detect")
    assert Image.open(tmp_path / "two.png").width > Image.open(tmp_path / "one.png").width


def test_training_curves__histories_of_different_columns(tmp_path: Path) -> None:
    epochs = {"epoch": [1.0, 2.0, 3.0], "val/map50_95": [0.1, math.nan, 0.3]}
    plain = epochs | {"train/box": [3.0, 2.0, 1.0]}
    runs = {
        "teacher": epochs | {"train/one": [2.0, 1.0, 0.5], "train/two": [1.0, 0.5, 0.2]},
        "nano control": plain,
        "nano distilled": plain | {"train/high": [90.0, 3.0, 0.1], "train/distill_share": [0.3, 0.2, 0.2]},
        "pico distilled": epochs | {"train/unlike_any": [1.0, 1.0, 1.0]},
    }
    plot_training_curves(tmp_path / "curves.png", runs)
    assert _is_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("iterations", [1, 400])
def test_prompt_curve__short_and_long(tmp_path: Path, iterations: int) -> None:
    steps = [float(i) for i in range(iterations)]
    plot_prompt_curve(tmp_path / "prompt.png", {"iteration": steps, "task_loss": steps, "overlap": steps})
    assert _is_picture(tmp_path / "prompt.png")


def test_read_curve__empty_cell_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("epoch, val/map50_95\n1,\n2,0.5\n")
    curve = read_curve(path, ["epoch"])
    assert curve["epoch"] == [1, 2]
    assert math.isnan(curve["val/map50_95"][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1,2\n", r"history\.csv:1: expected a column val/map50_95, got epoch, loss"),
        ("", r"history\.csv:1: expected a column epoch, val/map50_95, got nothing"),
        ("epoch,val/map50_95\n1,0.1\n2,high\n", r"history\.csv:3: expected 2 numbers, got '2,high'"),
        ("epoch,val/map50_95\n1,0.1\n2\n", r"history\.csv:3: expected 2 numbers, got '2'"),
    ],
)
def test_read_curve__says_what_is_wrong_and_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(PipelineError, match=message):
        read_curve(path, ["epoch", "val/map50_95"])
