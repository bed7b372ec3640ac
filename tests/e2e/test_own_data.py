"""docs/own-data.md, step by step, on a small dataset and with small models."""

import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.data.scenes import CLASSES, make_scene
from tests.e2e.clone import ENVIRONMENT, ROOT, make_clone, remove_param, set_params

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALLER = {
    "machine.device": "cpu",
    "prepare.image_size_px": 64,
    "prepare.calibration_images": 8,
    "teacher.detect.model": "micro-s.yaml",
    "teacher.detect.epochs": 1,
    "teacher.detect.close_mosaic_epochs": 0,
    "prompt.levels": 2,
    "prompt.iterations": 2,
    "student.detect.epochs": 1,
    "student.detect.close_mosaic_epochs": 0,
    "robustness.images": 2,
    "export.parity_images": 2,
    "benchmark.warmup_s": 0.0,
    "benchmark.min_time_s": 0.1,
    "benchmark.min_runs": 5,
    "report.images": 2,
}


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


def flat(section: dict[str, Any]) -> dict[str, Any]:
    """Turn a yaml block of the tutorial into `section.key: value`; mappings of names are replaced as a whole."""
    keys: dict[str, Any] = {}
    for name, values in section.items():
        if name in {"students", "augment"} or not isinstance(values, dict):
            keys[name] = values
        else:
            keys |= {f"{name}.{key}": value for key, value in flat(values).items()}
    return keys


def test_own_data__the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    write_voc(tmp_path / "bccd")
    clone = make_clone(tmp_path / "clone", {})
    printed = ""
    for kind, block in re.findall(r"```(yaml|sh)\n(.*?)```", (ROOT / "docs/own-data.md").read_text(), re.DOTALL):
        if kind == "yaml":
            set_params(clone, flat(YAML(typ="safe").load(block)))
            set_params(clone, SMALLER)
            remove_param(clone, "teacher", "segment")  # as section 3 says
            continue
        environment = {**ENVIRONMENT, **dict.fromkeys(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"], "test")}
        environment |= dict.fromkeys(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"], "test@example.org")
        done = subprocess.run(
            ["bash", "-euc", block], cwd=clone, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, block + done.stdout[-2000:] + done.stderr[-3000:]
        printed += done.stdout + done.stderr
    assert "1 x box of zero or negative area" in printed
    assert "annotations_voc/val/val3.xml:" in printed
    assert (clone / "reports/report.html").exists()
    assert (clone / "artifacts/detect/micro-s/export/fp32.onnx").exists()
    log = subprocess.check_output(["git", "log", "--oneline"], cwd=clone, text=True)
    assert "BCCD, micro-s under yolov8n" in log
