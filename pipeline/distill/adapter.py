"""The 1x1 convolution that gives student maps the teacher's channels; trained beside the student, then dropped."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def adapters(student_channels: Sequence[int], teacher_channels: Sequence[int]) -> nn.ModuleList:
    """Make one 1x1 convolution with bias per map; it starts as the identity where the channels are equal."""
    return nn.ModuleList(_adapter(s, t) for s, t in zip(student_channels, teacher_channels, strict=True))


def _adapter(student_channels: int, teacher_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)
    if student_channels == teacher_channels and convolution.bias is not None:
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    return convolution
