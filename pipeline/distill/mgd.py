"""MGD: rebuild the teacher's map from a masked student's (Yang et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class MGD(DistillationLoss):
    """Sum the squared errors of a teacher map generated from the student's visible positions.

    1 / N sum (G(s m) - t)^2, as released: m (N, 1, H, W) is 0 with probability `masked`, else 1, drawn anew
    at every call from torch's global generator; G is conv3x3-ReLU-conv3x3, trained beside the student.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        Returns `mgd`, a sum over positions and channels (hence the small weight), summed over maps.

    `weight` and `masked` are the paper's alpha and lambda, here the released ones of one-stage detectors (two-stage:
    5e-7 and 0.45; segmentation: 2e-5 and 0.75).
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        masked: float = 0.65,
        weight: float = 2e-5,
    ) -> None:
        super().__init__()
        self.masked = masked
        self.weights = {"mgd": weight}
        self.adapters = adapters(student_channels, teacher_channels)
        self.generators = generators(teacher_channels)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            values = []
            for adapt, generate, s, t in zip(self.adapters, self.generators, student, teacher, strict=True):
                n, _, h, w = t.shape
                visible = torch.rand(n, 1, h, w, dtype=t.dtype, device=t.device) >= self.masked
                values.append((generate(adapt(s) * visible) - t).square().sum() / n)
            return {"mgd": torch.stack(values).sum()}


def generators(channels: Sequence[int]) -> nn.ModuleList:
    """Make one conv3x3-ReLU-conv3x3 per map, all at that map's width."""
    return nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(count, count, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(count, count, kernel_size=3, padding=1),
        )
        for count in channels
    )
