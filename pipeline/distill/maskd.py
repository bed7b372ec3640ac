"""MasKD: imitate inside masks that learnt tokens mark in the teacher's map (Huang et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class MasKD(DistillationLoss):
    """Average the squared difference inside each mask, over the masks.

    Per map the mean over images and channels of 1/T sum_i sum_hw m_i^2 (s - t)^2 / sum_hw m_i, as released, with masks
    m_i = sigmoid(token_i . t). After `warmup_steps` calls in training mode m_i is multiplied by the same token's mask
    of the adapted student; no gradient passes through masks.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        Returns `maskd`, summed over maps.

    Departures: the source trains tokens, and a branch that weights them per image, on the teacher's task loss
    beforehand. Here every token weighs 1/T, and tokens are FreeKD's low-band prompts (`load_prompts`); without these
    they stay at their initial N(0, 0.01), whose masks are nearly 1/2 everywhere. `weight` is the released one of
    RetinaNet (FCOS and RepPoints: 10; Faster R-CNN: 1).
    """

    steps: Tensor

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        tokens: int = 6,
        warmup_steps: int = 1000,
        weight: float = 7.0,
    ) -> None:
        super().__init__()
        self.warmup_steps = warmup_steps
        self.weights = {"maskd": weight}
        self.adapters = adapters(student_channels, teacher_channels)
        self.tokens = nn.ParameterList(torch.randn(tokens, count) * 0.01 for count in teacher_channels)  # (T, C) each
        self.tokens.requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # in the state: a resumed run refines in time

    def load_prompts(self, prompts: Mapping[str, Tensor]) -> None:
        """Take the low-band prompts of the prompt stage as tokens; T becomes theirs.

        Args:
            prompts: {"0": (1 + levels, T, C_0), "1": ...}, one per map. Row 0 marks the low band, whose values are
                2^levels times the map's local mean (the transform is orthonormal), so that factor goes into the tokens:
                then masks are the prompt stage's wherever the map is smooth.

        """
        for index, token in enumerate(self.tokens):
            prompt = prompts[str(index)].detach().to(token)
            self.tokens[index] = nn.Parameter(prompt[0] * 2 ** (len(prompt) - 1), requires_grad=False)

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            values = []
            for adapt, tokens, s, t in zip(self.adapters, self.tokens, student, teacher, strict=True):
                adapted = adapt(s)
                importance = self._importance(tokens, adapted, t)  # (N, 1, H, W)
                values.append(((adapted - t).square() * importance).sum(dim=(2, 3)).mean())
            if self.training:
                self.steps += 1
            return {"maskd": torch.stack(values).sum()}

    @torch.no_grad()
    def _importance(self, tokens: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
        """Average m_t^2 / sum_hw m_t over the tokens: all T masks share one squared difference."""
        mask = _masks(tokens, teacher)  # (N, T, H, W)
        if self.steps >= self.warmup_steps:
            mask = mask * _masks(tokens, student)
        return (mask.square() / mask.sum(dim=(2, 3), keepdim=True)).mean(dim=1, keepdim=True)


def _masks(tokens: Tensor, feature: Tensor) -> Tensor:
    return torch.einsum("tc,nchw->nthw", tokens, feature).sigmoid()
