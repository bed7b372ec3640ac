"""Distillation losses by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from pipeline.distill.freekd import FreeKD
from pipeline.errors import PipelineError

LOSSES: dict[str, Callable[..., nn.Module]] = {
    "freekd": FreeKD,
}


def build_loss(
    method: str, student_channels: Sequence[int], teacher_channels: Sequence[int], **options: Any
) -> nn.Module:
    """Build the loss of a method.

    Args:
        method: A key of `LOSSES`.
        student_channels: Channels of the student's head inputs, finest first.
        teacher_channels: Of the teacher's.
        options: The method's own.

    Returns:
        A module whose `forward(student, teacher)` takes two equally long lists of (N, C_i, H_i, W_i) float tensors and
        returns a dict of named scalar parts, unweighted.

    Raises:
        PipelineError: for an unknown method, or if teacher and student differ in their number of maps.

    """
    if method not in LOSSES:
        raise PipelineError(
            f"distill.method: unknown method {method!r}, the known ones are {', '.join(sorted(LOSSES))}"
        )
    if len(student_channels) != len(teacher_channels):
        raise PipelineError(
            f"the student's head reads {len(student_channels)} maps and the teacher's {len(teacher_channels)}: "
            "distillation pairs them one to one, choose models with equally many levels"
        )
    return LOSSES[method](student_channels, teacher_channels, **options)
