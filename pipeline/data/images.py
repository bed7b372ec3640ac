"""Image files: which can be read, how large they are when upright, and their bytes as the dataset keeps them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

SUPPORTED = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LOOKS_LIKE_IMAGE = frozenset([*SUPPORTED, ".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".dng", ".mpo", ".pfm"])
FORMATS = frozenset(["JPEG", "MPO", "PNG", "BMP", "WEBP", "TIFF"])
MIN_SIDE_PX = 10  # Ultralytics refuses smaller ones
ORIENTATION = 0x0112  # the EXIF tag
ENCODING: dict[str, dict[str, int | bool]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class ImageFacts:
    """`sha256` of the file's bytes and the upright `size` as (width, height)."""

    sha256: str
    size: tuple[int, int]


def upright_size(path: Path) -> tuple[int, int] | None:
    """Read width and height, after EXIF rotation, from a file's header; None if that is impossible."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow has turned the size of a TIFF already.
            turned = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) >= 5
    except Exception:  # whatever a damaged header makes Pillow raise; `inspect_image` says what it is
        return None
    return (height, width) if turned else (width, height)


def inspect_image(path: Path) -> ImageFacts | str:
    """Decode an image with both libraries that later stages use, Pillow and OpenCV.

    Returns:
        Its facts, or what is wrong with it in words.

    """
    if path.suffix.lower() not in SUPPORTED:
        return f"{path.suffix} is not supported: convert it to one of {' '.join(SUPPORTED)}"
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if image.format not in FORMATS:
                return f"holds {image.format} data: convert it to one of {' '.join(SUPPORTED)}"
            size = ImageOps.exif_transpose(image).size
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        return f"Pillow cannot read it: {str(error) or type(error).__name__}"
    if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
        return "OpenCV cannot read it"
    if min(size) < MIN_SIDE_PX:
        return f"{size[0]} x {size[1]} pixels: each side should have {MIN_SIDE_PX} or more"
    return ImageFacts(hashlib.sha256(content).hexdigest(), size)


def upright_bytes(content: bytes) -> bytes:
    """Return an image file's bytes as they are, unless EXIF rotates it: then decoded, turned and encoded again.

    Boxes refer to upright pixels, and not every reader of the prepared images honours EXIF. A JPEG with bytes after
    its end gets one more end marker, since Ultralytics would otherwise rewrite the file in the prepared folder.
    """
    with Image.open(io.BytesIO(content)) as image:
        form = "JPEG" if image.format == "MPO" else image.format
        if image.getexif().get(ORIENTATION, 1) == 1:
            return content if form != "JPEG" or content.endswith(JPEG_END) else content + JPEG_END
        written = io.BytesIO()
        ImageOps.exif_transpose(image).save(written, format=form, **ENCODING.get(str(form), {}))
        return written.getvalue()
