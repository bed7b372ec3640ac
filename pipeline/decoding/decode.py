"""Image file to pixels: one rule for prepare, training's data, evaluation and `predict`. Needs numpy and OpenCV only.

- Formats: JPEG, PNG, BMP, WebP, TIFF, told by their content; of several pages or frames the first.
- Orientation: EXIF's, as OpenCV applies it. One that stands in XMP or a text chunk only, or that is not 1 to 8, turns
  nothing.
- Transparency: the alpha channel is dropped, so the colors stored under transparent pixels count, as in Ultralytics
  (an 8-bit TIFF's colors are multiplied by it). Flatten such images first if they should look otherwise.
- Depth: up to 8 bits, of unsigned numbers, or 16 of which the high byte is taken; see `MIN_16_BIT_PEAK`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.decoding.header import Header, read_header

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS: Final = 178_956_970  # Pillow refuses more, and so Ultralytics skips such a file in training
MIN_16_BIT_PEAK: Final = 1 << 14  # a 16-bit image below it comes from 10 to 14 bits: its high bytes are nearly black
_log = threading.Lock()
_log_state = {"users": 0, "level": 0}


def read_bytes(path: Path) -> bytes:
    """Read a file's bytes; OpenCV never sees the name, which may hold bytes that are no UTF-8.

    Raises:
        ValueError: saying in words why it cannot be read.

    """
    try:
        if not path.is_file():
            raise ValueError("is a folder" if path.is_dir() else "no such file")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None


def decode(content: bytes) -> Pixels:
    """Decode an image file's bytes, upright.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: saying in words what is wrong and what to do.

    """
    header = read_header(content)
    _require_readable(header)
    data = np.frombuffer(content, np.uint8)
    if header.bits == 16:
        return _high_byte(_imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH))
    return np.asarray(_imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log in all threads that decode; the level is restored when the last one is done."""
    with _log:
        if not _log_state["users"]:
            _log_state["level"] = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _log_state["users"] += 1
    try:
        yield
    finally:
        with _log:
            _log_state["users"] -= 1
            if not _log_state["users"]:
                cv2.utils.logging.setLogLevel(_log_state["level"])


def _require_readable(header: Header) -> None:
    size = f"{header.width} x {header.height}"
    if header.width <= 0 or header.height <= 0:
        raise ValueError(f"declares a size of {size} pixels: its header is damaged")
    if header.width * header.height > MAX_PIXELS:
        raise ValueError(
            f"{size} pixels are more than {MAX_PIXELS // 10**6} megapixels, which Ultralytics leaves out as corrupt: "
            "cut it into tiles"
        )
    if header.sample != "unsigned" or not (header.bits <= 8 or header.bits == 16):
        raise ValueError(f"{header.bits}-bit {header.sample}: convert it to 8 bits")


def _high_byte(pixels: npt.NDArray[np.uint16]) -> Pixels:
    peak = int(pixels.max())
    if 0 < peak < MIN_16_BIT_PEAK:
        raise ValueError(f"16-bit image that uses 0-{peak} of 65535: scale it to 8 bits")
    return np.asarray(pixels >> 8, dtype=np.uint8)


def _imdecode(data: Pixels, flags: int) -> npt.NDArray[Any]:
    with quiet_opencv():
        try:
            pixels = cv2.imdecode(data, flags)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise ValueError("OpenCV cannot decode it: it is damaged or of an unusual kind: save it anew as 8-bit PNG")
    return pixels
