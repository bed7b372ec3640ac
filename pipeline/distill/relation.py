"""The paper's position-aware channel weight omega_t x omega_s (FreeKD, section 3.3).

Omega = G(softmax(psi(F) F^T)) asks how a map's channels relate to the following map's over positions. The paper leaves
open what psi and G are, how the weight is kept from vanishing, and who trains them. Here:

- psi is a 1x1 convolution of the next coarser map, or of the map itself where it is the last; the product over
  positions runs on the coarser grid, and channels are standardised first, so that the softmax does not saturate;
- G is a two-layer gate per channel with a sigmoid, zero-initialised: every channel starts alike;
- the product omega_t x omega_s is divided by its mean over channels: it moves weight between channels and cannot make
  the loss vanish, which it does where it is trained to lower an unnormalised loss;
- psi and G train with the student, by its optimiser; the maps are detached, so the student is not asked to change
  what its channels mean in order to lower a weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Relation(nn.Module):
    """Weigh the channels of a pyramid's maps.

    Shape:
        maps: list of (N, C_i, H_i, W_i), finest first. Returns one omega (N, C_i) in (0, 1) per map.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        following = [*channels[1:], channels[-1]]
        self.psi = nn.ModuleList(nn.Conv2d(after, own, 1) for own, after in zip(channels, following, strict=True))
        self.gates = nn.ModuleList(_gate(count) for count in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Compute omega for every map."""
        maps = [m.detach() for m in maps]
        following = [*maps[1:], maps[-1]]
        return [
            gate(_affinity(own, psi(after))).squeeze(-1).sigmoid()
            for own, after, psi, gate in zip(maps, following, self.psi, self.gates, strict=True)
        ]


def joint(teacher: Tensor, student: Tensor) -> Tensor:
    """Multiply two omegas (N, C); the result has mean 1 over channels."""
    product = teacher * student
    return product / product.mean(dim=1, keepdim=True)


def _affinity(own: Tensor, after: Tensor) -> Tensor:
    """Relate channels over positions: (N, C, H, W) and (N, C, h, w) to a row-stochastic (N, C, C)."""
    own = F.adaptive_avg_pool2d(own, (after.shape[2], after.shape[3]))
    f, psi = (F.layer_norm(x.flatten(2), (x[0, 0].numel(),)) for x in (own, after))  # each channel standardised
    return torch.softmax(psi @ f.mT / f.shape[-1] ** 0.5, dim=-1)


def _gate(channels: int) -> nn.Sequential:
    last = nn.Linear(max(channels // 4, 4), 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(channels, max(channels // 4, 4)), nn.ReLU(), last)
