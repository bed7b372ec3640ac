"""GDD: rebuild the teacher's map from a noisy student's, compared channel by channel (Liu et al., arXiv 2401.08332)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.distill.adapter import adapters
from pipeline.distill.cwd import channel_divergence
from pipeline.distill.loss import DistillationLoss
from pipeline.distill.mgd import generators


class GDD(DistillationLoss):
    """Take CWD's divergence between the teacher and a map generated from the noisy student.

    temperature^2 / (N C) sum of KL(softmax(t / temperature) || softmax(G(s + n) / temperature)) over positions, as in
    the authors' `gdd.py`: n ~ N(0, 1) of shape (N, 1, H, W), drawn anew at every call from torch's global generator;
    G is MGD's conv3x3-ReLU-conv3x3, trained beside the student.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        Returns `gdd`, summed over maps.

    `weight` is the released one of RepPoints, its one-stage detector (Faster R-CNN: 4; PSPNet: 145; DeepLabV3: 175).
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        temperature: float = 4.0,
        weight: float = 65.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.weights = {"gdd": weight}
        self.adapters = adapters(student_channels, teacher_channels)
        self.generators = generators(teacher_channels)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            values = []
            for adapt, generate, s, t in zip(self.adapters, self.generators, student, teacher, strict=True):
                n, _, h, w = t.shape
                noise = torch.randn(n, 1, h, w, dtype=t.dtype, device=t.device)
                values.append(channel_divergence(generate(adapt(s) + noise), t, self.temperature))
            return {"gdd": torch.stack(values).sum()}
