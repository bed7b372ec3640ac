"""Multi-level 2-D wavelet transform of feature maps and its inverse, for any height and width.

Haar takes an exact direct path; every other wavelet of PyWavelets goes through pytorch_wavelets. Bands, signs and zero
padding are those of `pytorch_wavelets.DWTForward(mode="zero")`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pywt
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import PipelineError

Bands = tuple[Tensor, list[Tensor]]  # low band, details finest first


def dwt(x: Tensor, levels: int, wavelet: str = "haar") -> Bands:
    """Split maps into a low band and `levels` groups of detail bands.

    Args:
        x: (N, C, H, W), any floating type; computed in float32 at least, also under autocast.
        levels: Number of times the low band is split again.
        wavelet: A discrete wavelet's name, see `pywt.wavelist(kind="discrete")`.

    Returns:
        The low band (N, C, h_L, w_L), and per level, finest first, details (N, C, 3, h_l, w_l) in the order LH, HL, HH.
        For Haar h_l = ceil(h_{l-1} / 2); longer filters add up to half their length.

    Raises:
        PipelineError: for an unknown wavelet.

    """
    x = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x
    with torch.autocast(x.device.type, enabled=False):
        if wavelet == "haar":
            return _haar(x, levels)
        low, details = _filters("forward", wavelet, levels, x.device, x.dtype)(x)
        return low, details


def idwt(bands: Bands, height: int, width: int, wavelet: str = "haar") -> Tensor:
    """Put bands together again: the inverse of `dwt`, cropped to (N, C, height, width)."""
    low, details = bands
    with torch.autocast(low.device.type, enabled=False):
        if wavelet == "haar":
            return _inverse_haar(bands, height, width)
        x: Tensor = _filters("inverse", wavelet, len(details), low.device, low.dtype)(bands)
        return x[..., :height, :width]


def band_sums(x: Tensor, levels: int, wavelet: str = "haar") -> list[Tensor]:
    """Compute the low band, and LH + HL + HH per level, finest first.

    For Haar, LH + HL + HH = 2 x[::2, ::2] - LL: a low-pass pyramid and a strided read are enough.

    Returns:
        1 + levels tensors (N, C, h, w).

    """
    if wavelet != "haar":
        low, details = dwt(x, levels, wavelet)
        return [low, *(detail.sum(dim=2) for detail in details)]
    low, sums = x.float() if x.dtype in {torch.float16, torch.bfloat16} else x, []
    for _ in range(levels):
        a, b, c, d = blocks(even(low))
        low = (a + b + c + d) / 2
        sums.append(2 * a - low)
    return [low, *sums]


def blocks(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """View maps of even sides as the four pixels of each block: top left, top right, bottom left, bottom right."""
    return x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]


def even(x: Tensor) -> Tensor:
    """Append a zero column or row where a side is odd."""
    bottom, right = x.shape[-2] % 2, x.shape[-1] % 2
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def _haar(x: Tensor, levels: int) -> Bands:
    low, details = x, []
    for _ in range(levels):
        a, b, c, d = blocks(even(low))
        top, bottom, left, right = a + b, c + d, a - b, c - d
        low = (top + bottom) / 2
        details.append(torch.stack([top - bottom, left + right, left - right], dim=2) / 2)
    return low, details


def _inverse_haar(bands: Bands, height: int, width: int) -> Tensor:
    low, details = bands
    sizes = [(height, width)]
    for _ in details[1:]:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    for detail, (h, w) in zip(reversed(details), reversed(sizes), strict=True):
        lh, hl, hh = detail.unbind(dim=2)
        top, bottom, left, right = low + lh, low - lh, hl + hh, hl - hh
        rows = [
            torch.stack([top + left, top - left], dim=-1).flatten(-2),  # even rows (N, C, h, 2w)
            torch.stack([bottom + right, bottom - right], dim=-1).flatten(-2),  # odd rows
        ]
        low = torch.stack(rows, dim=-2).flatten(-3, -2)[..., :h, :w] / 2  # (N, C, 2h, 2w), cropped
    return low


@lru_cache(maxsize=16)
def _filters(direction: str, wavelet: str, levels: int, device: torch.device, dtype: torch.dtype) -> Any:
    if wavelet not in pywt.wavelist(kind="discrete"):
        known = ", ".join(pywt.families())
        raise PipelineError(f"wavelet {wavelet!r} is unknown: expected haar, or a discrete wavelet out of {known}")
    from pytorch_wavelets import DWTForward, DWTInverse

    if direction == "forward":
        transform = DWTForward(J=levels, wave=wavelet, mode="zero")
    else:
        transform = DWTInverse(wave=wavelet, mode="zero")
    return transform.to(device=device, dtype=dtype)
