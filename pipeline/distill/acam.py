"""ACAM-KD: imitate inside masks that student and teacher choose together (Lan and Tian, ICCV 2025)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss

TINY = 1e-6  # learnt masks may close everywhere, since that lowers the loss: nothing is compared then


class ACAM(DistillationLoss):
    """Average the squared difference inside learnt spatial and channel masks, and keep the masks apart.

    The teacher asks the adapted student: fused = softmax(Q K / sqrt(C / 2)) V over positions, Q = W_q t, K = W_k s,
    V = W_v s. Spatial masks are sigmoid(m_s . fused) (N, M, HW), channel masks sigmoid(m_c mean_hw fused) (N, M, C).
    Per map, averaged over images and masks:
        spatial    sum mask^2 (s - t)^2 / (C sum mask);
        channel    sum mask^2 (s - t)^2 / (HW sum mask);
        diversity  sum over i != j of M_i . M_j / sum_i |M_i|^2, in [0, M - 1], summed over the kinds of masks in use.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both; the teacher's
        C_i even.
        Returns the three parts, summed over maps.

    There is no public code; the equations are those of public notes on the paper. Decided here, where these are silent:
    W_q, W_k, W_v have no bias; m_s and m_c start at N(0, 0.01); gradient passes through the masks into the student.
    Weights 1 (the paper's alpha, alpha, lambda) and 6 masks are the paper's for detection.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        masks: int = 6,
        spatial: float = 1.0,
        channel: float = 1.0,
        diversity: float = 1.0,
    ) -> None:
        super().__init__()
        weights = {"spatial": spatial, "channel": channel, "diversity": diversity}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.adapters = adapters(student_channels, teacher_channels)
        self.fusions = nn.ModuleList(_Fusion(count) for count in teacher_channels)
        self.spatial_selectors = nn.ParameterList(torch.randn(masks, count) * 0.01 for count in teacher_channels)
        self.channel_selectors = nn.ParameterList(torch.randn(masks, 1) * 0.01 for _ in teacher_channels)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            maps = [self._compare(index, s, t) for index, (s, t) in enumerate(zip(student, teacher, strict=True))]
            return {name: torch.stack([parts[name] for parts in maps]).sum() for name in self.weights}

    def _compare(self, index: int, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        adapted = self.adapters[index](student)
        fused = self.fusions[index](adapted, teacher)  # (N, C, HW)
        error = (adapted - teacher).square().flatten(2)  # (N, C, HW)
        parts, masks = {}, []
        if "spatial" in self.weights:
            masks.append((self.spatial_selectors[index] @ fused).sigmoid())  # (N, M, HW)
            parts["spatial"] = _masked(error.mean(dim=1), masks[-1])
        if "channel" in self.weights:
            masks.append((self.channel_selectors[index] * fused.mean(dim=2)[:, None]).sigmoid())  # (N, M, C)
            parts["channel"] = _masked(error.mean(dim=2), masks[-1])
        if "diversity" in self.weights:
            parts["diversity"] = torch.stack([_overlap(mask) for mask in masks]).sum()
        return parts


class _Fusion(nn.Module):
    """Read the student's map where the teacher's asks for it; (N, C, HW)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 2, kernel_size=1, bias=False)
        self.key = nn.Conv2d(channels, channels // 2, kernel_size=1, bias=False)
        self.value = nn.Conv2d(channels, channels, kernel_size=1, bias=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Attend over positions."""
        query, key = (x.flatten(2)[:, None] for x in (self.query(teacher), self.key(student)))  # (N, 1, C/2, HW)
        value = self.value(student).flatten(2).unflatten(1, (2, -1))  # (N, 2, C/2, HW)
        # Kernels that never hold the HW x HW matrix want one width for Q, K and V, hence V as two heads of C/2, and the
        # width last in memory.
        query, key, value = (x.expand_as(value).mT.contiguous() for x in (query, key, value))  # (N, 2, HW, C/2)
        return F.scaled_dot_product_attention(query, key, value).mT.flatten(1, 2)


def _masked(error: Tensor, mask: Tensor) -> Tensor:
    """Average sum mask^2 error / sum mask over images and masks, for error (N, P) and mask (N, M, P)."""
    weight = mask.sum(dim=2).clamp_min(TINY)
    return ((mask.square() * error[:, None]).sum(dim=2) / weight).mean()


def _overlap(mask: Tensor) -> Tensor:
    """Average over images the Dice overlap of all pairs of different masks (N, M, P)."""
    together, alone = mask.sum(dim=1).square().sum(dim=1), mask.square().sum(dim=(1, 2))  # (N,)
    return ((together - alone) / alone.clamp_min(TINY)).mean()
