"""Which maps of student and teacher are compared, and on which grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.tasks import Task


def pair_maps(task: Task, student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
    """Pair the maps of two heads by their strides.

    Detectors are paired one to one. Segmenters' heads read one map or two, at any stride: each map of the head that
    reads fewer is paired with the nearest stride of the other, and what is left over is not compared.

    Args:
        task: Of both models.
        student: Strides of the student's head inputs, finest first.
        teacher: Of the teacher's.

    Returns:
        Indices (student's, teacher's), finest first.

    Raises:
        PipelineError: if two detectors differ in their number of maps.

    """
    if len(student) == len(teacher):
        return [(index, index) for index in range(len(student))]
    if task == "detect":
        raise PipelineError(
            f"the student's head reads maps of stride {list(student)} and the teacher's {list(teacher)}: distillation "
            "pairs them one to one, choose detectors with equally many levels"
        )
    if len(student) > len(teacher):
        return [(_nearest(student, stride), index) for index, stride in enumerate(teacher)]
    return [(index, _nearest(teacher, stride)) for index, stride in enumerate(student)]


def common_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the finer of two maps (N, C, H, W) onto the coarser one's grid."""
    height, width = (min(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True))
    return averaged(student, (height, width)), averaged(teacher, (height, width))


def averaged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average a map onto a grid; the map itself where the grid is its own."""
    return x if tuple(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)


def _nearest(strides: Sequence[int], stride: int) -> int:
    """Find the stride with the smallest ratio to another, the finer one of two."""
    return min(range(len(strides)), key=lambda index: max(strides[index], stride) / min(strides[index], stride))
