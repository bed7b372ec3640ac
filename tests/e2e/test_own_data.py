"""docs/own-data.md, step by step, on a small dataset and with small models."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.data.scenes import CLASSES, make_scene
from pipeline.tasks import Task
from tests.e2e.clone import ENVIRONMENT, ROOT, make_clone, remove_param, set_params

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TUTORIAL = (ROOT / "docs/own-data.md").read_text()
SEGMENTATION = "## 6. Semantic segmentation\n"
QUICK: dict[str, object] = {
    "machine.device": "cpu",
    "prepare.image_size_px": 64,
    "prepare.calibration_images": 8,
    "prompt.levels": 2,
    "prompt.iterations": 2,
    "robustness.corruptions": ["fog"],
    "robustness.images": 2,
    "export.parity_images": 2,
    "export.enforce_max_drop": False,  # the models are hardly trained
    "benchmark.batch_sizes": [1, 2],
    "benchmark.warmup_min_s": 0.0,
    "benchmark.warmup_max_s": 0.0,
    "benchmark.min_time_s": 0.1,
    "benchmark.min_runs": 5,
    "report.images": 2,
}
SMALLER = QUICK | {
    "teacher.detect.model": "micro-s.yaml",
    "teacher.detect.epochs": 1,
    "teacher.detect.close_mosaic_epochs": 0,
    "student.detect.epochs": 1,
    "student.detect.close_mosaic_epochs": 0,
}
SMALLER_SEGMENTER = QUICK | {
    "teacher.segment.model": "deeplabv3plus-mobilenet",
    "teacher.segment.epochs": 1,
    "student.segment.epochs": 1,
}
SMALL_STUDENTS = {"pspnet-resnet18-imagenet": "pspnet-mobilenet", "yolo26n-sem.pt": "yolo26n-sem.yaml"}


def write_voc(root: Path) -> None:
    """Write scenes in BCCD's layout, with the one defect that the tutorial speaks of."""
    for split, count in {"train": 24, "val": 8, "test": 8}.items():
        for folder in ("images", "annotations_voc"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            scene = make_scene(0, split, index, 64)  # type: ignore[arg-type]
            cv2.imwrite(str(root / f"images/{split}/{split}{index}.png"), scene.image[..., ::-1])
            boxes = [
                (CLASSES[k], *np.round(box).astype(int)) for k, box in zip(scene.class_ids, scene.boxes, strict=True)
            ]
            if (split, index) == ("val", 3):
                boxes.append((CLASSES[0], 5, 5, 5, 9))
            (root / f"annotations_voc/{split}/{split}{index}.xml").write_text(voc_xml(f"{split}{index}.png", boxes))


def voc_xml(name: str, boxes: list[tuple[Any, ...]]) -> str:
    objects = "".join(
        f"  <object><name>{kind}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>\n"
        for kind, x1, y1, x2, y2 in boxes
    )
    return f"<annotation>\n  <filename>{name}</filename>\n{objects}</annotation>\n"


def write_camvid(root: Path) -> None:
    """Write scenes in the layout of the tutorial's segmentation data, a corner of each without a label."""
    (root / "images").mkdir(parents=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in ("background", *CLASSES, "Unlabelled")))
    for split, count in {"train": 24, "val": 8, "test": 8}.items():
        for folder in ("images", "masks"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            scene = make_scene(0, split, index, 64)  # type: ignore[arg-type]
            scene.mask[:10, :10] = len(CLASSES) + 1
            cv2.imwrite(str(root / f"images/{split}/{split}{index}.png"), scene.image[..., ::-1])
            cv2.imwrite(str(root / f"masks/{split}/{split}{index}.png"), scene.mask)


def flat(section: dict[str, Any]) -> dict[str, Any]:
    """Turn a yaml block of the tutorial into `section.key: value`; mappings of names are replaced as a whole."""
    keys: dict[str, Any] = {}
    for name, values in section.items():
        if name in {"students", "augment"} or not isinstance(values, dict):
            keys[name] = values
        else:
            keys |= {f"{name}.{key}": value for key, value in flat(values).items()}
    return keys


def blocks(text: str) -> list[tuple[str, str]]:
    """List the code blocks that are followed, `yaml` and `sh`."""
    return re.findall(r"```(yaml|sh)\n(.*?)```", text, re.DOTALL)


def follow(clone: Path, block: str, smaller: dict[str, object], without: Task) -> None:
    """Set what a yaml block says, but smaller; where it replaces the students, the other task goes."""
    changes = flat(YAML(typ="safe").load(block))
    set_params(clone, changes)
    set_params(clone, smaller)
    if "students" in changes:
        remove_param(clone, "teacher", without)


def execute(clone: Path, commands: str) -> str:
    """Run a block of shell commands and return what it printed."""
    environment = {**ENVIRONMENT, **dict.fromkeys(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"], "test")}
    environment |= dict.fromkeys(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"], "test@example.org")
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, commands + done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_own_data__the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    write_voc(tmp_path / "bccd")
    clone = make_clone(tmp_path / "clone", {})
    stale = clone / "results/segment/micro-s-sem/control/history.csv"  # of the run that the clone came with
    stale.parent.mkdir(parents=True)
    stale.write_text("epoch\n")
    detection, _ = TUTORIAL.split(SEGMENTATION)
    printed = ""
    for kind, block in blocks(detection):
        if kind == "yaml":
            follow(clone, block, SMALLER, without="segment")
        else:
            printed += execute(clone, block)
    assert "1 x box of zero or negative area" in printed
    assert "annotations_voc/val/val3.xml:" in printed
    assert (clone / "reports/report.html").exists()
    assert (clone / "artifacts/detect/micro-s/export/fp32.onnx").exists()
    assert not (clone / "artifacts/segment").exists()
    assert not (clone / "results/segment").exists()
    log = subprocess.check_output(["git", "log", "--oneline"], cwd=clone, text=True)
    assert "BCCD, micro-s under yolov8n" in log


def test_own_data__masks_alone_go_through_the_chain_as_the_tutorial_says(tmp_path: Path) -> None:
    write_camvid(tmp_path / "camvid")
    clone = make_clone(tmp_path / "clone", {})
    _, segmentation = TUTORIAL.split(SEGMENTATION)
    for kind, block in blocks(segmentation):
        assert kind == "yaml"
        follow(clone, block, SMALLER_SEGMENTER, without="detect")
    models = YAML(typ="safe").load(clone / "params.yaml")["students"]
    set_params(clone, {f"students.{name}.model": SMALL_STUDENTS[model["model"]] for name, model in models.items()})
    execute(clone, "python -m pipeline check-data; dvc repro")
    shown = execute(clone, "COLUMNS=120 python -m pipeline show")
    info = json.loads((clone / "dataset/dataset.json").read_text())
    assert (info["classes"], info["mask_classes"]) == ([], ["background", *CLASSES])
    metrics = json.loads((clone / "reports/metrics.json").read_text())
    assert list(metrics) == ["segment"]
    for name in models:
        assert name in shown
        assert (clone / f"artifacts/segment/{name}/export/fp32.onnx").exists()
        assert {"miou", "pixel_accuracy", "boundary_f"} <= set(metrics["segment"][name]["distilled"]["torch"])
    assert not (clone / "artifacts/detect").exists()
