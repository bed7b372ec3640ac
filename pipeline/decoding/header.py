"""What an image file declares before it is decoded: its format, size, depth and orientation. Needs no library."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
IMAGE_SUFFIXES: Final = frozenset(  # also what cannot be read, to say so
    [*SUFFIXES, ".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".dng", ".mpo", ".pfm"]
)
FORMATS: Final = "JPEG, PNG, BMP, WebP or TIFF"
TRUNCATED: Final = "is truncated: its end is missing"
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/"
JPEG_END: Final = b"\xff\xd9"
JPEG_SCAN, JPEG_APP1 = 0xDA, 0xE1
JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_MARKER: Final = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")  # those that a segment follows
BMP_HEADERS: Final = frozenset([12, 40, 52, 56, 64, 108, 124])  # lengths of its versions
EXIF: Final = b"Exif\0\0"
ORIENTATION: Final = 0x0112  # these five are TIFF tags
WIDTH, HEIGHT, BITS, SAMPLE_FORMAT = 0x0100, 0x0101, 0x0102, 0x0153
TIFF_MARK, BIG_TIFF_MARK = 42, 43
TIFF_CODES: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the whole-number types
TIFF_SAMPLES: Final = {1: "unsigned", 2: "signed", 3: "float"}

# What other files begin with, to name them; (offset, bytes).
OTHERS: Final = {
    "GIF": [(0, b"GIF8")],
    "HEIC": [(8, brand) for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")],
    "AVIF": [(8, b"avif"), (8, b"avis")],
    "camera raw": [(8, b"crx "), (0, b"FUJIFILM"), (0, b"IIRO"), (0, b"IIU\0")],
    "video": [(4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"\0\0\x01\xba"), (0, b"FLV\x01")],
    "JPEG 2000": [(4, b"jP  "), (0, b"\xff\x4f\xff\x51")],
    "JPEG XL": [(0, b"\xff\x0a"), (4, b"JXL ")],
    "PNM": [(0, b"P%d%s" % (kind, blank)) for kind in range(1, 8) for blank in (b"\n", b" ", b"\r", b"\t")],
    "PFM": [(0, b"PF\n"), (0, b"Pf\n")],
    "OpenEXR": [(0, b"v/1\x01")],
    "Radiance HDR": [(0, b"#?RA"), (0, b"#?RGBE")],
    "Photoshop": [(0, b"8BPS")],
    "DICOM": [(128, b"DICM")],
    "PDF": [(0, b"%PDF")],
    "SVG or HTML": [(0, b"<svg"), (0, b"<?xml"), (0, b"<!DOCTYPE"), (0, b"<!doctype"), (0, b"<html")],
    "zip": [(0, b"PK\x03\x04")],
    "NumPy": [(0, b"\x93NUMPY")],
}


@dataclass(frozen=True)
class Header:
    """A file's format as Pillow names it, its size as stored, bits per channel, sample type and EXIF orientation."""

    format: str
    width: int
    height: int
    bits: int = 8
    sample: str = "unsigned"  # or signed, float
    orientation: int = 1  # 1 to 8: anything else counts as 1, as in OpenCV and Pillow

    @property
    def upright_size(self) -> tuple[int, int]:
        """Return width and height after the orientation was applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(content: bytes, formats: str = FORMATS) -> Header:
    """Read the header of an image file.

    Args:
        content: the whole file.
        formats: what to convert a file of an unknown one to.

    Raises:
        ValueError: saying in words what the file is instead, or that it is damaged or truncated.

    """
    if not content:
        raise ValueError("has 0 bytes")
    for begin, parse in PARSERS.items():
        if content.startswith(begin) and (begin != b"RIFF" or content[8:12] == b"WEBP"):
            try:
                return parse(content)
            except (struct.error, IndexError, KeyError, OverflowError):
                raise ValueError("its header is damaged or truncated") from None
    if content.startswith(LFS_POINTER):
        raise ValueError("holds a pointer of Git LFS, not the file: run `git lfs pull` where it came from")
    for name, marks in OTHERS.items():
        if any(content.startswith(mark, offset) for offset, mark in marks):
            raise ValueError(f"holds {name} data: convert it to {formats}")
    raise ValueError(f"not an image: expected {formats} data")


def _jpeg(content: bytes) -> Header:
    size, bits, orientation = (0, 0), 8, 0
    marker, position = _next_marker(content, 2)
    while marker != JPEG_SCAN:
        (length,) = struct.unpack_from(">H", content, position)
        body = content[position + 2 : position + length]
        if marker in JPEG_FRAMES:
            bits, height, width = struct.unpack_from(">BHH", body)
            size = width, height
        elif marker == JPEG_APP1 and body.startswith(EXIF):
            orientation = orientation or _exif_orientation(body.removeprefix(EXIF))  # the first counts
        marker, position = _next_marker(content, position + length)
    if content.find(JPEG_END, position) < 0:
        raise ValueError(TRUNCATED)
    return Header("JPEG", *size, bits=bits, orientation=orientation or 1)


def _next_marker(content: bytes, position: int) -> tuple[int, int]:
    """Find the next segment, past bytes between segments as libjpeg does: its marker and where its length stands."""
    found = JPEG_MARKER.search(content, position)
    if found is None:
        raise IndexError
    return found[1][0], found.end()


def _png(content: bytes) -> Header:
    width, height, bits = struct.unpack_from(">IIB", content, 16)
    orientation, position, kind = 1, 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, position)
        if position + 12 + length > len(content):
            raise ValueError(TRUNCATED)
        if kind == b"eXIf":
            orientation = _exif_orientation(content[position + 8 : position + 8 + length])
        position += 12 + length
    return Header("PNG", width, height, bits=bits, orientation=orientation)


def _webp(content: bytes) -> Header:
    chunks = dict(_riff_chunks(content))
    orientation = _exif_orientation(chunks.get(b"EXIF", b"").removeprefix(EXIF))
    if b"VP8X" in chunks:
        sides = [int.from_bytes(chunks[b"VP8X"][start : start + 3], "little") + 1 for start in (4, 7)]
    elif b"VP8L" in chunks:
        (packed,) = struct.unpack_from("<I", chunks[b"VP8L"], 1)
        sides = [(packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1]
    else:
        sides = [side & 0x3FFF for side in struct.unpack_from("<HH", chunks[b"VP8 "], 6)]
    return Header("WEBP", sides[0], sides[1], orientation=orientation)


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    (total,) = struct.unpack_from("<I", content, 4)
    if total + 8 > len(content):
        raise ValueError(TRUNCATED)
    position = 12
    while position + 8 <= total + 8:
        kind, length = struct.unpack_from("<4sI", content, position)
        yield kind, content[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def _bmp(content: bytes) -> Header:
    (length,) = struct.unpack_from("<I", content, 14)
    if length not in BMP_HEADERS:
        raise IndexError
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", content, 18)
    return Header("BMP", width, abs(height))  # a negative height: rows from the top


def _tiff(content: bytes) -> Header:
    order, entries = _first_directory(content)
    tags: dict[int, int] = {}  # the first number of each
    for tag, kind, place in entries:
        if kind in TIFF_CODES:
            (tags[tag],) = struct.unpack_from(order + TIFF_CODES[kind], content, place)
    sample = TIFF_SAMPLES.get(tags.get(SAMPLE_FORMAT, 1), "unsigned")
    size = tags[WIDTH], tags[HEIGHT]
    return Header("TIFF", *size, tags.get(BITS, 1), sample, _known(tags.get(ORIENTATION, 1)))


def _exif_orientation(content: bytes) -> int:
    """Read EXIF data as OpenCV does: the orientation is a 16-bit number, whatever type it is said to have."""
    order = "<" if content.startswith(b"II") else ">"
    try:
        mark, start = struct.unpack_from(f"{order}HI", content, 2)
        (entries,) = struct.unpack_from(f"{order}H", content, start)
        for index in range(entries if mark == TIFF_MARK else 0):
            tag, value = struct.unpack_from(f"{order}H6xH", content, start + 2 + 12 * index)
            if tag == ORIENTATION:
                return _known(value)
    except struct.error:  # damaged
        pass
    return 1


def _known(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _first_directory(content: bytes) -> tuple[str, list[tuple[int, int, int]]]:
    """List the tags of a TIFF or BigTIFF file's first directory.

    Returns:
        The byte order as `struct` writes it, and each tag's number, type and the offset of its first value.

    """
    order = "<" if content.startswith(b"II") else ">"
    big = struct.unpack_from(f"{order}H", content, 2)[0] == BIG_TIFF_MARK
    offset, count = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
    room = struct.calcsize(offset)
    (start,) = struct.unpack_from(offset, content, 8 if big else 4)
    (entries,) = struct.unpack_from(count, content, start)
    found: list[tuple[int, int, int]] = []
    for index in range(min(entries, 0xFFFF)):
        entry = start + struct.calcsize(count) + index * (4 + 2 * room)
        tag, kind = struct.unpack_from(f"{order}HH", content, entry)
        (values,) = struct.unpack_from(offset, content, entry + 4)
        place = entry + 4 + room
        if values * struct.calcsize(TIFF_CODES.get(kind, "B")) > room:
            (place,) = struct.unpack_from(offset, content, place)
        found.append((tag, kind, place))
    return order, found


PARSERS: Final[dict[bytes, Callable[[bytes], Header]]] = {
    b"\xff\xd8\xff": _jpeg,
    PNG_SIGNATURE: _png,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
}
