"""A temporary clone of the working tree, for tests that run the chain."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # the chain starts a process per stage: compile once
RESULTS = ("results/", "reports/", "dvc.lock")


def make_clone(clone: Path, changes: Mapping[str, object]) -> Path:
    """Copy what git would clone, but for the results of earlier runs; change params; commit."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists() and not name.startswith(RESULTS):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    set_params(clone, changes)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "clone"]):
        subprocess.run([*git, *command], cwd=clone, check=True)
    return clone


def set_params(clone: Path, changes: Mapping[str, object]) -> None:
    """Set keys such as `teacher.epochs` in a clone's params.yaml; comments stay."""
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    for key, value in changes.items():
        section = params
        *parents, leaf = key.split(".")
        for parent in parents:
            section = section[parent]
        section[leaf] = value
    yaml.dump(params, clone / "params.yaml")


def remove_param(clone: Path, section: str, key: str) -> None:
    """Take a key out of a section, if it is there."""
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    params[section].pop(key, None)
    yaml.dump(params, clone / "params.yaml")
