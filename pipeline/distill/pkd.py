"""PKD: imitation up to the scale and offset of every channel (Cao et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class PKD(DistillationLoss):
    """Average the squared difference of channel-standardised maps, which is 1 - Pearson's correlation.

    0.5 mean (s' - t')^2 with x' = (x - mean) / (std + 1e-6) per channel over (N, H, W), std unbiased, as
    MMRazor computes the paper's loss (so the value is 1 - r up to a factor n / (n - 1)).

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        Returns `pkd`, summed over maps.

    The source adapts nothing; here a map gets a 1x1 adapter where, and only where, its channel counts differ.
    `weight` is MMRazor's for RetinaNet (Faster R-CNN: 6).
    """

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], *, weight: float = 10.0
    ) -> None:
        super().__init__()
        self.weights = {"pkd": weight}
        convolutions = adapters(student_channels, teacher_channels)
        triples = zip(convolutions, student_channels, teacher_channels, strict=True)
        self.adapters = nn.ModuleList(nn.Identity() if s == t else adapt for adapt, s, t in triples)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            pairs = zip(self.adapters, student, teacher, strict=True)
            values = [F.mse_loss(_standardise(adapt(s)), _standardise(t)) / 2 for adapt, s, t in pairs]
            return {"pkd": torch.stack(values).sum()}


def _standardise(x: Tensor) -> Tensor:
    std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    return (x - mean) / (std + 1e-6)
