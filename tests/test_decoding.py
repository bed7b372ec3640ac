"""Every stage and `predict` decode an image by one rule, and say in words what they cannot use."""

import contextlib
import io
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from pipeline.decoding.decode import decode, quiet_opencv, read_bytes
from pipeline.decoding.header import read_header

ORIENTATION = 0x0112
FORMATS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("PNG", "RGB", {}),
    ("PNG", "P", {}),
    ("PNG", "RGBA", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "L", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"big_tiff": True}),
    ("BMP", "RGB", {}),
]


def scene() -> np.ndarray:
    """Return pixels (40, 64, 3) whose corners differ, smooth enough for JPEG."""
    pixels = np.full((40, 64, 3), 60, np.uint8)
    pixels[:14, :20], pixels[:14, 44:], pixels[26:, :20] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    return cv2.GaussianBlur(pixels, (0, 0), 3)


def encoded(form: str, mode: str = "RGB", orientation: int = 1, **options: Any) -> bytes:
    image = PillowImage.fromarray(scene()).convert(mode)
    exif = PillowImage.Exif()
    exif[ORIENTATION] = orientation
    if form == "TIFF":
        options["tiffinfo"] = {ORIENTATION: orientation}
    elif form != "BMP":
        options["exif"] = exif
    written = io.BytesIO()
    image.save(written, form, **options)
    return written.getvalue()


def as_png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def with_exif(entry: bytes, order: bytes = b"II", before: bytes = b"") -> bytes:
    """Put EXIF data of one entry into a JPEG."""
    mark = "<" if order == b"II" else ">"
    body = b"Exif\0\0" + order + struct.pack(f"{mark}HIH", 42, 8, 1) + entry + bytes(4)
    plain = encoded("JPEG")
    return plain[:2] + before + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]


def png_size(width: int, height: int) -> bytes:
    """Return a PNG whose header declares a size that its data do not have."""
    content = encoded("PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("form", "mode", "options"), FORMATS)
def test_decode__turns_exif_orientation_as_pillow_does(
    form: str, mode: str, options: dict[str, Any], orientation: int
) -> None:
    if form == "BMP" and orientation > 1:
        pytest.skip("BMP has no orientation")
    content = encoded(form, mode, orientation, **options)
    pixels, header = decode(content), read_header(content)
    with PillowImage.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), int)
    assert header.orientation == orientation
    assert header.upright_size == pixels.shape[1::-1]
    assert pixels.shape == expected.shape
    assert np.abs(pixels[..., ::-1] - expected).mean() < 6  # the two decode JPEG and WebP a little differently


@pytest.mark.parametrize("order", [b"II", b"MM"])
@pytest.mark.parametrize("value", [0, 6, 9, 255, 65535])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 7, 8, 9])
def test_header__orientation_is_what_opencv_makes_of_it(order: bytes, kind: int, value: int) -> None:
    mark = "<" if order == b"II" else ">"
    for packed in (
        struct.pack(f"{mark}HH", value, 0),
        struct.pack(f"{mark}I", value),
        str(value).encode()[:1] + bytes(3),
    ):
        content = with_exif(struct.pack(f"{mark}HHI", ORIENTATION, kind, 1) + packed, order)
        assert read_header(content).upright_size == decode(content).shape[1::-1]


def test_header__the_first_exif_counts_also_behind_other_segments() -> None:
    six, one = (struct.pack("<HHIHH", ORIENTATION, 3, 1, value, 0) for value in (6, 1))
    other = with_exif(one)
    segment = other[2 : 4 + struct.unpack_from(">H", other, 4)[0]]
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    for before, turned in ((segment, False), (b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp, True)):
        content = with_exif(six, before=before)
        assert (read_header(content).orientation == 6) == turned
        assert (decode(content).shape[:2] == (64, 40)) == turned


@pytest.mark.parametrize("top", [1, 255, 1023, 4095, 16383])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode__refuses_16_bits_below_full_range(top: int, channels: int, suffix: str) -> None:
    pixels = np.linspace(0, top, 40 * 64 * 3).astype(np.uint16).reshape(40, 64, 3)
    if channels == 1:
        pixels = pixels[..., 2]
    if channels == 4:
        pixels = np.concatenate([pixels, np.full((40, 64, 1), 65535, np.uint16)], axis=2)  # opaque
    with pytest.raises(ValueError, match=f"16-bit image that uses 0-{top} of 65535: scale it to 8 bits"):
        decode(bytes(cv2.imencode(suffix, pixels)[1]))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode__takes_the_high_byte_of_a_full_16_bit_range(suffix: str) -> None:
    pixels = np.linspace(0, 65535, 40 * 64 * 3).astype(np.uint16).reshape(40, 64, 3)
    np.testing.assert_array_equal(decode(bytes(cv2.imencode(suffix, pixels)[1])), (pixels >> 8).astype(np.uint8))
    black = np.zeros((40, 64), np.uint16)  # black on any scale
    assert not decode(bytes(cv2.imencode(suffix, black)[1])).any()


