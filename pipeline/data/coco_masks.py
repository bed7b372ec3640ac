"""The bounding box of a COCO `segmentation`: polygons, or run lengths as numbers or as text."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_SHIFT = 60  # of the bits of a run's length: far more pixels than an image has
Corners = tuple[float, float, float, float]


def segmentation_box(segmentation: Any) -> Corners:
    """Bound a segmentation.

    Args:
        segmentation: a list of polygons, each x1, y1, x2, y2, ..., or a mapping of `size` (height, width) and
            `counts`, the lengths of runs of 0 and 1 in turn, column by column: a list, or COCO's text for one.

    Returns:
        Corners xyxy in pixels.

    Raises:
        KeyError, TypeError, ValueError: if it is something else, or is empty.

    """
    if isinstance(segmentation, dict):
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        return _run_box(_run_lengths(counts) if isinstance(counts, str) else counts, height, width)
    points = [float(number) for number in chain.from_iterable(segmentation)]
    if len(points) < 6 or any(len(polygon) % 2 for polygon in segmentation):
        raise ValueError("expected polygons of x and y")
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def _run_box(counts: list[int], height: int, width: int) -> Corners:
    """Bound the runs of 1; nothing of the mask's size is allocated."""
    if any(not 0 <= count <= height * width or count != int(count) for count in counts):
        raise ValueError("the run lengths are no whole numbers up to the size")
    if sum(counts) > height * width:
        raise ValueError(f"the run lengths are more than {height} x {width} pixels")
    ends = np.cumsum(np.asarray(counts, np.int64))
    begins, ends = ends[:-1:2], ends[1::2]
    runs: npt.NDArray[np.bool_] = begins < ends
    begins, lasts = begins[runs], ends[runs] - 1
    if height < 1 or not len(begins):
        raise ValueError("no pixel is set")
    left, right = begins // height, lasts // height
    several = (left != right).any()  # a run over several columns holds the bottom of one and the top of the next
    top = 0 if several else (begins % height).min()
    bottom = height - 1 if several else (lasts % height).max()
    return float(left.min()), float(top), float(right.max() + 1), float(bottom + 1)


def _run_lengths(text: str) -> list[int]:
    """Decode COCO's text: 5 bits a character from the lowest, from the third number on differences to the last but one.

    Raises:
        ValueError: if it is cut off, or holds what is no such number.

    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > MAX_SHIFT:
            raise ValueError("the run lengths are no text of COCO's kind")
        number |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    if shift:
        raise ValueError("the run lengths are cut off")
    return counts
