"""Features are the inputs of a model's head: one pre-hook reads or replaces them, for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Conv
from ultralytics.utils.torch_utils import fuse_conv_and_bn

Features = list[Tensor]


PROBE_PX = 128  # side of the blank image that head inputs are measured with


def head_of(model: nn.Module) -> nn.Module:
    """Return a model's last layer: its head."""
    return model.model[-1]  # type: ignore[index,union-attr,return-value]


def output_layers(model: nn.Module) -> list[str]:
    """List the paths of the head's bare convolutions, without normalisation or activation: its outputs, and DFL."""
    inner = {module.conv for module in model.modules() if isinstance(module, Conv)}
    head = head_of(model)
    prefix = next(path for path, module in model.named_modules() if module is head)
    found = (name for name, module in head.named_modules() if isinstance(module, nn.Conv2d) and module not in inner)
    return [f"{prefix}.{name}" for name in found]


def head_channels(model: nn.Module) -> list[int]:
    """Count the channels of each head input, finest map first."""
    return [feature.shape[1] for feature in _blank_features(model)]


def head_strides(model: nn.Module) -> list[int]:
    """Return the stride of each head input, in pixels."""
    return [PROBE_PX // feature.shape[2] for feature in _blank_features(model)]


def _blank_features(model: nn.Module) -> Features:
    """Run a blank image up to the head; modes and statistics stay as they are."""
    training = {module: module.training for module in model.modules()}
    weight = next(model.parameters())
    try:
        return features_only(model.eval(), torch.zeros(1, 3, PROBE_PX, PROBE_PX).to(weight))
    finally:
        for module, mode in training.items():
            module.training = mode


class HeadInputs:
    """Keep the head's inputs of the latest forward pass in `features`, and what the head got instead in `views`.

    Both are the same numbers. Their gradients differ: that of a view comes through the head alone, that is from the
    task.
    """

    def __init__(self, model: nn.Module) -> None:
        self.features: Features = []
        self.views: Features = []
        head_of(model).register_forward_pre_hook(self._keep)

    def _keep(self, _head: nn.Module, arguments: tuple[Any, ...]) -> tuple[Features]:
        self.features = list(arguments[0])
        self.views = [feature.view_as(feature) for feature in self.features]
        return (self.views,)


class _HeadReached(Exception):  # noqa: N818
    """Ends a forward pass in front of the head."""


def frozen(model: nn.Module, device: torch.device) -> nn.Module:
    """Copy a teacher for inference: eval, no gradients, BatchNorm folded into its convolutions, channels last.

    Both branches of an end-to-end head stay, unlike in Ultralytics' own `fuse`.
    """
    model = deepcopy(model).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, Conv) and type(module).forward_fuse is Conv.forward_fuse and hasattr(module, "bn"):
            module.conv = fuse_conv_and_bn(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fuse
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def features_only(model: nn.Module, images: Tensor) -> Features:
    """Run a frozen model up to its head, and not through it.

    Not in inference mode, which is no faster here: losses may keep the maps for their backward pass.
    """
    features: Features = []

    def stop(_head: nn.Module, arguments: tuple[Any, ...]) -> None:
        features.extend(arguments[0])
        raise _HeadReached

    handle = head_of(model).register_forward_pre_hook(stop)
    try:
        model(images.contiguous(memory_format=torch.channels_last))
    except _HeadReached:
        pass
    finally:
        handle.remove()
    return [feature.contiguous() for feature in features]


@torch.no_grad()
def class_logits(model: nn.Module, features: Features) -> list[Tensor]:
    """Run the head's class branch alone.

    A detector's gives (N, classes, H, W) per map, the mean of both branches where there are two; a segmenter's gives
    one (N, classes, h, w), at the finest map's stride.
    """
    head: Any = head_of(model)
    if not hasattr(head, "cv3"):
        return [head.classifier(features[0])]
    branches = [branch for branch in (head.cv3, getattr(head, "one2one_cv3", None)) if branch is not None]
    return [torch.stack([branch[i](f) for branch in branches]).mean(dim=0) for i, f in enumerate(features)]


@torch.no_grad()
def box_outputs(model: nn.Module, features: Features) -> list[Tensor]:
    """Run a detector's box branch alone: per map (N, 4 reg_max, H, W)."""
    head: Any = head_of(model)
    return [branch(f) for branch, f in zip(head.cv2, features, strict=True)]


def split_outputs(output: Tensor, features: Features) -> list[Tensor]:
    """Cut a training head's (N, D, positions of all maps) into one (N, D, H, W) per map."""
    sizes = [tuple(f.shape[2:]) for f in features]
    parts = output.split([h * w for h, w in sizes], dim=-1)
    return [part.unflatten(-1, size) for part, size in zip(parts, sizes, strict=True)]


@contextmanager
def replaced_features(model: nn.Module, replace: Callable[[Features], Features]) -> Iterator[None]:
    """Let the head read `replace(features)` instead of its inputs."""
    handle = head_of(model).register_forward_pre_hook(lambda _head, arguments: (replace(list(arguments[0])),))
    try:
        yield
    finally:
        handle.remove()
