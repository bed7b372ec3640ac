"""Image file to network input and back: one rule for training's validation, evaluation, parity, latency and devices.

A fixed square, the image scaled to fit (up or down, bilinear), centred, grey padding 114, RGB, float32 in [0, 1]:
Ultralytics' `LetterBox(auto=False, scaleup=True, center=True)`. Needs numpy and OpenCV only: devices have no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.decoding.decode import decode, read_bytes
from pipeline.errors import PipelineError

Image = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]

PADDING: Final = 114
DESCRIPTION: Final = {  # travels in the ONNX file's metadata
    "resize": "letterbox",
    "interpolation": "bilinear",
    "scale_up": True,
    "centred": True,
    "padding": PADDING,
    "colour": "RGB",
    "layout": "NCHW",
    "range": [0, 1],
}


@dataclass(frozen=True)
class LetterboxTransform:
    """Where an image lies in its square: `input = original * resized / original size + pad`; sizes in pixels."""

    scale: float
    pad_left: int
    pad_top: int
    width: int  # the original's
    height: int

    @property
    def resized(self) -> tuple[int, int]:
        """Return width and height inside the square."""
        return max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1)


def load_image(path: Path) -> Image:
    """Decode an image file as RGB, upright, by the rule of `pipeline/decoding/decode.py`.

    Returns:
        (H, W, 3) uint8; grey and 16-bit files are converted.

    Raises:
        PipelineError: if the file is missing or cannot be used, with the reason.

    """
    try:
        image = decode(read_bytes(path))  # (H, W, 3) BGR
    except ValueError as error:
        raise PipelineError(f"{path}: {error}") from None
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def fit(image: Image, size: int) -> tuple[Image, float]:
    """Scale an image, (H, W, 3) uint8, so that its longer side is `size` pixels; return it and the scale."""
    height, width = image.shape[:2]
    scale = min(size / height, size / width)
    fitted = max(round(width * scale), 1), max(round(height * scale), 1)
    if fitted != (width, height):
        image = np.asarray(cv2.resize(image, fitted, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return image, scale


def letterbox(image: Image, size: int) -> tuple[Array, LetterboxTransform]:
    """Fit an image into a square.

    Args:
        image: (H, W, 3) uint8 RGB.
        size: Side of the square in pixels.

    Returns:
        (3, size, size) float32 in [0, 1], contiguous, and the transform that `undo` takes.

    """
    height, width = image.shape[:2]
    image, scale = fit(image, size)
    new_height, new_width = image.shape[:2]
    # An odd remainder goes to the right and the bottom, as in Ultralytics.
    left, top = round((size - new_width) / 2 - 0.1), round((size - new_height) / 2 - 0.1)
    square = np.full((3, size, size), PADDING / np.float32(255), dtype=np.float32)
    inside = square[:, top : top + new_height, left : left + new_width]  # (3, h, w), a view
    np.divide(image.transpose(2, 0, 1), np.float32(255), out=inside)
    return square, LetterboxTransform(scale, left, top, width, height)


def undo(boxes: Array, transform: LetterboxTransform) -> Array:
    """Map boxes from the square back to the original image, clipped to it.

    Args:
        boxes: (N, 4) xyxy in pixels of the square.
        transform: What `letterbox` returned for the image.

    Returns:
        (N, 4) xyxy float32 in pixels of the original image.

    """
    pad = np.array([transform.pad_left, transform.pad_top] * 2, dtype=np.float32)
    limit = np.array([transform.width, transform.height] * 2, dtype=np.float32)
    gain = np.array(transform.resized * 2, dtype=np.float32) / limit  # each side was rounded to whole pixels
    return np.clip((boxes - pad) / gain, 0, limit)


def undo_map(classes: npt.NDArray[np.uint8], transform: LetterboxTransform) -> npt.NDArray[np.uint8]:
    """Map a class map from the square back to the original image: without the padding, nearest neighbour.

    Args:
        classes: (S, S) class ids in the square.
        transform: What `letterbox` returned for the image.

    Returns:
        (H, W) class ids in pixels of the original image.

    """
    width, height = transform.resized
    inside = classes[transform.pad_top : transform.pad_top + height, transform.pad_left : transform.pad_left + width]
    if inside.shape == (transform.height, transform.width):
        return inside
    size = (transform.width, transform.height)
    return np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
