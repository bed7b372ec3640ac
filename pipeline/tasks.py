"""The two tasks: what they are called, and what their accuracy consists of."""

from __future__ import annotations

from typing import Final, Literal

Task = Literal["detect", "segment"]
TASKS: Final[tuple[Task, ...]] = ("detect", "segment")
ULTRALYTICS_TASK: Final[dict[Task, str]] = {"detect": "detect", "segment": "semantic"}  # its `segment` is another

# Key in records and metrics -> title in tables. The first is the one that decisions are made on.
SCORES: Final[dict[Task, dict[str, str]]] = {
    "detect": {
        "map50_95": "AP50-95",
        "map50": "AP50",
        "map75": "AP75",
        "map_small": "AP small",
        "map_medium": "AP medium",
        "map_large": "AP large",
        "precision": "P",
        "recall": "R",
        "f1": "F1",
    },
    "segment": {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "boundary_f": "boundary F"},
}


def main_score(task: Task) -> str:
    """Return the key of the score that decisions are made on: map50_95 or miou."""
    return next(iter(SCORES[task]))


def main_title(task: Task) -> str:
    """Return how tables call the main score."""
    return SCORES[task][main_score(task)]
