"""Turn a model's name into a model for a task."""

from __future__ import annotations

from typing import Any

import torch
from ultralytics.nn.tasks import BaseModel

from models import segmenter, yolo
from pipeline.errors import PipelineError
from pipeline.model_names import FORMS
from pipeline.tasks import Task


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


def load_trained(name: str, task: Task, classes: list[str]) -> BaseModel:
    """Load the model of a `.pt` file as it was trained.

    Args:
        name: A path, or the name of an official release.
        task: Which kind of model.
        classes: What it has to have been trained on, in this order.

    Raises:
        PipelineError: if it was trained on other classes, or `build` refuses the file.

    """
    found = list(yolo.load(name, task, FORMS[task]).names.values())
    if found != classes:
        raise PipelineError(
            f"model {name} was trained on the classes {_listed(found)}; the dataset has {_listed(classes)}. To use it "
            "as it is, both must be the same in the same order; to fine-tune it on the dataset, set epochs above 0"
        )
    return build(name, task, classes, seed=0)


def _listed(classes: list[str]) -> str:
    shown = ", ".join(classes[:10])
    return f"{shown}, ... ({len(classes)} in all)" if len(classes) > 10 else shown


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
