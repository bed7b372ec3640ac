"""CWD: every channel as a distribution over positions (Shu et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class CWD(DistillationLoss):
    """Take the divergence of the student's channels from the teacher's, each softmaxed over positions.

    temperature^2 / (N C) sum over images and channels of KL(softmax(t / temperature) || softmax(s / temperature)),
    as in the paper and in MMRazor.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both. With
        `on="scores"` they are class logits (N, K, H_i, W_i), and nothing is adapted.
        Returns `cwd`, summed over maps.

    Defaults are MMRazor's: temperature 1 and weight 5, also FreeKD's release's for a detector's feature pyramid. The
    authors' own for logits: 4 and 3.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        on: Literal["features", "scores"] = "features",
        temperature: float = 1.0,
        weight: float = 5.0,
    ) -> None:
        super().__init__()
        self.reads, self.temperature = on, temperature
        self.weights = {"cwd": weight}
        if on == "features":
            self.adapters = adapters(student_channels, teacher_channels)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            if self.reads == "features":
                student = [adapt(s) for adapt, s in zip(self.adapters, student, strict=True)]
            pairs = zip(student, teacher, strict=True)
            return {"cwd": torch.stack([channel_divergence(s, t, self.temperature) for s, t in pairs]).sum()}


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Average the channels' KL divergences between two maps (N, C, H, W); returns a scalar."""
    s, t = ((x / temperature).flatten(2).log_softmax(dim=2) for x in (student, teacher))  # (N, C, HW)
    return F.kl_div(s, t, reduction="sum", log_target=True) * temperature**2 / (s.shape[0] * s.shape[1])
