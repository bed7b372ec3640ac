"""Whether a runtime's answer is one that the model's metadata allows: a file may say anything of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.backends import Metadata

Outputs = Sequence[npt.NDArray[Any]]


def output_fault(metadata: Metadata, images: int, outputs: Outputs) -> str:
    """Say in what way outputs are not what `Backend` promises; empty if they are.

    Args:
        metadata: Of the model.
        images: How many images went in.
        outputs: What came out.

    """
    for output in outputs:
        if output.dtype.kind not in "fiu":
            return f"expected numbers, got an output of type {output.dtype}"
        if bad := np.count_nonzero(~np.isfinite(output)):
            return f"{bad} of the output's {output.size} values are NaN or infinite"
    return (_boxes_fault if metadata.task == "detect" else _class_map_fault)(metadata, images, outputs[0])


def _boxes_fault(metadata: Metadata, images: int, output: npt.NDArray[Any]) -> str:
    classes = len(metadata.classes)
    expected = (images, None, 6) if metadata.end2end else (images, 4 + classes, None)
    if not _fits(output, expected) or output.dtype.kind != "f":
        return _shape_fault("floats", expected, output)
    labels = output[..., 5] if metadata.end2end else np.zeros(1)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        return f"expected class ids from 0 to {classes - 1}, got {labels.min():g} to {labels.max():g}"
    return ""


def _class_map_fault(metadata: Metadata, images: int, output: npt.NDArray[Any]) -> str:
    classes, size = len(metadata.classes), metadata.image_size_px
    expected = (images, size, size)
    if not _fits(output, expected) or output.dtype != np.uint8:
        return _shape_fault("uint8 class ids", expected, output)
    return f"expected class ids from 0 to {classes - 1}, got {output.max()}" if output.max() >= classes else ""


def _fits(output: npt.NDArray[Any], expected: Sequence[int | None]) -> bool:
    return output.ndim == len(expected) and all(
        side in {None, got} for side, got in zip(expected, output.shape, strict=True)
    )


def _shape_fault(what: str, expected: Sequence[int | None], output: npt.NDArray[Any]) -> str:
    sides = ", ".join("any" if side is None else str(side) for side in expected)
    return f"expected {what} of shape ({sides}), got {output.dtype} of shape {output.shape}"
