"""Frequency prompts and the points of interest they mark in a teacher's wavelet bands (FreeKD, section 3.2).

A prompt P of shape (1 + levels, T, C) belongs to one pyramid map: row 0 to the low band, rows 1.. to the detail
levels, finest first. Its mask at a level is sigmoid(P S), S the band with its three orientations summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.distill.wavelet import Bands, haar, inverse_haar


def init_prompts(channels: Sequence[int], levels: int, prompts: int) -> nn.ParameterList:
    """Draw prompts from N(0, 0.01), one (1 + levels, T, C) tensor per pyramid map: every mask starts near 1/2."""
    return nn.ParameterList(torch.randn(1 + levels, prompts, count) * 0.01 for count in channels)


def masks(prompt: Tensor, bands: Bands) -> list[Tensor]:
    """Mark the points of interest, low band first, then the levels, finest first.

    Args:
        prompt: (1 + levels, T, C).
        bands: Of a teacher map (N, C, H, W).

    Returns:
        1 + levels masks (N, T, h, w) in (0, 1).

    """
    low, details = bands
    sums = [low, *(detail.sum(dim=2) for detail in details)]  # (N, C, h, w) each
    return [torch.einsum("tc,nchw->nthw", row.to(s), s).sigmoid() for row, s in zip(prompt, sums, strict=True)]


def prompted(feature: Tensor, prompt: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Rebuild a teacher map from its masked bands.

    The sum over T masks is scaled by 2 / T: masks start at 1/2, so the rebuilt map starts as the map itself for any T
    (as published it does for T = 2 only).

    Returns:
        The map (N, C, H, W) and its masks, see `masks`.

    """
    low, details = bands = haar(feature, levels=prompt.shape[0] - 1)
    marked = masks(prompt, bands)
    gates = [mask.mean(dim=1, keepdim=True) * 2 for mask in marked]  # (N, 1, h, w)
    gated = low * gates[0], [detail * gate[:, :, None] for detail, gate in zip(details, gates[1:], strict=True)]
    return inverse_haar(gated, *feature.shape[-2:]).to(feature), marked


def overlap(mask: Tensor) -> Tensor:
    """Average the Dice overlap of every pair of different prompts' masks (FreeKD's anti-collapse term, as released).

    Args:
        mask: (N, T, h, w) in (0, 1).

    Returns:
        A scalar in [0, 1]; 0 for a single prompt.

    """
    flat = mask.flatten(2)  # (N, T, hw)
    count = flat.shape[1]
    if count == 1:
        return flat.new_zeros(())
    gram = flat @ flat.mT  # (N, T, T)
    square = gram.diagonal(dim1=1, dim2=2)
    dice = 2 * gram / (square[:, :, None] + square[:, None, :] + 2e-12)  # a mask can be 0 everywhere on a small map
    pairs = dice.sum(dim=(1, 2)) - dice.diagonal(dim1=1, dim2=2).sum(dim=1)
    return (pairs / (count * (count - 1))).mean()
