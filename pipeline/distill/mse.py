"""Plain feature imitation: the baseline that most published gains are measured with or against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class MSE(DistillationLoss):
    """Average the squared difference of teacher and adapted student within each map.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        Returns `mse`, summed over maps.

    `weight` is FreeKD's release's for RetinaNet (its configurations: 1 to 2 for Faster R-CNN, 10 for FCOS).
    """

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], *, weight: float = 5.0
    ) -> None:
        super().__init__()
        self.weights = {"mse": weight}
        self.adapters = adapters(student_channels, teacher_channels)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            pairs = zip(self.adapters, student, teacher, strict=True)
            return {"mse": torch.stack([F.mse_loss(adapt(s), t) for adapt, s, t in pairs]).sum()}
