"""Masked L1 between the Haar bands of two maps, in one pass that yields the value and the gradient.

Exact, and without a band tensor that outlives a cache-sized chunk:

- the transform is linear: one transform of the difference serves both maps;
- masks are positive and shared by both maps, so T of them act as their mean (the caller gives that mean);
- the L1 is homogeneous of degree one in the difference, so its value is <gradient, difference> (Euler);
- the gradient of the low band is constant on blocks of 2^L x 2^L pixels and is kept at that size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.distill.wavelet import blocks, even

CHUNK = {"cpu": 2**18, "cuda": 2**25}  # elements: what a cache holds; few kernel launches


def haar_l1(student: Tensor, teacher: Tensor, details: list[Tensor], low: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum the weighted absolute differences of Haar bands over positions.

    Args:
        student: (N, C, H, W); the gradient reaches this map alone.
        teacher: The same shape.
        details: Weights of the detail coefficients per level, finest first, (N or 1, 1, h_l, w_l) or (1, 1, 1, 1); one
            weight serves the three orientations and all channels.
        low: Weights of the low band (N or 1, 1, h_L, w_L) or (1, 1, 1, 1); None leaves the band out.

    Returns:
        Two (N, C) tensors: the details' sums and the low band's (zeros if left out).

    """
    return _HaarL1.apply(student, teacher, low, *details)  # type: ignore[no-any-return]


class _HaarL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, low: Tensor | None, *details: Tensor) -> Any:
        n, c, h, w = student.shape
        levels = len(details)
        size = 2**levels
        gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
        low_gradient = None if low is None else student.new_empty(n, c, -(-h // size), -(-w // size))
        high_sums, low_sums = student.new_empty(n, c), student.new_zeros(n, c)
        scaled = [weight / 2**level for level, weight in enumerate(details, start=1)]  # bands are left unscaled below
        for images, channels in _chunks(student):
            at = images, channels
            difference = student[at] - teacher[at]
            band = _detail_gradient(difference, [_of(weight, images) for weight in scaled], gradient[at])
            high_sums[at] = torch.linalg.vecdot(difference.flatten(2), gradient[at].flatten(2))
            if low is not None and low_gradient is not None:
                low_gradient[at] = torch.sign(band) * (_of(low, images) / size)
                low_sums[at] = band.mul_(low_gradient[at]).sum(dim=(2, 3))
        ctx.gradients = gradient, low_gradient  # not saved tensors: backward scales them in place, so it runs once
        return high_sums, low_sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, high: Tensor, low: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("haar_l1 computes its gradient once: run forward again before a second backward")
        (gradient, low_gradient), ctx.gradients = ctx.gradients, None
        gradient *= high[:, :, None, None]
        if low_gradient is not None:
            levels = len(ctx.needs_input_grad) - 3
            blocky = F.interpolate(low_gradient * low[:, :, None, None], scale_factor=2**levels)
            gradient += blocky[..., : gradient.shape[2], : gradient.shape[3]]
        return (gradient, *[None] * (len(ctx.needs_input_grad) - 1))


def _detail_gradient(x: Tensor, weights: list[Tensor], out: Tensor) -> Tensor:
    """Write the gradient of all levels' weighted L1 with respect to `x` into `out`; return the unscaled low band."""
    a, b, c, d = blocks(even(x))
    top, bottom, left, right = a + b, c + d, a - b, c - d
    low = top + bottom
    lh, hl, hh = top.sub_(bottom).sign_(), left + right, left.sub_(right)
    hl, hh = hl.sign_().mul_(weights[0]), hh.sign_().mul_(weights[0])
    if len(weights) > 1:
        coarser = torch.empty_like(low)
        low = _detail_gradient(low, weights[1:], coarser)
        upper, lower = torch.addcmul(coarser, lh, weights[0]), coarser.addcmul_(lh, weights[0], value=-1)
    else:
        upper = lh.mul_(weights[0])
        lower = -upper
    h, w = x.shape[-2:]
    full = out if h % 2 == w % 2 == 0 else out.new_empty(*out.shape[:2], h + h % 2, w + w % 2)
    a, b, c, d = blocks(full)
    same, other = hl + hh, hl.sub_(hh)
    torch.add(upper, same, out=a)
    torch.sub(upper, same, out=b)
    torch.add(lower, other, out=c)
    torch.sub(lower, other, out=d)
    if full is not out:
        out.copy_(full[..., :h, :w])
    return low


def _chunks(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut (N, C, H, W) into slices of images and channels that stay in cache."""
    n, c, h, w = x.shape
    limit = CHUNK.get(x.device.type, CHUNK["cuda"])
    images, channels = max(1, limit // (c * h * w)), max(1, min(c, limit // (h * w)))
    for start in range(0, n, images):
        for channel in range(0, c, channels):
            yield slice(start, start + images), slice(channel, channel + channels)


def _of(weight: Tensor, images: slice) -> Tensor:
    """Cut a weight as the maps are cut, where it differs between images."""
    return weight[images] if len(weight) > 1 else weight
