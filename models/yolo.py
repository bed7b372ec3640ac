"""Ultralytics' models by name: from scratch, from an official name, or from a local `.pt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from torch import nn
from ultralytics.nn.tasks import BaseModel, DetectionModel, SemanticSegmentationModel, yaml_model_load
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from models.weights import load_weights
from pipeline.errors import PipelineError
from pipeline.files import user_path
from pipeline.model_names import HEADS, MICRO
from pipeline.tasks import Task

KINDS: dict[Task, type[BaseModel]] = {"detect": DetectionModel, "segment": SemanticSegmentationModel}
WIDTH = "class_branch_width"


def build(name: str, task: Task, classes: list[str], forms: str) -> BaseModel:
    """Build a model for a list of classes.

    Args:
        name: `micro-n.yaml` (the own families, from scratch), `yolo26n.yaml` (an Ultralytics family, from scratch),
            `yolo26n.pt` (official weights, downloaded once), or the path of a `.yaml` or `.pt` file.
        task: What the model has to do.
        classes: Class names; the head is sized to them.
        forms: What an error says of the names that are known.

    Raises:
        PipelineError: if the name is unknown or is of another task, or the weights cannot be had or read.

    """
    source = None
    if name.endswith(".pt"):
        source = load(name, task, forms)
        architecture = dict(source.yaml)
        if task == "detect":
            architecture[WIDTH] = source.model[-1].cv3[0][-1].in_channels
    elif name.endswith(".yaml"):
        architecture = _architecture(name, forms)
        if not (head := str(architecture["head"][-1][2])).endswith(HEADS[task]):
            raise PipelineError(f"model {name} ends in {head}, task {task} needs {HEADS[task]}. {forms}")
    else:
        raise PipelineError(f"model {name}: unknown. {forms}")
    model = build_from_architecture(architecture, task, classes)
    if source is not None:
        model.load(source, verbose=False)
    return model


def load(name: str, task: Task, forms: str) -> BaseModel:
    """Load a `.pt` by its path or official name, as it was trained; `build` says what it raises."""
    return load_weights(_local_weights(name, forms), KINDS[task])


def build_from_architecture(architecture: dict[str, Any], task: Task, classes: list[str]) -> BaseModel:
    """Build a randomly initialised model from an Ultralytics model dict, as a checkpoint stores it.

    Ultralytics widens a detector's class branch with the number of classes. Pretrained weights keep the width that
    they were trained at (the dict's `class_branch_width`), and only the last convolution is sized to the new classes.
    """
    width = architecture.get(WIDTH)
    model = KINDS[task]({**architecture, "nc": width or len(classes)}, ch=3, verbose=False)
    if width:
        _resize_classes(model, len(classes))
    model.names = dict(enumerate(classes))
    return model


def _resize_classes(model: BaseModel, count: int) -> None:
    head = model.model[-1]
    for branch in (head.cv3, getattr(head, "one2one_cv3", None) or ()):
        for level in branch:
            level[-1] = nn.Conv2d(level[-1].in_channels, count, 1)
    head.nc, head.no, model.yaml["nc"] = count, count + 4 * head.reg_max, count
    head.bias_init()


def _architecture(name: str, forms: str) -> dict[str, Any]:
    if own := MICRO.fullmatch(name):
        file = Path(__file__).with_name(f"micro{own['kind'] or ''}.yaml")
        family = YAML(typ="safe").load(file.read_text())
        if own["scale"] not in family["scales"]:
            raise PipelineError(f"model {name}: unknown scale, the micro family has {', '.join(family['scales'])}")
        return {**family, "scale": own["scale"], "yaml_file": name}
    try:
        return {**yaml_model_load(user_path(name) if user_path(name).is_file() else name), "yaml_file": name}
    except FileNotFoundError:
        raise PipelineError(f"model {name}: unknown. {forms}") from None


def _local_weights(name: str, forms: str) -> Path:
    """Find a `.pt` on disk, or download it if it is an official name."""
    path = user_path(name)
    if path.exists():
        return path
    if name not in GITHUB_ASSETS_NAMES:
        raise PipelineError(f"model {name}: no such file, and not the name of an official Ultralytics release. {forms}")
    cache = user_path(Path(".state") / "weights" / name)
    cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        attempt_download_asset(cache)
    except Exception as error:
        raise PipelineError(
            f"model {name}: the official weights could not be downloaded ({error}). On a machine without internet, "
            f"fetch {name} from Ultralytics' releases elsewhere, copy it here and give its path instead of its name"
        ) from error
    return cache
