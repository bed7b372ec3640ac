"""What losses may ask for beside the maps, for each task: `confidence`, `boxes`, `objects`, and the class scores."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.distill.pairing import averaged
from pipeline.distill.regions import region_boxes
from pipeline.features import Features, box_outputs, class_logits, split_outputs
from pipeline.tasks import Task


@dataclass(frozen=True)
class Step:
    """One training step.

    Attributes:
        teacher_model: Frozen.
        student: All head inputs of the student.
        teacher: All of the teacher's.
        compared: Of the teacher's, those that are compared, on the grid where they are.
        predictions: What the student's head returned, in training mode or not.
        batch: Ultralytics'.
        background: The class that is no object, or None.

    """

    teacher_model: nn.Module
    student: Features
    teacher: Features
    compared: Features
    predictions: Any
    batch: dict[str, Any]
    background: int | None


def detector_extras(step: Step, names: Collection[str]) -> dict[str, Any]:
    """Compute what is named; the classes of `pipeline.distill` that take it say what it is."""
    extras: dict[str, Any] = {}
    if "confidence" in names:
        logits = class_logits(step.teacher_model, step.teacher)
        extras["confidence"] = [level.float().amax(dim=1, keepdim=True).sigmoid() for level in logits]
    if "boxes" in names:
        outputs = split_outputs(_raw(step)["boxes"], step.student)
        extras["boxes"] = outputs, box_outputs(step.teacher_model, step.teacher)
    if "objects" in names:
        centre, half = step.batch["bboxes"][:, :2], step.batch["bboxes"][:, 2:] / 2
        extras["objects"] = torch.cat([step.batch["batch_idx"].view(-1, 1), centre - half, centre + half], dim=1)
    return extras


def detector_scores(step: Step) -> tuple[Features, Features]:
    """Return the class logits of student and teacher, (N, classes, H_i, W_i) per map."""
    scores = split_outputs(_raw(step)["scores"], step.student)
    return scores, class_logits(step.teacher_model, step.teacher)


def segmenter_extras(step: Step, names: Collection[str]) -> dict[str, Any]:
    """Compute what is named: confidence is the likeliest class's probability, objects are the masks' regions."""
    extras: dict[str, Any] = {}
    if "confidence" in names:
        (logits,) = class_logits(step.teacher_model, step.teacher)
        confidence = logits.float().softmax(dim=1).amax(dim=1, keepdim=True)
        extras["confidence"] = [averaged(confidence, (f.shape[2], f.shape[3])) for f in step.compared]
    if "objects" in names:
        extras["objects"] = region_boxes(step.batch["semantic_mask"], step.background)
    return extras


def segmenter_scores(step: Step) -> tuple[Features, Features]:
    """Return the class logits of student and teacher, one (N, classes, h, w) each, maybe on different grids."""
    logits = step.predictions[0] if isinstance(step.predictions, tuple) else step.predictions
    return [logits], class_logits(step.teacher_model, step.teacher)


EXTRAS: dict[Task, Callable[[Step, Collection[str]], dict[str, Any]]] = {
    "detect": detector_extras,
    "segment": segmenter_extras,
}
SCORES: dict[Task, Callable[[Step], tuple[Features, Features]]] = {
    "detect": detector_scores,
    "segment": segmenter_scores,
}


def _raw(step: Step) -> dict[str, Tensor]:
    """Return a detector's raw outputs; of an end-to-end head, those of the branch that distillation compares."""
    return step.predictions.get("one2many", step.predictions)  # type: ignore[no-any-return]
