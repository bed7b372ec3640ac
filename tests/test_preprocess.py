import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from pipeline.errors import PipelineError
from pipeline.preprocess import letterbox, load_image, undo, undo_map

SHAPES = [(480, 640), (37, 61), (64, 64), (1, 300), (375, 500), (427, 640), (64, 33), (33, 64)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 320])
def test_letterbox__equals_ultralytics_fixed_square(shape: tuple[int, int], size: int) -> None:
    from ultralytics.data.augment import LetterBox

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    square, _ = letterbox(image, size)
    expected = LetterBox((size, size), auto=False, scaleup=True)(image=image)
    np.testing.assert_array_equal(square, expected.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    assert square.dtype == np.float32
    assert square.flags.c_contiguous


@pytest.mark.parametrize("shape", SHAPES)
def test_undo__inverts_letterbox(shape: tuple[int, int]) -> None:
    height, width = shape
    rng = np.random.default_rng(1)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1) * [width, height]
    boxes = corners.reshape(50, 4).astype(np.float32)
    _, transform = letterbox(np.zeros((*shape, 3), dtype=np.uint8), 320)
    pad = np.array([transform.pad_left, transform.pad_top] * 2, dtype=np.float32)
    gain = np.array(transform.resized * 2, dtype=np.float32) / ([width, height] * 2)
    np.testing.assert_allclose(undo((boxes * gain + pad).astype(np.float32), transform), boxes, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [64, 320])
def test_undo__equals_ultralytics(shape: tuple[int, int], size: int) -> None:
    from ultralytics.utils.ops import scale_boxes

    boxes = np.random.default_rng(0).uniform(-5, size + 5, (50, 4)).astype(np.float32)
    _, transform = letterbox(np.zeros((*shape, 3), dtype=np.uint8), size)
    np.testing.assert_allclose(undo(boxes, transform), scale_boxes((size, size), boxes.copy(), shape), rtol=1e-5)


def test_undo__clips_to_the_original_image() -> None:
    _, transform = letterbox(np.zeros((100, 200, 3), dtype=np.uint8), 64)
    outside = np.array([[-50, -50, 500, 500]], dtype=np.float32)
    np.testing.assert_array_equal(undo(outside, transform), [[0, 0, 200, 100]])


def test_undo__takes_no_boxes() -> None:
    _, transform = letterbox(np.zeros((10, 20, 3), dtype=np.uint8), 64)
    assert undo(np.zeros((0, 4), dtype=np.float32), transform).shape == (0, 4)


@pytest.mark.parametrize("shape", [(48, 64), (90, 60), (64, 64), (33, 121), (200, 320), (427, 640)])
@pytest.mark.parametrize("size", [64, 320])
def test_undo_map__puts_classes_back_where_the_image_shows_them(shape: tuple[int, int], size: int) -> None:
    """The image's grey levels are its classes, so the square that the network sees is its own class map."""
    rng = np.random.default_rng(0)
    mask = cv2.resize(rng.integers(0, 4, (3, 4)).astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    square, transform = letterbox(np.repeat(mask[..., None] * np.uint8(80), 3, axis=2), size)
    found = undo_map(np.rint(square[0] * 255 / 80).astype(np.uint8), transform)
    assert (found.shape, found.dtype) == (shape, np.uint8)
    reach = 2 * max(1, round(1 / transform.scale)) + 1  # pixels that a border is blurred over
    inner = cv2.dilate(mask, np.ones((reach, reach))) == cv2.erode(mask, np.ones((reach, reach)))
    assert inner.mean() > 0.3
    np.testing.assert_array_equal(found[inner], mask[inner])


@pytest.mark.parametrize("shape", SHAPES)
def test_undo_map__leaves_the_padding_out(shape: tuple[int, int]) -> None:
    square, transform = letterbox(np.zeros((*shape, 3), dtype=np.uint8), 64)
    assert not undo_map((square[0] > 0).astype(np.uint8), transform).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_undo_map__mixes_no_classes(shape: tuple[int, int]) -> None:
    _, transform = letterbox(np.zeros((*shape, 3), dtype=np.uint8), 64)
    classes = np.random.default_rng(0).choice(np.array([0, 7], dtype=np.uint8), (64, 64))
    assert set(np.unique(undo_map(classes, transform))) <= {0, 7}


def test_undo_map__of_an_image_of_the_squares_size_is_the_map() -> None:
    classes = np.random.default_rng(0).integers(0, 200, (64, 64), dtype=np.uint8)
    _, transform = letterbox(np.zeros((64, 64, 3), dtype=np.uint8), 64)
    np.testing.assert_array_equal(undo_map(classes, transform), classes)


def test_load_image__is_rgb(tmp_path: Path) -> None:
    red = np.zeros((4, 6, 3), dtype=np.uint8)
    red[..., 0] = 255
    PillowImage.fromarray(red).save(tmp_path / "red.png")
    np.testing.assert_array_equal(load_image(tmp_path / "red.png"), red)


def test_load_image__turns_upright(tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    PillowImage.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_image(tmp_path / "turned.jpg").shape == (40, 20, 3)


def test_load_image__grey_has_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 7), 9, dtype=np.uint8))
    assert load_image(tmp_path / "grey.png").shape == (5, 7, 3)


def test_load_image__says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(PipelineError, match=r"text\.jpg: not an image"):
        load_image(tmp_path / "text.jpg")
    with pytest.raises(PipelineError, match=r"absent\.jpg: no such file"):
        load_image(tmp_path / "absent.jpg")


def test_preprocess__needs_no_torch() -> None:
    code = "import sys, pipeline.preprocess; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
