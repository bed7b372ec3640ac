"""What prepare writes looks the same to every reader: OpenCV, Pillow and Ultralytics."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ultralytics.data.utils import exif_size
from ultralytics.utils.patches import imread

from pipeline.data.images import ImageFacts, inspect_image, upright_bytes, upright_size
from pipeline.data.similar import look_at
from pipeline.preprocess import load_image

ROOT = Path(__file__).parents[2]
ORIENTATION = 0x0112
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def scene() -> np.ndarray:
    pixels = np.full((40, 64, 3), 60, np.uint8)
    pixels[:14, :20], pixels[:14, 44:], pixels[26:, :20] = (220, 30, 30), (30, 220, 30), (30, 30, 220)
    return cv2.GaussianBlur(pixels, (0, 0), 3)


def exif_of(value: object) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def raw_profile(pixels: np.ndarray) -> bytes:
    """Return a PNG with EXIF orientation 6 in a text chunk, as ImageMagick writes it."""
    from PIL.PngImagePlugin import PngInfo

    payload = b"Exif\0\0" + exif_of(6).tobytes().removeprefix(b"Exif\0\0")
    text, written = PngInfo(), io.BytesIO()
    text.add_text("Raw profile type exif", f"\nexif\n{len(payload):8}\n{payload.hex()}\n")
    Image.fromarray(pixels).save(written, "PNG", pnginfo=text)
    return written.getvalue()


def saved(path: Path, **options: object) -> Path:
    Image.fromarray(scene()).save(path, **options)
    return path


def agree(path: Path) -> np.ndarray:
    """Assert that all readers see the same upright pixels; return them."""
    pixels = load_image(path)
    with Image.open(path) as image:
        assert image.getexif().get(ORIENTATION, 1) not in range(2, 9)
        assert exif_size(image) == pixels.shape[1::-1]
    np.testing.assert_array_equal(imread(path)[..., ::-1], pixels)
    assert upright_size(path) == pixels.shape[1::-1]
    return pixels


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_prepared__all_readers_agree_on_exif(tmp_path: Path, suffix: str, orientation: int) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", exif=exif_of(orientation), **options)
    facts, before = inspect_image(path), load_image(path)
    assert isinstance(facts, ImageFacts)
    assert facts.size == upright_size(path) == ((40, 64) if 5 <= orientation <= 8 else (64, 40))
    content = path.read_bytes()
    path.write_bytes(upright_bytes(content))
    assert np.abs(agree(path).astype(int) - before).max() <= (12 if suffix == "jpg" else 0)
    if orientation in (0, 1, 9):
        assert path.read_bytes() == content, "nothing to turn: not encoded anew"


def test_prepared__orientation_that_pillow_alone_sees_turns_nothing(tmp_path: Path) -> None:
    (tmp_path / "raw.png").write_bytes(raw_profile(scene()))
    for path in (saved(tmp_path / "xmp.jpg", xmp=XMP), tmp_path / "raw.png"):
        with Image.open(path) as image:
            assert image.getexif()[ORIENTATION] == 6, "Pillow would turn it"
        assert inspect_image(path) == ImageFacts(inspect_image(path).sha256, (64, 40))
        assert upright_size(path) == (64, 40)
        before = load_image(path)
        path.write_bytes(upright_bytes(path.read_bytes()))
        assert np.abs(agree(path).astype(int) - before).max() <= 12


def test_upright_size__of_an_orientation_stored_as_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", exif=exif_of(6))
    text = path.read_bytes().replace(b"\x01\x12\0\3\0\0\0\1\0\6\0\0", b"\x01\x12\0\2\0\0\0\0021\0\0\0")
    path.write_bytes(text)
    with Image.open(path) as image:
        assert image.getexif()[ORIENTATION] == "1"
    assert upright_size(path) == (64, 40)
    assert upright_bytes(path.read_bytes()) == path.read_bytes()


def test_prepared__damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    content = saved(tmp_path / "a.webp", exif=exif_of(6), lossless=True).read_bytes()
    path = tmp_path / "b.webp"
    path.write_bytes(content.replace(b"MM\0*", b"MM\0c"))
    assert upright_size(path) == load_image(path).shape[1::-1] == (64, 40)
    assert upright_bytes(path.read_bytes()) == path.read_bytes()


def test_inspect__names_the_fault_without_an_address(tmp_path: Path) -> None:
    contents = {"a.jpg": b"", "b.jpg": b"\0\0\0\x18ftypheic" + bytes(80), "c.png": b"\x89PNG\r\n\x1a\n" + bytes(9)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "d.tif")
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(tmp_path / "e.png")
    Image.fromarray(np.zeros((9, 20), np.uint8)).save(tmp_path / "f.png")
    messages = {path.name: str(inspect_image(path)) for path in sorted(tmp_path.iterdir())}
    assert messages == {
        "a.jpg": "has 0 bytes",
        "b.jpg": "holds HEIC data: convert it to JPEG, PNG, BMP, WebP or TIFF",
        "c.png": "its header is damaged or truncated",
        "d.tif": "32-bit float: convert it to 8 bits",
        "e.png": "16-bit image that uses 0-4095 of 65535: scale it to 8 bits",
        "f.png": "20 x 9 pixels: each side should have 10 or more",
    }
    assert str(inspect_image(tmp_path / "g.gif")).startswith(".gif is not supported: convert it to one of")
    assert inspect_image(tmp_path / "g.png") == "no such file"


def test_look_at__prints_nothing_about_a_tag_that_opencv_does_not_know(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "a.tif", tiffinfo={ORIENTATION: 9})
    facts = inspect_image(path)
    assert isinstance(facts, ImageFacts)
    assert look_at((path, facts)) is not None
    assert capfd.readouterr() == ("", "")


def test_prepared__large_images_below_the_limit_give_no_warning(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_500)).save(tmp_path / "large.png")
    code = "import sys, pathlib, pipeline.data.images as i; i.upright_bytes(pathlib.Path(sys.argv[1]).read_bytes())"
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # pytest resets filters
    assert done.stderr == ""


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", [(40, 64), (40, 64, 3)])
def test_prepared__all_readers_agree_on_16_bits(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    pixels = np.linspace(0, 65535, int(np.prod(shape))).astype(np.uint16).reshape(shape)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(bytes(cv2.imencode(f".{suffix}", pixels)[1]))
    assert upright_bytes(path.read_bytes()) == path.read_bytes()
    expected = (pixels >> 8 if len(shape) == 3 else np.dstack([pixels >> 8] * 3))[..., ::-1]
    np.testing.assert_array_equal(agree(path), expected)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_prepared__all_readers_agree_on_transparent_pixels(tmp_path: Path, suffix: str) -> None:
    pixels = np.concatenate([scene(), np.zeros((40, 64, 1), np.uint8)], axis=2)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", **options)
    expected = scene() * (suffix != "tif")  # libtiff multiplies by alpha
    np.testing.assert_array_equal(agree(tmp_path / f"a.{suffix}"), expected)


@pytest.mark.shared
@pytest.mark.parametrize("case", ["a08-exif-orientation-not-a-number", "a09-orientation-only-pillow-sees"])
def test_prepare__boxes_stay_where_opencv_shows_the_objects(make_params, tmp_path: Path, case: str) -> None:
    from pipeline.data.prepare import prepare_dataset
    from pipeline.data.prepared import open_dataset

    shared = ROOT.parent / "shared"
    source = shutil.copytree(shared / "cases" / case / "data", tmp_path / "data")
    prepare_dataset(make_params(source="yolo", path=str(source)), tmp_path / "dataset")
    dataset = open_dataset(tmp_path / "dataset")
    for name in ("ascii", "xmp", "raw"):
        for image in (dataset.root / "images").glob(f"{name}.*"):
            assert agree(image).shape == (64, 96, 3)
            rows = (dataset.root / "labels" / f"{name}.txt").read_text().split("\n")
            numbers = np.array([row.split() for row in rows if row], float)
            corners = np.concatenate([numbers[:, 1:3] - numbers[:, 3:] / 2, numbers[:, 1:3] + numbers[:, 3:] / 2], 1)
            expected = [[16, 8, 48, 24], [64, 40, 80, 56]]
            np.testing.assert_allclose(corners * [96, 64, 96, 64], expected, atol=0.01)
