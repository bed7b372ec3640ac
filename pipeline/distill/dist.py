"""DIST: keep the correlations between and within classes (Huang et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.distill.loss import DistillationLoss


class DIST(DistillationLoss):
    """Average 1 - Pearson's correlation of the class scores, over positions and over classes.

    Scores of a level are a matrix p (N H W, K): `inter` correlates its rows (the classes at one position), `intra` its
    columns (one class over all positions); both times temperature^2, as released.

    Shape:
        student, teacher: equally long lists of class logits (N, K, H_i, W_i), finest first.
        Returns `inter` and `intra`, each in [0, 2] for temperature 1, summed over levels.

    Options `inter` and `intra` are the paper's beta and gamma. The source offers softmax and sigmoid; sigmoid is the
    default here because Ultralytics' class branch is one-vs-all. Correlations of constant rows (as with K = 1) are 0,
    so that a perfect student has `inter` 1 there, not 0.
    """

    reads = "scores"

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        activation: Literal["sigmoid", "softmax"] = "sigmoid",
        temperature: float = 1.0,
        inter: float = 1.0,
        intra: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation, self.temperature = activation, temperature
        self.weights = {name: weight for name, weight in {"inter": inter, "intra": intra}.items() if weight}

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> dict[str, Tensor]:
        """Compare the scores of all levels."""
        with torch.autocast(student[0].device.type, enabled=False):
            levels = [(self._scores(s), self._scores(t)) for s, t in zip(student, teacher, strict=True)]
            parts = {}
            for name in self.weights:
                pairs = levels if name == "inter" else [(s.T, t.T) for s, t in levels]
                parts[name] = torch.stack([_relation(s, t) for s, t in pairs]).sum() * self.temperature**2
            return parts

    def _scores(self, logits: Tensor) -> Tensor:
        x = logits.permute(0, 2, 3, 1).flatten(0, 2) / self.temperature  # (NHW, K)
        return x.sigmoid() if self.activation == "sigmoid" else x.softmax(dim=1)


def _relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Average 1 - Pearson's correlation over the rows of (A, B)."""
    s, t = (x - x.mean(dim=1, keepdim=True) for x in (student, teacher))
    correlation = (s * t).sum(dim=1) / (s.norm(dim=1) * t.norm(dim=1) + 1e-8)  # the source's guard of constant rows
    return 1 - correlation.mean()
