"""What every distillation loss is, whatever its method."""

from __future__ import annotations

from typing import Literal

from torch import nn


class DistillationLoss(nn.Module):
    """Compare a student's maps with a teacher's.

    `forward(student, teacher)` takes two equally long lists of (N, C_i, H_i, W_i) tensors, finest first, float32 or
    float64, and returns a dict of named scalar parts, unweighted and summed over maps.

    Attributes:
        weights: Of the parts: the source's, or what the options say.
        reads: `features`, the heads' inputs, or `scores`, the heads' class logits (N, classes, H_i, W_i).
        extras: Names of forward's keyword arguments that have to be there beside the maps: `confidence`, `boxes`,
            `objects`; the classes that take them say what they are.

    """

    weights: dict[str, float]
    reads: Literal["features", "scores"] = "features"
    extras: frozenset[str] = frozenset()
