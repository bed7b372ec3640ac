"""Features are the inputs of a model's head: one pre-hook reads or replaces them, for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Features = list[Tensor]


def head_of(model: nn.Module) -> nn.Module:
    """Return the last layer of an Ultralytics model: its head."""
    return model.model[-1]  # type: ignore[index,union-attr,return-value]


def head_channels(model: nn.Module) -> list[int]:
    """Count the channels of each head input, finest map first."""
    return [level[0].conv.in_channels for level in head_of(model).cv2]  # type: ignore[union-attr]


class HeadInputs:
    """Keep the head's inputs of the latest forward pass in `features`."""

    def __init__(self, model: nn.Module) -> None:
        self.features: Features = []
        head_of(model).register_forward_pre_hook(self._keep)

    def _keep(self, _head: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.features = list(arguments[0])


class _HeadReached(Exception):  # noqa: N818
    """Ends a forward pass in front of the head."""


@torch.no_grad()
def features_only(model: nn.Module, images: Tensor) -> Features:
    """Run a frozen model up to its head, and not through it."""
    features: Features = []

    def stop(_head: nn.Module, arguments: tuple[Any, ...]) -> None:
        features.extend(arguments[0])
        raise _HeadReached

    handle = head_of(model).register_forward_pre_hook(stop)
    try:
        model(images)
    except _HeadReached:
        pass
    finally:
        handle.remove()
    return features


@contextmanager
def replaced_features(model: nn.Module, replace: Callable[[Features], Features]) -> Iterator[None]:
    """Let the head read `replace(features)` instead of its inputs."""
    handle = head_of(model).register_forward_pre_hook(lambda _head, arguments: (replace(list(arguments[0])),))
    try:
        yield
    finally:
        handle.remove()
