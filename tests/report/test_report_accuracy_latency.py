"""Latency against accuracy is a picture, whatever was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.report.accuracy_latency import plot_accuracy_latency
from pipeline.report.history import Point, Snapshot
from pipeline.report.style import MARKERS
from pipeline.tasks import Task

HERE = ("cpu-a", 2, 1)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_accuracy_latency__drawn_with_and_without_points(tmp_path: Path, task: Task) -> None:
    points = [
        Point("teacher", "teacher", "torch", 0.61, 21.0, HERE, "d"),
        Point("nano", "control", "torch", 0.4, 5.0, HERE, "d"),
        Point("nano", "distilled", "torch", 0.5, 5.0, HERE, "d"),
        Point("nano", "distilled", "a-future-runtime", 0.5, 2.0, HERE, "d"),
    ]
    for name, now in (("some.png", points), ("none.png", [])):
        plot_accuracy_latency(tmp_path / name, now, [], task, 0.05)
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 300
            assert np.asarray(picture.convert("L")).std() > 5


def test_accuracy_latency__earlier_commits_get_their_own_panel(tmp_path: Path) -> None:
    now = [Point("nano", "distilled", "torch", 0.5, 5.0, HERE, "d")]
    device = {"teacher": {"fingerprint": "cpu-b", "threads": 2, "batch_size": 1}}
    metrics = {"detect": {"teacher": {"torch": {"map50_95": 0.6, "p50_ms": 9.0}}}}
    earlier = [Snapshot("abc1234", "2026-01-01", "First", metrics, {"detect": {"device": device}})]
    cases: list[tuple[str, Task, list[Snapshot]]] = [
        ("one.png", "detect", []),
        ("two.png", "detect", earlier),
        ("other.png", "segment", earlier),  # a commit before there was this task
    ]
    for name, task, snapshots in cases:
        plot_accuracy_latency(tmp_path / name, now, snapshots, task, None)
    one, two, other = (Image.open(tmp_path / name).width for name, _, _ in cases)
    assert other == one < two


@pytest.mark.parametrize("history", [False, True])
def test_accuracy_latency__the_legend_of_every_runtime_fits(tmp_path: Path, history: bool) -> None:
    distilled = [Point("nano", "distilled", runtime, 0.5, 5.0, HERE, "d") for runtime in MARKERS]
    now = [Point("teacher", "teacher", "torch", 0.6, 9.0, HERE, "d"), *distilled]
    now.append(Point("nano", "control", "torch", 0.4, 5.0, HERE, "d"))
    metrics = {"detect": {"teacher": {"torch": {"map50_95": 0.6, "p50_ms": 9.0}}}}
    device = {"teacher": {"fingerprint": "cpu-b", "threads": 2, "batch_size": 1}}
    earlier = [Snapshot("abc1234", "2026-01-01", "First", metrics, {"detect": {"device": device}})] if history else []

    plot_accuracy_latency(tmp_path / "plot.png", now, earlier, "detect", 0.05)

    with Image.open(tmp_path / "plot.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert (pixels[:, [0, -1]] == 255).all()
