"""FreeKD: the student imitates the teacher's wavelet bands at the points of interest (CVPR 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.distill.prompt import init_prompts, masks
from pipeline.distill.wavelet import haar


class FreeKD(nn.Module):
    """L1 between masked Haar bands of teacher and adapted student.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        Returns `high` (details, summed over wavelet levels and maps, mean within each) and `low` (the low band, summed
        over maps). Equation 8 of the paper without its relational weight; `high` alone is what the release computes.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        levels: int = 3,
        prompts: int = 6,
        mask: Literal["prompt", "uniform"] = "prompt",
        scale: Literal["teacher_std", "none"] = "teacher_std",
    ) -> None:
        super().__init__()
        self.levels, self.mask, self.scale = levels, mask, scale
        pairs = zip(student_channels, teacher_channels, strict=True)
        self.adapters = nn.ModuleList(adapter(student, teacher) for student, teacher in pairs)
        self.prompts = init_prompts(teacher_channels, levels, prompts).requires_grad_(False)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare the bands of all maps."""
        high, low = [], []
        with torch.autocast(student[0].device.type, enabled=False):
            for adapt, prompt, s, t in zip(self.adapters, self.prompts, student, teacher, strict=True):
                low_part, high_part = self._compare(adapt(s.float()), t.float(), prompt)
                low.append(low_part)
                high.append(high_part)
        return {"high": torch.stack(high).sum(), "low": torch.stack(low).sum()}

    def _compare(self, student: Tensor, teacher: Tensor, prompt: Tensor) -> tuple[Tensor, Tensor]:
        gates = self._gates(teacher, prompt)
        difference = student - teacher  # the transform is linear: one of the difference serves for both
        if self.scale == "teacher_std":
            difference = difference / teacher.std().clamp_min(1e-6)
        low, details = haar(difference, self.levels)
        low_part = (low.abs().mean(dim=1, keepdim=True) * gates[0]).mean()
        high_part = [(d.abs().mean(dim=(1, 2)) * g[:, 0]).mean() for d, g in zip(details, gates[1:], strict=True)]
        return low_part, torch.stack(high_part).sum()

    @torch.no_grad()
    def _gates(self, teacher: Tensor, prompt: Tensor) -> list[Tensor]:
        """Average the T masks: they are shared by both sides and not negative, so they leave the absolute value."""
        if self.mask == "uniform":
            return [teacher.new_full((1, 1, 1, 1), 0.5)] * (1 + self.levels)
        return [mask.mean(dim=1, keepdim=True) for mask in masks(prompt, haar(teacher, self.levels))]


def adapter(student_channels: int, teacher_channels: int) -> nn.Conv2d:
    """Make the 1x1 convolution that gives student maps the teacher's channels; the identity where they are equal."""
    convolution = nn.Conv2d(student_channels, teacher_channels, kernel_size=1)
    if student_channels == teacher_channels and convolution.bias is not None:
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    return convolution
