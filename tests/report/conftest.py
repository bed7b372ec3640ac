"""A made-up run: where it lies, its parameters, and what its models saw."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.data.scenes import make_scene
from pipeline.params import Params
from pipeline.records import Skipped, write_record
from pipeline.report.boxes import Boxes
from pipeline.report.build import build_report
from pipeline.report.metrics import Metrics, Summary, build_metrics, build_summary
from pipeline.report.pictures import Drawings
from pipeline.report.prompt_masks import MaskedImage
from pipeline.report.results import TaskResults, read_results
from pipeline.report.sheet import Scene
from pipeline.tasks import Task
from tests.report.made_up import (
    TASK_CLASSES,
    write_dataset,
    write_model,
    write_prompt_history,
    write_skipped_control,
)

ROOT = Path(__file__).parents[2]
DETECT: Mapping[Task, tuple[str, ...]] = {"detect": ("nano",)}
SEGMENT: Mapping[Task, tuple[str, ...]] = {"segment": ("nano-sem",)}


@dataclass(frozen=True)
class Run:
    """Where a made-up run lies."""

    results: Path
    dataset: Path
    out: Path
    params: Params
    drawings: dict[Task, Drawings]

    def build(self) -> None:
        scratch = self.out.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        build_report(
            self.results, self.dataset, params=self.params, out=self.out, scratch=scratch, drawings=self.drawings
        )

    def read(self) -> list[TaskResults]:
        return [read_results(self.results, task, self.params.students_of(task), "scenes") for task in self.params.tasks]

    def write_numbers(self) -> tuple[Metrics, Summary]:
        """Write metrics.json and summary.json only: what history reads."""
        found = self.read()
        metrics, summary = build_metrics(found), build_summary(found)
        self.out.mkdir(exist_ok=True)
        (self.out / "metrics.json").write_text(json.dumps(metrics))
        (self.out / "summary.json").write_text(json.dumps(summary))
        return metrics, summary


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Give `write_run`, by default in the test's own folder."""
    return partial(write_run, tmp_path)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give a run of both tasks, two detectors and a segmenter, outside a git checkout, its report built; read only."""
    run = write_run(tmp_path_factory.mktemp("report"), tasks={"detect": ("nano", "pico"), **SEGMENT})
    run.build()
    return run


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make the test's folder a git checkout; give a function that commits all of it and returns the short hash."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a git hook that runs the tests sets them

    def git(*arguments: str) -> str:
        plain = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost", "-c", "core.hooksPath=/dev/null"]
        command = ["git", "-C", str(tmp_path), *plain, "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit_all(subject: str) -> str:
        git("add", "--all")
        git("commit", "--quiet", "--message", subject)
        return git("rev-parse", "--short", "HEAD")

    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text(".state/\n")
    return commit_all


def write_run(
    root: Path,
    *,
    tasks: Mapping[Task, tuple[str, ...]] = DETECT,
    control: bool = True,
    corrupted: str = "measured",
    fingerprint: str = "cpu-a",
    level: float = 0.612,
    p50_ms: float = 21.3,
) -> Run:
    """Write records, histories and a dataset under a folder; each student is 0.03 below the one before.

    `tasks` are their students; `corrupted` is `measured`, `skipped` or `absent`.
    """
    for task, students in tasks.items():
        write_model(root, task, "teacher", "teacher", level=level, p50_ms=p50_ms, fingerprint=fingerprint)
        write_prompt_history(root / "results" / task / "teacher/prompt_history.csv")
        for index, name in enumerate(students):
            at, faster = level - 0.03 * index, 0.24 / (index + 1)
            write_model(root, task, name, "distilled", level=at, p50_ms=p50_ms * faster, fingerprint=fingerprint)
            if control:
                write_model(root, task, name, "control", level=at, p50_ms=None, fingerprint=fingerprint)
            else:
                write_skipped_control(root, task, name)
    for path in (root / "results").rglob("robustness-*.json"):
        if corrupted == "skipped":
            write_record(path, Skipped(skipped="robustness.corruptions is empty in params.yaml"))
        elif corrupted == "absent":
            path.unlink()
    write_dataset(root / "dataset", set(tasks))
    params = fake_params(tasks, control=control)
    drawings = {task: fake_drawings(task, control=control) for task in tasks}
    return Run(root / "results", root / "dataset", root / "reports", params, drawings)


def fake_params(tasks: Mapping[Task, tuple[str, ...]], *, control: bool) -> Params:
    """Take the repository's parameters, with other students and without the other tasks."""
    raw: dict[str, Any] = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    for section in ("teacher", "student"):
        raw[section] = {task: raw[section][task] for task in tasks}
    raw["students"] = {
        name: {"task": task, "model": "scenes-n"} for task, students in tasks.items() for name in students
    }
    raw["control"]["enabled"] = control
    return Params.model_validate(raw)


def _boxes(scene: Any) -> tuple[Boxes, Callable[[int], Boxes]]:
    classes, scores = scene.class_ids % 4, np.linspace(0.3, 0.98, len(scene.class_ids))
    return Boxes(scene.boxes, classes), lambda place: Boxes(scene.boxes + place, classes, scores)


def _class_map(scene: Any) -> tuple[Any, Callable[[int], Any]]:
    truth = np.minimum(scene.mask, 4).astype(np.uint8)
    return truth, lambda place: np.roll(truth, 2 * place, axis=0)


SEEN: dict[Task, Callable[[Any], Any]] = {"detect": _boxes, "segment": _class_map}


def fake_drawings(task: Task, *, control: bool = True) -> Drawings:
    rng = np.random.default_rng(0)
    titles = ["teacher", *(["control"] if control else []), "distilled, ONNX"]
    scenes, masked = list[Scene[Any]](), []
    for index in range(2):
        scene = make_scene(0, "test", index, 64)
        name = f"scene-{index:05d}"
        truth, shifted = SEEN[task](scene)
        found = {title: shifted(place) for place, title in enumerate(titles)}
        scenes.append(Scene(name, scene.image, truth, found))
        bands = {f"level {side}": rng.uniform(0.4, 0.6, (side, side)).astype(np.float32) for side in (16, 8)}
        masked.append(MaskedImage(name, cv2.resize(scene.image, (32, 32)), bands))
    return Drawings(TASK_CLASSES[task], scenes, masked)
