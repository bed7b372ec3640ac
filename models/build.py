"""Turn a model's name into a model for a task."""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.nn.tasks import BaseModel

from models import segmenter, yolo
from pipeline.errors import PipelineError
from pipeline.tasks import Task

FORMS: dict[Task, str] = {
    "detect": (
        "Expected micro-{n,s,m,l}.yaml or an Ultralytics detector such as yolo26n.yaml (from scratch), "
        "yolo26n.pt (official weights), or the path of a .yaml or .pt file"
    ),
    "segment": (
        "Expected micro-{n,s,m,l}-sem.yaml or an Ultralytics semantic segmenter such as yolo26n-sem.yaml (from "
        "scratch), yolo26n-sem.pt (official weights), {pspnet,deeplabv3plus,unet}-{resnet18,resnet34,resnet50,"
        "resnet101,mobilenet} (from scratch; with -imagenet behind it: a pretrained encoder), or the path of a .yaml "
        "or .pt file"
    ),
}


def build(name: str, task: Task, classes: list[str], seed: int) -> BaseModel:
    """Build a model for a task and a list of classes.

    Args:
        name: What `FORMS` lists for the task.
        task: Which kind of model.
        classes: Class names; the head is sized to them.
        seed: Of the random initialisation.

    Raises:
        PipelineError: if the name is unknown or is of another task, or the weights cannot be had or read.

    """
    torch.manual_seed(seed)
    architecture = segmenter.architecture_of(name)
    if architecture is None:
        return yolo.build(name, task, classes, FORMS[task])
    if task != "segment":
        raise PipelineError(f"model {name} is a segmenter, and the task is {task}. {FORMS[task]}")
    if name.endswith("-imagenet"):
        return _named(segmenter.build_pretrained(architecture, len(classes)), classes)
    return build_from_architecture(architecture, task, classes)


def build_from_architecture(
    architecture: dict[str, Any], task: Task, classes: list[str], source: str = "the model"
) -> BaseModel:
    """Build a randomly initialised model from an architecture as a checkpoint stores it.

    Raises:
        PipelineError: naming `source`, if the architecture is none that is known.

    """
    if "decoder" in architecture:
        segmenter.require_known(architecture, source)
        return _named(segmenter.PlainSegmenter(architecture, len(classes)), classes)
    return yolo.build_from_architecture(architecture, task, classes, source)


def _named(model: BaseModel, classes: list[str]) -> BaseModel:
    model.names = dict(enumerate(classes))
    return model
