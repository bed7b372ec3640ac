"""What gives student maps the teacher's channels: trained beside the student, then dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

Adapter = Literal["linear", "mlp"]


def adapters(
    student_channels: Sequence[int], teacher_channels: Sequence[int], kind: Adapter = "linear"
) -> nn.ModuleList:
    """Make one adapter per map.

    Args:
        student_channels: Of the student's maps.
        teacher_channels: Of the teacher's.
        kind: `linear`, a 1x1 convolution with bias that starts as the identity where the channels are equal; `mlp`,
            Ultralytics' projector conv1x1-ReLU-conv1x1, which asks less of the student.

    """
    make = {"linear": _linear, "mlp": _mlp}[kind]
    return nn.ModuleList(make(s, t) for s, t in zip(student_channels, teacher_channels, strict=True))


def _linear(student_channels: int, teacher_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)
    if student_channels == teacher_channels and convolution.bias is not None:
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    return convolution


def _mlp(student_channels: int, teacher_channels: int) -> nn.Sequential:
    first, second = nn.Conv2d(student_channels, teacher_channels, 1), nn.Conv2d(teacher_channels, teacher_channels, 1)
    return nn.Sequential(first, nn.ReLU(inplace=True), second)
