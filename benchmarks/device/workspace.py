"""A copy of the repository with other params, in which single stages run without DVC."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("benchmarks", "models", "pipeline", "stages", "dvc.yaml", "params.yaml")

SMALL: Final[dict[str, Any]] = {  # for a dry run, and for what only has to run once
    "prepare.image_size_px": 64,
    "prepare.calibration_images": 8,
    "prepare.scenes": {"train_images": 48, "val_images": 16, "test_images": 16},
    "teacher.detect.model": "micro-s.yaml",
    "teacher.detect.epochs": 2,
    "prompt.levels": 2,
    "prompt.iterations": 4,
    "students.micro-s.model": "micro-n.yaml",
    "student.detect.epochs": 3,
    "robustness.corruptions": [],
    "export.parity_images": 4,
    "export.enforce_max_drop": False,
}


def make_workspace(folder: Path, changes: Mapping[str, Any]) -> Path:
    """Copy code and params into a new folder, and set keys such as `teacher.detect.epochs`; detection alone stays."""
    folder.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name)  # type: ignore[operator]
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    for section in ("teacher", "student", "distill"):
        del params[section]["segment"]
    del params["students"]["micro-s-sem"]
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    yaml.dump(params, folder / "params.yaml")
    return folder


def run_stage(folder: Path, *stage: str) -> float:
    """Run a stage such as `distill micro-s` and return its seconds.

    Raises:
        subprocess.CalledProcessError: if it fails; what it says is in the step's log.

    """
    start = time.monotonic()
    print(f"=== {' '.join(stage)}", flush=True)
    subprocess.run(stage_command(*stage), cwd=folder, check=True)
    return round(time.monotonic() - start, 1)


def stage_command(name: str, *item: str) -> list[str]:
    """Return the command of a stage, with this interpreter."""
    return [sys.executable, "-m", f"stages.{name}", *item]
