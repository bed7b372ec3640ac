"""Distillation losses by name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from pipeline.distill.acam import ACAM
from pipeline.distill.cwd import CWD
from pipeline.distill.dist import DIST
from pipeline.distill.fgd import FGD
from pipeline.distill.freekd import FreeKD
from pipeline.distill.gdd import GDD
from pipeline.distill.loss import DistillationLoss
from pipeline.distill.maskd import MasKD
from pipeline.distill.mgd import MGD
from pipeline.distill.mse import MSE
from pipeline.distill.pkd import PKD
from pipeline.distill.ultralytics import Ultralytics
from pipeline.errors import PipelineError

LOSSES: dict[str, type[DistillationLoss]] = {
    "acam": ACAM,
    "cwd": CWD,
    "dist": DIST,
    "fgd": FGD,
    "freekd": FreeKD,
    "gdd": GDD,
    "maskd": MasKD,
    "mgd": MGD,
    "mse": MSE,
    "pkd": PKD,
    "ultralytics": Ultralytics,
}


def build_loss(
    method: str, student_channels: Sequence[int], teacher_channels: Sequence[int], **options: Any
) -> DistillationLoss:
    """Build the loss of a method.

    Args:
        method: A key of `LOSSES`.
        student_channels: Channels of the student's head inputs, finest first.
        teacher_channels: Of the teacher's.
        options: The method's own, see its class; what is not named keeps its source's default.

    Returns:
        The loss. Its forward refuses maps that do not fit and computes half precision in float32.

    Raises:
        PipelineError: for an unknown method or option, or if teacher and student differ in their number of maps; and
            from forward, naming map and shapes, if the maps do not fit.

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
    _check_options(method, options)
    loss = LOSSES[method](student_channels, teacher_channels, **options)
    expected = list(student_channels), list(teacher_channels)

    def prepare(_loss: nn.Module, maps: tuple[list[Tensor], list[Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
        check_maps(*maps, *(expected if loss.reads == "features" else ()))
        return tuple([_full_precision(m) for m in side] for side in maps)  # type: ignore[return-value]

    loss.register_forward_pre_hook(prepare)
    return loss


def check_maps(student: list[Tensor], teacher: list[Tensor], *channels: list[int]) -> None:
    """Refuse maps that cannot be paired.

    Raises:
        PipelineError: naming the map (0 is the finest), and both shapes.

    """
    if len(student) != len(teacher) or any(len(expected) != len(student) for expected in channels):
        expected = f", {len(channels[0])} were announced" if channels else ""
        raise PipelineError(f"the student has {len(student)} maps and the teacher {len(teacher)}{expected}")
    for level, (s, t) in enumerate(zip(student, teacher, strict=True)):
        shapes = f"map {level}: the student's is {tuple(s.shape)}, the teacher's {tuple(t.shape)}"
        if s.ndim != 4 or t.ndim != 4 or len(s) != len(t) or s.shape[2:] != t.shape[2:]:
            raise PipelineError(
                f"{shapes}; expected (N, C, H, W) of equal N, H and W: choose a teacher and a student of equal strides"
            )
        if channels and (s.shape[1], t.shape[1]) != (channels[0][level], channels[1][level]):
            announced = f"{channels[0][level]} and {channels[1][level]} channels"
            raise PipelineError(f"{shapes}; the loss was built for {announced}")


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


def _check_options(method: str, options: dict[str, Any]) -> None:
    """Refuse options that the method does not have, or values that it does not know."""
    known = [p for p in inspect.signature(LOSSES[method]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    names = [parameter.name for parameter in known]
    hints = get_type_hints(LOSSES[method].__init__)
    for name, value in options.items():
        if name not in names:
            listed = ", ".join(f"{p.name} ({p.default!r})" for p in known) or "none"
            raise PipelineError(f"options.{method}.{name}: unknown option; {method} has {listed}")
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            problem = "; ".join(item["msg"] for item in error.errors())
            raise PipelineError(f"options.{method}.{name}: {problem}, got {value!r}") from None
