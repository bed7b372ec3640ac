"""Mask files: which can be read, what values they hold, and their bytes as the dataset keeps them."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from pipeline.data.legend import UNKNOWN, Legend
from pipeline.data.prepared import IGNORE
from pipeline.decoding.decode import read_bytes
from pipeline.decoding.header import read_header

FORMATS = frozenset(["PNG", "BMP", "TIFF"])
GREY_16 = frozenset(["I;16", "I;16L", "I;16B"])
MODES = frozenset(["1", "L", "LA", "P", "PA", "RGB", "RGBA", *GREY_16])


@dataclass(frozen=True)
class UnknownValue:
    """A value of a mask that is no class: how many pixels hold it, and the first one, row by row."""

    value: int
    pixels: int
    x: int
    y: int


@dataclass(frozen=True)
class MaskFacts:
    """A mask's `file` and `sha256`, its upright `size` as (width, height), and what its pixels hold.

    `labels_sha256` is that of the prepared ids.
    """

    file: Path
    sha256: str
    labels_sha256: str
    size: tuple[int, int]
    unknown: tuple[UnknownValue, ...]
    labelled: bool  # at least one pixel has a class
    pixels: tuple[int, ...]  # of each class
    ignored_pixels: int


def inspect_mask(legend: Legend, path: Path) -> MaskFacts | str:
    """Decode a mask and look every value up.

    Returns:
        Its facts, or what is wrong with it in words.

    """
    try:
        content = read_bytes(path)
        values = _decode(content, legend.colours)
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        return str(error) or type(error).__name__
    ids = legend.ids(values)
    height, width = values.shape
    sha256, labels_sha256 = (hashlib.sha256(part).hexdigest() for part in (content, ids.tobytes()))
    pixels = class_pixels(ids, len(legend.names))
    ignored = int((ids == IGNORE).sum())
    size = (width, height)
    return MaskFacts(path, sha256, labels_sha256, size, _unknown(values, ids), any(pixels), pixels, ignored)


def class_pixels(ids: npt.NDArray[np.uint8], classes: int) -> tuple[int, ...]:
    """Count the pixels of each class in a mask of class ids."""
    return tuple(np.bincount(ids.ravel(), minlength=classes)[:classes].tolist())


def prepared_mask(content: bytes, legend: Legend, size: tuple[int, int]) -> bytes:
    """Turn a mask that `inspect_mask` found good into a PNG of prepared ids, upright, of `size` (width, height)."""
    ids = legend.ids(_decode(content, legend.colours))
    if ids.shape != size[::-1]:
        ids = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[assignment]
    return encode_png(ids)


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode grey or BGR pixels."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def _decode(content: bytes, colours: bool) -> npt.NDArray[np.int32]:
    """Decode a mask and turn it upright; (H, W) of ids, or of 0xRRGGBB.

    Raises:
        ValueError: if it holds something else; others where Pillow cannot read it.

    """
    header = read_header(content, "BMP, PNG or TIFF")  # first: Ultralytics makes Pillow install codecs for the unknown
    if header.format not in FORMATS:
        raise ValueError(f"holds {header.format} data: masks should be {', '.join(sorted(FORMATS))}, without loss")
    with Image.open(io.BytesIO(content)) as image:
        if image.mode not in MODES:
            raise ValueError(f"Pillow's mode {image.mode}: masks should be 8- or 16-bit grey, palette, or 8-bit RGB")
        _require_whole_values(header.bits, image.mode)
        upright = ImageOps.exif_transpose(image)
    return _colours(upright) if colours else _ids(upright)


def _require_whole_values(bits: int, mode: str) -> None:
    """Refuse files whose numbers Pillow changes to fit 8 bits.

    Raises:
        ValueError: saying what the file has.

    """
    if bits > 8 and mode not in GREY_16:
        raise ValueError(f"has {bits} bits per channel, of which 8 would be lost: save it as 8-bit, or as 16-bit grey")
    if 1 < bits < 8 and mode in ("L", "LA"):
        raise ValueError(f"is {bits}-bit grey, which readers spread over 0 to 255: save it as 8-bit")


def _colours(image: Image.Image) -> npt.NDArray[np.int32]:
    if image.mode in GREY_16:
        raise ValueError("is 16-bit grey, but the classes file has colours")
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _ids(image: Image.Image) -> npt.NDArray[np.int32]:
    pixels = np.asarray(image)
    if pixels.ndim == 3:
        channels = pixels[..., :-1] if image.mode.endswith("A") else pixels
        if (channels != channels[..., :1]).any():
            raise ValueError(
                "holds colours, but the classes file has ids: write its lines as `R G B name`; the colours of COCO's "
                "panoptic PNGs number segments, another way in each image: convert these to class ids"
            )
        pixels = channels[..., 0]
    return pixels.astype(np.int32)


def _unknown(values: npt.NDArray[np.int32], ids: npt.NDArray[np.uint8]) -> tuple[UnknownValue, ...]:
    """List the values without a class, those of the most pixels first."""
    places = np.flatnonzero(ids == UNKNOWN)
    found, firsts, counts = np.unique(values.ravel()[places], return_index=True, return_counts=True)
    rows, columns = np.divmod(places[firsts], values.shape[1])
    listed = zip(found.tolist(), counts.tolist(), columns.tolist(), rows.tolist(), strict=True)
    return tuple(sorted((UnknownValue(*one) for one in listed), key=lambda one: (-one.pixels, one.value)))
