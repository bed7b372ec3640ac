"""Multi-level 2-D Haar transform of feature maps, orthonormal, exact for any height and width.

Signs and zero padding are pytorch_wavelets' (`DWTForward(wave="haar", mode="zero")`): detail = s (x[2k] - x[2k+1]).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Bands = tuple[Tensor, list[Tensor]]  # low band, details finest first


def haar(x: Tensor, levels: int) -> Bands:
    """Split maps into a low band and `levels` groups of detail bands.

    Args:
        x: (N, C, H, W), any floating type; computed in float32 at least.
        levels: Number of times the low band is split again.

    Returns:
        The low band (N, C, h_L, w_L), and per level, finest first, details (N, C, 3, h_l, w_l) in the order LH, HL, HH,
        with h_l = ceil(h_{l-1} / 2): odd sides are padded by one zero.

    """
    low, details = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x, []
    for _ in range(levels):
        a, b, c, d = _blocks(low)
        low = (a + b + c + d) / 2
        lh, hl, hh = (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2
        details.append(torch.stack([lh, hl, hh], dim=2))
    return low, details


def inverse_haar(bands: Bands, height: int, width: int) -> Tensor:
    """Put bands together again: the inverse of `haar`, cropped to (N, C, height, width)."""
    low, details = bands
    sizes = [(height, width)]
    for _ in details[1:]:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    for detail, (h, w) in zip(reversed(details), reversed(sizes), strict=True):
        lh, hl, hh = detail.unbind(dim=2)
        rows = [
            torch.stack([low + lh + hl + hh, low + lh - hl - hh], dim=-1).flatten(-2),  # a, b: even rows (N, C, h, 2w)
            torch.stack([low - lh + hl - hh, low - lh - hl + hh], dim=-1).flatten(-2),  # c, d: odd rows
        ]
        low = torch.stack(rows, dim=-2).flatten(-3, -2)[..., :h, :w] / 2  # (N, C, 2h, 2w), cropped
    return low


def _blocks(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cut maps into the four pixels of each 2 x 2 block: top left, top right, bottom left, bottom right."""
    x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    return x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
