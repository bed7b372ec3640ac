"""The grids of `int8.onnx`: uint8 activations and int8 weights that every CPU multiplies without overflow.

A CPU without VNNI (AVX2, the first AVX-512) multiplies uint8 by int8 and adds two neighboring products in 16 bits,
which end at 32767. So an activation's range takes 181 levels, and the two largest weights of one sign in a channel
together at most 181: 181 * 181 is within 32767. The other levels of uint8 keep what lies beyond the range, up to 1.4
times the highest value where nothing is negative.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

LEVELS: Final = 181
LARGEST_WEIGHT: Final = 127
TINY: Final = float(np.finfo(np.float32).tiny)

Floats = npt.NDArray[np.float32]


def activation_grid(lowest: float, highest: float) -> tuple[np.float32, int]:
    """Return the scale of a range and the level of zero, from 0 to 181; 0 where nothing is negative."""
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    scale = np.float32((highest - lowest) / LEVELS)
    if scale < TINY:  # nothing but zeros
        return np.float32(1.0), 0
    return scale, round(-lowest / float(scale))


def weight_scales(weight: Floats, axis: int) -> Floats:
    """Return the scale of each output channel of a weight, (channels,); `axis` is theirs."""
    channels = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    pairs = np.maximum(_largest_pair(channels), _largest_pair(-channels))
    scales = np.maximum(np.abs(channels).max(axis=1) / np.float32(LARGEST_WEIGHT), pairs / np.float32(LEVELS))
    return np.where(scales < TINY, np.float32(1.0), scales).astype(np.float32)


def _largest_pair(channels: Floats) -> Floats:
    """Return the largest sum of two positive weights of each channel."""
    largest = np.sort(np.maximum(channels, 0), axis=1)[:, -2:]
    return np.asarray(largest.sum(axis=1), dtype=np.float32)
