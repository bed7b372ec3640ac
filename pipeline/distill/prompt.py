"""Frequency prompts and the points of interest they mark in a teacher's wavelet bands (FreeKD, section 3.2).

A prompt P of shape (1 + levels, T, C) belongs to one pyramid map: row 0 to the low band, rows 1.. to the detail
levels, finest first. Its mask at a level is sigmoid(P S), S the band with its three orientations summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.distill.wavelet import band_sums, dwt, idwt

Overlap = Literal["dice", "jaccard"]


def init_prompts(channels: Sequence[int], levels: int, prompts: int) -> nn.ParameterList:
    """Draw prompts from N(0, 0.01), one (1 + levels, T, C) tensor per pyramid map: every mask starts near 1/2."""
    return nn.ParameterList(torch.randn(1 + levels, prompts, count) * 0.01 for count in channels)


def masks(prompt: Tensor, feature: Tensor, wavelet: str = "haar") -> list[Tensor]:
    """Mark the points of interest in a map, low band first, then the levels, finest first.

    The prompts read the map before its transform, which is linear and per channel: T maps go through it and not C.

    Args:
        prompt: (1 + levels, T, C).
        feature: (N, C, H, W).
        wavelet: See `dwt`.

    Returns:
        1 + levels masks (N, T, h, w) in (0, 1).

    """
    rows, count, channels = prompt.shape
    n, _, h, w = feature.shape
    projected = prompt.view(-1, channels).to(feature) @ feature.flatten(2)  # (N, (1 + levels) T, HW)
    sums = band_sums(projected.view(n, rows * count, h, w), rows - 1, wavelet)
    return [s.unflatten(1, (rows, count))[:, row].sigmoid() for row, s in enumerate(sums)]


def prompted(feature: Tensor, prompt: Tensor, wavelet: str = "haar") -> tuple[Tensor, list[Tensor]]:
    """Rebuild a teacher map from its masked bands.

    The sum over T masks is scaled by 2 / T: masks start at 1/2, so the rebuilt map starts as the map itself for any T
    (as published it does for T = 2 only).

    Returns:
        The map (N, C, H, W) and its masks, see `masks`.

    """
    low, details = dwt(feature, len(prompt) - 1, wavelet)
    marked = masks(prompt, feature, wavelet)
    gates = [mask.mean(dim=1, keepdim=True) * 2 for mask in marked]  # (N, 1, h, w)
    gated = low * gates[0], [detail * gate[:, :, None] for detail, gate in zip(details, gates[1:], strict=True)]
    height, width = feature.shape[-2:]
    return idwt(gated, height, width, wavelet).to(feature), marked


def overlap(mask: Tensor, measure: Overlap = "dice") -> Tensor:
    """Average the soft overlap of the prompts' masks (FreeKD's anti-collapse term).

    Args:
        mask: (N, T, h, w) in (0, 1).
        measure: `dice` as released, over pairs of different prompts, 0 for a single one; `jaccard` as the paper writes
            it, over all T^2 pairs.

    Returns:
        A scalar in [0, 1].

    """
    flat = mask.flatten(2)  # (N, T, hw)
    count = flat.shape[1]
    gram = flat @ flat.mT  # (N, T, T)
    square = gram.diagonal(dim1=1, dim2=2)
    either = square[:, :, None] + square[:, None, :] + 2e-12  # a mask can be 0 everywhere on a small map
    if measure == "jaccard":
        return (gram / (either - gram)).mean()
    if count == 1:
        return flat.new_zeros(())
    dice = 2 * gram / either
    pairs = dice.sum(dim=(1, 2)) - dice.diagonal(dim1=1, dim2=2).sum(dim=1)
    return (pairs / (count * (count - 1))).mean()
