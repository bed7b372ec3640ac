"""The names that models have in params.yaml, and what a name says without building the model."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pipeline.errors import PipelineError
from pipeline.files import user_path
from pipeline.tasks import Task
from pipeline.yaml_file import plain, read_yaml

MICRO: Final = re.compile(r"micro-(?P<scale>[a-z])(?P<kind>-sem)?\.yaml")
SEGMENTER: Final = re.compile(
    r"(?P<decoder>pspnet|deeplabv3plus|unet)-(?P<encoder>resnet18|resnet34|resnet50|resnet101|mobilenet)"
    r"(?P<weights>-imagenet)?"
)
HEADS: Final[dict[Task, tuple[str, ...]]] = {"detect": ("Detect", "v10Detect"), "segment": ("SemanticSegment",)}
FORMS: Final[dict[Task, str]] = {
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


def model_levels(name: str, task: Task) -> int | None:
    """Check that a name stands for a model of a task.

    Returns:
        How many maps the model's head reads, or None where only its weights tell.

    Raises:
        PipelineError: if the name is unknown or of another task, or the file does not exist.

    """
    if SEGMENTER.fullmatch(name):
        if task != "segment":
            raise PipelineError(f"model {name} is a segmenter, and the task is {task}. {FORMS[task]}")
        return None
    if name.endswith(".pt"):
        return _weights_levels(name, task)
    if name.endswith(".yaml"):
        architecture = architecture_file(name)
        if architecture is None:
            raise PipelineError(f"model {name}: unknown. {FORMS[task]}")
        return _head_levels(name, architecture, task)
    raise PipelineError(f"model {name}: unknown. {FORMS[task]}")


def _weights_levels(name: str, task: Task) -> int | None:
    if _is_file(name):
        return None
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES  # imports torch

    if name not in GITHUB_ASSETS_NAMES:
        raise PipelineError(
            f"model {name}: no such file, and not the name of an official Ultralytics release. {FORMS[task]}"
        )
    architecture = architecture_file(re.sub(r"u?\.pt$", ".yaml", name))
    return None if architecture is None else _head_levels(name, architecture, task)


def architecture_file(name: str) -> Path | None:
    """Find the file of an architecture: the user's own, or that of a micro or Ultralytics family."""
    if own := MICRO.fullmatch(name):
        return Path(__file__).parents[1] / "models" / f"micro{own['kind'] or ''}.yaml"
    if _is_file(name):
        return user_path(name)
    package = find_spec("ultralytics")
    if package is None or package.origin is None or "/" in name:
        return None
    stem = re.sub(r"^(yolov[58][nsmlx])6$", r"\1-p6", Path(name).stem)
    stems = {stem, re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", stem)}  # yolov8x.yaml is a scale of yolov8.yaml
    families = (Path(package.origin).parent / "cfg/models").rglob("*.yaml")
    return next((file for file in sorted(families) if file.stem in stems), None)


def _head_levels(name: str, file: Path, task: Task) -> int:
    try:
        architecture: Any = plain(read_yaml(file))
        scales, (inputs, _, head, *_) = architecture.get("scales", {}), architecture["head"][-1]
        levels = 1 if isinstance(inputs, int) else len(inputs)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise PipelineError(
            f"model {name}: {file} does not describe a model: expected Ultralytics' format, whose last entry of "
            "`head` is [from, repeats, module, arguments]"
        ) from None
    if (own := MICRO.fullmatch(name)) and own["scale"] not in scales:
        raise PipelineError(f"model {name}: unknown scale, the micro family has {', '.join(scales)}")
    if head not in HEADS[task]:
        raise PipelineError(f"model {name} ends in {head}, task {task} needs {HEADS[task][0]}. {FORMS[task]}")
    return levels


def _is_file(name: str) -> bool:
    try:
        return user_path(name).is_file()
    except OSError:  # such as a name that is too long
        return False
