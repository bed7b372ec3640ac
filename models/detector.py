"""Turn a model's name into a detector: from scratch, from an official name, or from a local `.pt`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from models.weights import load_weights
from pipeline.errors import PipelineError

WIDTH = "class_branch_width"
MICRO = re.compile(r"micro-(?P<scale>[a-z])\.yaml")
MICRO_FILE = Path(__file__).with_name("micro.yaml")


def build(name: str, classes: list[str], seed: int) -> DetectionModel:
    """Build a detector for a list of classes.

    Args:
        name: `micro-n.yaml` (the own family, from scratch), `yolo26n.yaml` (an Ultralytics family, from scratch),
            `yolo26n.pt` (official weights, downloaded once), or the path of a `.yaml` or `.pt` file.
        classes: Class names; the head is sized to them.
        seed: Of the random initialisation.

    Raises:
        PipelineError: if the name is unknown, or the weights cannot be had or read.

    """
    source = None
    if name.endswith(".pt"):
        source = load_weights(_local_weights(name))
        architecture = {**source.yaml, WIDTH: source.model[-1].cv3[0][-1].in_channels}
    elif name.endswith(".yaml"):
        architecture = _architecture(name)
    else:
        raise PipelineError(_unknown(name))
    torch.manual_seed(seed)
    model = build_from_architecture(architecture, classes)
    if source is not None:
        model.load(source, verbose=False)
    return model


def build_from_architecture(architecture: dict[str, Any], classes: list[str]) -> DetectionModel:
    """Build a randomly initialised detector from an Ultralytics model dict, as a checkpoint stores it.

    Ultralytics widens the class branch with the number of classes. Pretrained weights keep the width that they were
    trained at (the dict's `class_branch_width`), and only the last convolution is sized to the new classes.
    """
    width = architecture.get(WIDTH)
    model = DetectionModel({**architecture, "nc": width or len(classes)}, ch=3, verbose=False)
    if width:
        _resize_classes(model, len(classes))
    model.names = dict(enumerate(classes))
    return model


def _resize_classes(model: DetectionModel, count: int) -> None:
    head = model.model[-1]
    for branch in (head.cv3, getattr(head, "one2one_cv3", None) or ()):
        for level in branch:
            level[-1] = nn.Conv2d(level[-1].in_channels, count, 1)
    head.nc, head.no, model.yaml["nc"] = count, count + 4 * head.reg_max, count
    head.bias_init()


def _architecture(name: str) -> dict[str, Any]:
    if own := MICRO.fullmatch(name):
        family = YAML(typ="safe").load(MICRO_FILE.read_text())
        if own["scale"] not in family["scales"]:
            raise PipelineError(f"model {name}: unknown scale, the micro family has {', '.join(family['scales'])}")
        return {**family, "scale": own["scale"]}
    try:
        return dict(yaml_model_load(name))
    except FileNotFoundError:
        raise PipelineError(_unknown(name)) from None


def _local_weights(name: str) -> Path:
    """Find a `.pt` on disk, or download it if it is an official name."""
    path = Path(name)
    if path.exists():
        return path
    if name not in GITHUB_ASSETS_NAMES:
        raise PipelineError(
            f"model {name}: no such file, and not the name of an official Ultralytics release. {_FORMS}"
        )
    cache = Path(".state") / "weights" / name
    cache.parent.mkdir(parents=True, exist_ok=True)
    try:
        attempt_download_asset(cache)
    except Exception as error:
        raise PipelineError(
            f"model {name}: the official weights could not be downloaded ({error}). On a machine without internet, "
            f"fetch {name} from Ultralytics' releases elsewhere, copy it here and give its path instead of its name"
        ) from error
    return cache


def _unknown(name: str) -> str:
    return f"model {name}: unknown. {_FORMS}"


_FORMS = (
    "Expected micro-{n,s,m,l}.yaml or an Ultralytics detector such as yolo26n.yaml (from scratch), "
    "yolo26n.pt (official weights), or the path of a .yaml or .pt file"
)