def test_decode__drops_alpha_and_keeps_the_colors_under_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 4), dtype=np.uint8)
    np.testing.assert_array_equal(decode(as_png(pixels)), pixels[..., :3])


def tiff(array: np.ndarray) -> bytes:
    written = io.BytesIO()
    PillowImage.fromarray(array).save(written, "TIFF")
    return written.getvalue()


def bmff(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + bytes(8) + b"mif1" + bytes(64)


REFUSED: list[tuple[bytes, str]] = [
    (b"", "has 0 bytes"),
    (b"text", "not an image"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "holds a pointer of Git LFS"),
    (bmff(b"heic"), "holds HEIC data: convert it to JPEG"),
    (bmff(b"mif1"), "holds HEIC data: convert it to JPEG"),
    (bmff(b"avif"), "holds AVIF data: convert it to JPEG"),
    (bmff(b"isom"), "holds video data"),
    (b"GIF89a" + bytes(20), "holds GIF data: convert it to JPEG"),
    (b"P6\n2 2\n255\n" + bytes(12), "holds PNM data: convert it to JPEG"),
    (b"%PDF-1.7", "holds PDF data"),
    (b"RIFF" + bytes(4) + b"AVI LIST", "holds video data"),
    (tiff(np.zeros((12, 12), np.float32)), "32-bit float: convert it to 8 bits"),
    (tiff(np.zeros((12, 12), np.int32)), "32-bit signed: convert it to 8 bits"),
    (png_size(60000, 60000), "60000 x 60000 pixels are more than 178 megapixels.*cut it into tiles"),
    (png_size(20000, 10000), "20000 x 10000 pixels are more than 178 megapixels.*cut it into tiles"),
    (png_size(0, 10), "its header is damaged"),
    (png_size(64, 4000), "OpenCV cannot decode it"),
]


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_decode__says_what_it_cannot_use(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        decode(content)
    assert "0x" not in str(error.value), "no memory address"


@pytest.mark.parametrize(("form", "mode", "options"), FORMATS)
@pytest.mark.parametrize("left", [0.02, 0.3, 0.6, 0.95])
def test_decode__refuses_truncated_files(form: str, mode: str, options: dict[str, Any], left: float) -> None:
    content = encoded(form, mode, **options)
    with pytest.raises(ValueError, match=r"truncated|damaged|not an image|OpenCV cannot decode it"):
        decode(content[: int(len(content) * left)])


def test_decode__a_thumbnail_does_not_hide_that_the_end_is_missing() -> None:
    thumbnail = encoded("JPEG")
    comment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    content = thumbnail[:2] + comment + thumbnail[2:]
    decode(content)
    with pytest.raises(ValueError, match="is truncated"):
        decode(content[:-20])


@pytest.mark.parametrize(("form", "mode", "options"), FORMATS)
def test_decode__damaged_headers_give_one_kind_of_error(form: str, mode: str, options: dict[str, Any]) -> None:
    content, rng = encoded(form, mode, 6 if form != "BMP" else 1, **options), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 400), 3):
            damaged[place] = rng.integers(0, 256)
        with contextlib.suppress(ValueError):
            assert decode(bytes(damaged)).dtype == np.uint8


def test_read_bytes__takes_names_that_opencv_does_not(tmp_path: Path) -> None:
    content = encoded("PNG")
    for name in (b"caf\xe9.png", b"line\nbreak.png", b"x" * 247 + b".png", "\u2028.png".encode()):
        path = tmp_path / Path(name.decode("utf-8", "surrogateescape"))
        path.write_bytes(content)
        assert read_bytes(path) == content


def test_read_bytes__says_why_not(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "a", "no such file"),
        (tmp_path / ("a" * 300), "long"),
    ):
        with pytest.raises(ValueError, match=message):
            read_bytes(path)


def test_quiet_opencv__restores_the_level_whatever_order_threads_end_in() -> None:
    level = cv2.utils.logging.getLogLevel()
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with quiet_opencv():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with quiet_opencv():
        thread.start()
        inside.wait(10)
    assert cv2.utils.logging.getLogLevel() == 0, "another thread still decodes"
    leave.set()
    thread.join()
    assert cv2.utils.logging.getLogLevel() == level


def test_decode__prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for content, _ in REFUSED[:-1]:
        with pytest.raises(ValueError):  # noqa: PT011 the messages are tested above
            decode(content)
    assert capfd.readouterr() == ("", "")
