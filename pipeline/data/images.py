"""Image files: which can be read, how large they are when upright, and their bytes as the dataset keeps them."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
from PIL import Image, UnidentifiedImageError

from pipeline.decoding.decode import Pixels, decode, read_bytes
from pipeline.decoding.header import IMAGE_SUFFIXES, JPEG_END, SUFFIXES, read_header

SUPPORTED = SUFFIXES
LOOKS_LIKE_IMAGE = IMAGE_SUFFIXES
MIN_SIDE_PX = 10  # Ultralytics refuses smaller ones
ORIENTATION = 0x0112  # the EXIF tag
TURNED = frozenset(range(2, 9))  # its values that turn or mirror an image
SUFFIX_OF: Final = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
ENCODING: Final[dict[str, list[int]]] = {
    "JPEG": [
        *(cv2.IMWRITE_JPEG_QUALITY, 95),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ],
    "WEBP": [cv2.IMWRITE_WEBP_QUALITY, 101],  # above 100: lossless
}
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # sizes are checked before Pillow sees them


@dataclass(frozen=True)
class ImageFacts:
    """`sha256` of the file's bytes and the upright `size` as (width, height)."""

    sha256: str
    size: tuple[int, int]


def upright_size(path: Path) -> tuple[int, int] | None:
    """Read width and height, after EXIF rotation, from a file's header.

    None only for a file that `inspect_image` refuses too.
    """
    try:
        return read_header(read_bytes(path)).upright_size
    except ValueError:
        return None


def inspect_image(path: Path) -> ImageFacts | str:
    """Decode an image with both libraries that later stages use, OpenCV and Pillow.

    Returns:
        Its facts, or what is wrong with it in words.

    """
    if path.suffix.lower() not in SUPPORTED:
        return f"{path.suffix} is not supported: convert it to one of {' '.join(SUPPORTED)}"
    try:
        content = read_bytes(path)
        height, width = decode(content).shape[:2]
        declared = read_header(content).upright_size
    except ValueError as error:
        return str(error)
    if declared != (width, height):
        return f"declares {declared[0]} x {declared[1]} pixels, but decodes to {width} x {height}: save it anew"
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        return f"Pillow cannot read it: {_reason(error)}"
    if min(width, height) < MIN_SIDE_PX:
        return f"{width} x {height} pixels: each side should have {MIN_SIDE_PX} or more"
    return ImageFacts(hashlib.sha256(content).hexdigest(), (width, height))


def upright_bytes(content: bytes) -> bytes:
    """Return an image file's bytes as they are, unless readers might disagree: then `decode`'s pixels, encoded anew.

    Boxes refer to those pixels. Pillow also follows an orientation in XMP or in a PNG's text, which OpenCV does not. A
    JPEG with bytes after its end gets one more end marker, since Ultralytics would otherwise rewrite the file in the
    prepared folder.
    """
    header = read_header(content)
    if header.orientation in TURNED or _turned_by_pillow(content):
        return _encode(decode(content), header.format)
    return content if header.format != "JPEG" or content.endswith(JPEG_END) else content + JPEG_END


def _turned_by_pillow(content: bytes) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        try:
            return image.getexif().get(ORIENTATION) in TURNED
        except Exception:  # Pillow raises many kinds on damaged EXIF data, which then turn nothing
            return False


def _encode(pixels: Pixels, form: str) -> bytes:
    return bytes(cv2.imencode(SUFFIX_OF[form], pixels, ENCODING.get(form, []))[1])


def _reason(error: Exception) -> str:
    """Say what went wrong without the memory address that Pillow puts into its message."""
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged or of an unusual kind: save it anew as 8-bit PNG"
    return str(error) or type(error).__name__
