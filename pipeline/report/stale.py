"""Results that no stage of this params.yaml makes."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.params import Params
from pipeline.tasks import TASKS


def remove_stale_results(results: Path, params: Params) -> list[Path]:
    """Remove the records of tasks and students that params.yaml does not name; devices' records stay.

    Returns:
        The folders that were removed.

    """
    stale = []
    for task in TASKS:
        made = {"teacher", *params.students_of(task)} if task in params.teacher else set[str]()
        folders = [path for path in (results / task).glob("*") if path.is_dir() and path.name not in made]
        stale += folders if made else [path for path in [results / task] if path.is_dir()]
    for folder in stale:
        shutil.rmtree(folder)
    return stale
