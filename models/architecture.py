"""What a model file may ask to be built: Ultralytics' `parse_model` evaluates text and looks modules up by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.errors import PipelineError
from pipeline.model_names import HEADS
from pipeline.tasks import Task

LAYERS: Final = frozenset([  # of Ultralytics' detector and segmenter families, and their closest relatives
    "A2C2f", "AConv", "ADown", "AIFI", "Bottleneck", "BottleneckCSP", "C1", "C2", "C2f", "C2fCIB", "C2fPSA", "C2PSA",
    "C3", "C3Ghost", "C3k2", "C3TR", "C3x", "CBFuse", "CBLinear", "Concat", "Conv", "Conv2", "ConvTranspose",
    "DWConv", "DWConvTranspose2d", "ELAN1", "Focus", "GhostBottleneck", "GhostConv", "HGBlock", "HGStem", "PSA",
    "RepC3", "RepConv", "RepNCSPELAN4", "RepVGGDW", "ResNetLayer", "SCDown", "SPP", "SPPELAN", "SPPF", "nn.AvgPool2d",
    "nn.BatchNorm2d", "nn.ConvTranspose2d", "nn.Identity", "nn.MaxPool2d", "nn.Upsample", "nn.ZeroPad2d",
])  # fmt: skip
ACTIVATIONS: Final = frozenset([
    "CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid", "Mish",
    "PReLU", "ReLU", "ReLU6", "SELU", "Sigmoid", "SiLU", "Softplus", "Softsign", "Tanh",
])  # fmt: skip
_CALL: Final = re.compile(r"(?:torch\.)?nn\.(\w{1,20})\(([\w=., -]{0,60})\)", re.ASCII)
_ARGUMENT: Final = re.compile(r"(?:[a-z_]+=)?(?:True|False|-?\d{0,4}(?:\.\d{1,8})?)", re.ASCII)
WORDS: Final = frozenset(["None", "True", "False", "nearest", "bilinear", "nc", "kpt_shape"])  # as text in a row
MAX_LAYERS: Final = 512
MAX_NUMBER: Final = 8192.0  # channels, strides and the like
MAX_FACTOR: Final = 8.0  # depth and width
MAX_REPEATS: Final = 64
WIDTH: Final = "class_branch_width"  # our own key, see models/yolo.py


class _WrongError(Exception):
    """What is wrong with an architecture."""


def require_known(architecture: object, task: Task, source: str) -> dict[str, Any]:
    """Refuse an Ultralytics model dict that names anything but known layers, activations and plain arguments.

    Args:
        architecture: As a `.pt`, a `.yaml` or a checkpoint's `model.json` has it.
        task: Decides which head may end it.
        source: The file or name, for the message.

    Returns:
        The same dict.

    Raises:
        PipelineError: naming the layer or key at fault; nothing has been built then.

    """
    try:
        if not isinstance(architecture, dict):
            raise _WrongError(f"expected keys such as backbone and head, got {_shown(architecture)}")
        _check_keys(architecture)
        _check_layers(architecture, HEADS[task])
    except _WrongError as error:
        raise PipelineError(
            f"{source}: architecture: {error}. Only known layers are built, because a model file could run any code "
            "otherwise: see LAYERS and ACTIVATIONS in models/architecture.py"
        ) from None
    return architecture


def _check_keys(architecture: Mapping[str, Any]) -> None:
    activation = architecture.get("activation")
    if activation is not None and not _is_activation(activation):
        raise _WrongError(f"activation: expected one such as torch.nn.ReLU(), got {_shown(activation)}")
    for key, limit in (
        ("nc", MAX_NUMBER),
        ("reg_max", MAX_NUMBER),
        (WIDTH, MAX_NUMBER),
        ("depth_multiple", MAX_FACTOR),
        ("width_multiple", MAX_FACTOR),
    ):
        value = architecture.get(key)
        if value is not None and not (_is_number(value, limit) and value > 0):
            raise _WrongError(f"{key}: expected a number above 0 and up to {limit:g}, got {_shown(value)}")
    for key in ("end2end", "inplace"):
        if not isinstance(architecture.get(key), bool | None):
            raise _WrongError(f"{key}: expected true or false, got {_shown(architecture[key])}")
    if not isinstance(architecture.get("yaml_file", ""), str):
        raise _WrongError(f"yaml_file: expected a name, got {_shown(architecture['yaml_file'])}")
    if "kpt_shape" in architecture and not _is_argument(architecture["kpt_shape"]):
        raise _WrongError(f"kpt_shape: expected two numbers, got {_shown(architecture['kpt_shape'])}")
    _check_scales(architecture.get("scales"), architecture.get("scale"))


def _check_scales(scales: object, scale: object) -> None:
    if not isinstance(scale, str | None):
        raise _WrongError(f"scale: expected a letter, got {_shown(scale)}")
    if not scales:
        return
    if not isinstance(scales, dict) or len(scales) > MAX_REPEATS:
        raise _WrongError(
            f"scales: expected a mapping of letters to [depth, width, max_channels], got {_shown(scales)}"
        )
    for name, row in scales.items():
        limits = (MAX_FACTOR, MAX_FACTOR, MAX_NUMBER)
        if not _is_list(row, 3) or not all(_is_number(v, m) and v > 0 for v, m in zip(row, limits, strict=True)):
            raise _WrongError(
                f"scales.{_shown(name)}: expected [depth, width, max_channels] above 0, got {_shown(row)}"
            )
    if scale and scale not in scales:
        raise _WrongError(f"scale: expected one of {', '.join(map(str, scales))}, got {_shown(scale)}")


def _check_layers(architecture: Mapping[str, Any], heads: Sequence[str]) -> None:
    for key in ("backbone", "head"):
        rows = architecture.get(key)
        if not isinstance(rows, list) or not 0 < len(rows) <= MAX_LAYERS:
            raise _WrongError(f"{key}: expected a list of 1 to {MAX_LAYERS} layers, got {_shown(rows)}")
    rows = architecture["backbone"] + architecture["head"]
    for index, row in enumerate(rows):
        if not _is_list(row, 4):
            raise _WrongError(f"layer {index}: expected [from, repeats, module, arguments], got {_shown(row)}")
        inputs, repeats, module, arguments = row
        known = heads if index == len(rows) - 1 else LAYERS
        if not isinstance(module, str) or module not in known:
            expected = " or ".join(heads) if known is heads else "a known layer"
            raise _WrongError(f"layer {index}: expected {expected}, got {_shown(module)}")
        if type(repeats) is not int or not 1 <= repeats <= MAX_REPEATS:
            raise _WrongError(f"layer {index}: expected 1 to {MAX_REPEATS} repeats, got {_shown(repeats)}")
        for place in inputs if isinstance(inputs, list) and 0 < len(inputs) <= MAX_REPEATS else [inputs]:
            if type(place) is not int or not (place == -1 or -index <= place < index):
                raise _WrongError(f"layer {index}: expected inputs from earlier layers, got {_shown(place)}")
        if not isinstance(arguments, list) or not all(map(_is_argument, arguments)):
            bad = arguments if not isinstance(arguments, list) else next(a for a in arguments if not _is_argument(a))
            raise _WrongError(f"layer {index}, {module}: expected numbers, booleans and known words, got {_shown(bad)}")


def _is_activation(text: object) -> bool:
    call = _CALL.fullmatch(text) if isinstance(text, str) else None
    if call is None or call[1] not in ACTIVATIONS:
        return False
    return all(_ARGUMENT.fullmatch(part.strip()) for part in call[2].split(","))


def _is_argument(value: object) -> bool:
    values = value if isinstance(value, list) and len(value) <= MAX_REPEATS else [value]
    return all(
        item is None
        or isinstance(item, bool)
        or (isinstance(item, str) and item in WORDS)
        or _is_number(item, MAX_NUMBER)
        for item in values
    )


def _is_number(value: object, limit: float) -> bool:
    return type(value) in {int, float} and -limit <= value <= limit  # type: ignore[operator]  # false for NaN


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _shown(value: object) -> str:
    """Quote a value; of a nested one the type alone, since it may be large."""
    if isinstance(value, str | int | float | None):
        text = repr(value)
        return text if len(text) <= 100 else f"{text[:100]}..."
    return f"a {type(value).__name__}"
