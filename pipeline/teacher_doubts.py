"""Whether a teacher has something to teach: said in the distillation's log and in the report."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pipeline.tasks import Task, main_title


def architecture_doubt(teacher: str, student: str) -> str | None:
    """Say that teacher and student have the same architecture, if they do."""
    if teacher != student:
        return None
    return f"the teacher has the student's own architecture, {teacher}: it has little to teach, choose a larger one"


def score_doubt(task: Task, teacher: float, others: Mapping[str, float]) -> str | None:
    """Say that the teacher is not better than a model that should learn from it, if so.

    Args:
        task: Names the score.
        teacher: Its score, 0 to 1.
        others: Scores on the same images of the control, the distilled student or both, by what they are called.

    """
    not_worse = {name: score for name, score in others.items() if score >= teacher}
    if not not_worse:
        return None
    listed = " and ".join(f"{name} {score:.3f}" for name, score in not_worse.items())
    return (
        f"the teacher's {main_title(task)} is {teacher:.3f}, not above {listed}: train the teacher longer, or choose a "
        "better one"
    )


def best_score(history: Path) -> float | None:
    """Return the best `val/score` of a training history; None where there is none."""
    if not history.is_file():
        return None
    with history.open(newline="") as file:
        scores = [float(row["val/score"]) for row in csv.DictReader(file)]
    return max(scores, default=None)
