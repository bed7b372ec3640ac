"""Ultralytics' models by name: from scratch, from an official name, or from a local `.pt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import BaseModel, DetectionModel, SemanticSegmentationModel, guess_model_scale
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from models.architecture import WIDTH, require_known
from models.weights import load_weights
from pipeline.errors import PipelineError
from pipeline.files import user_path
from pipeline.model_names import HEADS, MICRO, architecture_file
from pipeline.tasks import Task
from pipeline.yaml_file import plain, read_yaml

KINDS: dict[Task, type[BaseModel]] = {"detect": DetectionModel, "segment": SemanticSegmentationModel}


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
            architecture[WIDTH] = _class_branch_width(source, name)
    elif name.endswith(".yaml"):
        architecture = _architecture(name, forms)
        if (head := _head_of(architecture)) and head not in HEADS[task]:
            raise PipelineError(f"model {name} ends in {head}, task {task} needs {HEADS[task][0]}. {forms}")
    else:
        raise PipelineError(f"model {name}: unknown. {forms}")
    model = build_from_architecture(architecture, task, classes, f"model {name}")
    if source is not None:
        _load_weights(model, source, name)
    return model


def load(name: str, task: Task, forms: str) -> BaseModel:
    """Load a `.pt` by its path or official name, as it was trained; `build` says what it raises."""
    return load_weights(_local_weights(name, forms), KINDS[task])


def build_from_architecture(
    architecture: dict[str, Any], task: Task, classes: list[str], source: str = "the model"
) -> BaseModel:
    """Build a randomly initialised model from an Ultralytics model dict, as a checkpoint stores it.

    Ultralytics widens a detector's class branch with the number of classes. Pretrained weights keep the width that
    they were trained at (the dict's `class_branch_width`), and only the last convolution is sized to the new classes.

    Raises:
        PipelineError: naming `source`, if the dict names anything but known layers, or they do not fit together.

    """
    width = require_known(architecture, task, source).get(WIDTH)
    activation = Conv.default_act
    try:
        model = KINDS[task]({**architecture, "nc": width or len(classes)}, ch=3, verbose=False)
    except Exception as error:
        raise PipelineError(
            f"{source}: its layers do not fit together ({type(error).__name__}: {error}): check the YAML file, or take "
            "the model from where it was published"
        ) from error
    finally:
        Conv.default_act = activation  # Ultralytics leaves a failed model's activation to all later ones
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


def _load_weights(model: BaseModel, source: BaseModel, name: str) -> None:
    try:
        model.load(source, verbose=False)
    except (AttributeError, IndexError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise PipelineError(f"{name}: its layers are not those of its architecture ({error})") from error


def _class_branch_width(model: BaseModel, name: str) -> int:
    try:
        return int(model.model[-1].cv3[0][-1].in_channels)
    except (AttributeError, IndexError, TypeError, ValueError, KeyError):
        raise PipelineError(f"{name}: expected a detector whose last layer is a Detect head, found none") from None


def _head_of(architecture: dict[str, Any]) -> str | None:
    """Name the last layer; None if there is no such text."""
    try:
        head = architecture["head"][-1][2]
    except (KeyError, IndexError, TypeError):
        return None
    return head if isinstance(head, str) and head.isidentifier() else None


def _architecture(name: str, forms: str) -> dict[str, Any]:
    file = architecture_file(name)
    if file is None:
        raise PipelineError(f"model {name}: unknown. {forms}")
    described = plain(read_yaml(file))
    if not isinstance(described, dict):
        raise PipelineError(
            f"model {name}: expected YAML with the keys backbone and head, got {type(described).__name__}"
        )
    own = MICRO.fullmatch(name)
    if own and own["scale"] not in described["scales"]:
        raise PipelineError(f"model {name}: unknown scale, the micro family has {', '.join(described['scales'])}")
    return {**described, "scale": own["scale"] if own else guess_model_scale(name), "yaml_file": name}


def _is_present(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


def _local_weights(name: str, forms: str) -> Path:
    """Find a `.pt` on disk, or download it if it is an official name."""
    path = user_path(name)
    if _is_present(path):
        if not path.is_file():
            raise PipelineError(f"model {name}: expected a .pt file, found no regular file there")
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
