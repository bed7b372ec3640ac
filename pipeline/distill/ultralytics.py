"""Ultralytics' own distillation: squared differences where the teacher sees a class (`distill_model`, 8.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class Ultralytics(DistillationLoss):
    """Average the squared difference of teacher and projected student, weighted by the teacher's confidence.

    Per map sum(c (P(s) - t)^2) / (C sum(c) + 1e-9), sums over the whole batch; the projector P, conv1x1-ReLU-conv1x1
    at the teacher's width, is trained beside the student. Written after `ultralytics/nn/distill_model.py` (8.4), which
    has no paper.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        confidence: as many (N, 1, H_i, W_i) in [0, 1], the teacher's highest class probability at each position.
        None: every position counts alike.
        Returns `l2`, summed over maps.

    `weight` is Ultralytics' default of `dis`. It multiplies the sum by the batch size, as its task losses are; that
    is the trainer's part.
    """

    extras: frozenset[str] = frozenset({"confidence"})

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], *, weight: float = 6.0
    ) -> None:
        super().__init__()
        self.weights = {"l2": weight}
        self.projectors = adapters(student_channels, teacher_channels, "mlp")

    def forward(
        self, student: list[Tensor], teacher: list[Tensor], *, confidence: list[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            if confidence is None:
                confidence = [torch.ones_like(t[:, :1]) for t in teacher]
            values = []
            for project, s, t, c in zip(self.projectors, student, teacher, confidence, strict=True):
                error = (project(s) - t).square().sum(dim=1, keepdim=True)  # (N, 1, H, W)
                values.append((error * c).sum() / (c.sum() * t.shape[1] + 1e-9))
            return {"l2": torch.stack(values).sum()}
