"""The embedded dataset: reproducible image by image, and labelled by what is visible."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data import scenes
from pipeline.data.scenes import CLASSES, Scene, make_scene


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [make_scene(0, "train", index, 128) for index in range(120)]


def test_scene__same_when_made_again(many):
    again = make_scene(0, "train", 7, 128)
    for name in ("image", "class_ids", "boxes", "mask"):
        np.testing.assert_array_equal(getattr(again, name), getattr(many[7], name))


@pytest.mark.parametrize("arguments", [(1, "train", 7), (0, "val", 7), (0, "train", 8)])
def test_scene__another_for_another_seed_split_or_index(many, arguments):
    assert (make_scene(*arguments, 128).image != many[7].image).any()


def test_boxes__touch_their_pixels_on_all_four_sides(many):
    for scene in many:
        for class_id, (x1, y1, x2, y2) in zip(scene.class_ids, scene.boxes.astype(int), strict=True):
            inside = scene.mask[y1:y2, x1:x2] == class_id + 1
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_mask__holds_nothing_outside_the_boxes(many):
    for scene in many:
        explained = np.zeros_like(scene.mask, bool)
        for class_id, (x1, y1, x2, y2) in zip(scene.class_ids, scene.boxes.astype(int), strict=True):
            explained[y1:y2, x1:x2] |= scene.mask[y1:y2, x1:x2] == class_id + 1
        assert explained[scene.mask > 0].all()


def test_scene__keeps_the_promised_counts_and_sizes(many):
    counts = [len(scene.boxes) for scene in many]
    assert min(counts) >= 1
    assert max(counts) <= scenes.OBJECTS[1]
    boxes = np.concatenate([scene.boxes for scene in many])
    assert ((boxes >= 0) & (boxes <= 128)).all()
    assert (boxes[:, 2:] - boxes[:, :2]).max() <= 1.2 * scenes.OBJECT_SIZE_PX[1]
    shares = np.bincount(np.concatenate([scene.class_ids for scene in many]), minlength=len(CLASSES)) / len(boxes)
    assert shares.min() > 0.5 / len(CLASSES)


def test_scene__hides_no_object_beyond_the_limit(many):
    """A disc has no hole, so its visible pixels are at least the promised share of its smallest possible area."""
    smallest = np.pi / 4 * scenes.OBJECT_SIZE_PX[0] ** 2 * scenes.ASPECT[0]
    for scene in many:
        for class_id, (x1, y1, x2, y2) in zip(scene.class_ids, scene.boxes.astype(int), strict=True):
            if CLASSES[class_id] == "disc":
                visible = (scene.mask[y1:y2, x1:x2] == class_id + 1).sum()
                assert visible >= 0.9 * scenes.MIN_VISIBLE * smallest


@pytest.mark.parametrize("size_px", [32, 96, 256])
def test_scene__scales_with_the_image(size_px):
    made = [make_scene(3, "test", index, size_px) for index in range(20)]
    assert all(scene.image.shape == (size_px, size_px, 3) and scene.mask.shape == (size_px, size_px) for scene in made)
    longest = np.concatenate([(scene.boxes[:, 2:] - scene.boxes[:, :2]).max(1) for scene in made])
    low, high = (side / scenes.REFERENCE_SIDE_PX for side in scenes.OBJECT_SIZE_PX)
    assert low < np.median(longest) / size_px < (low + high) / 2
