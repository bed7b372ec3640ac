"""Boxes around a mask's regions."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.distill.regions import MIN_SHARE, region_boxes

HEIGHT, WIDTH = 40, 80
IGNORE = 255
Rectangle = tuple[int, int, int, int, int]  # class, left, top, right, bottom


def drawn(*rectangles: Rectangle) -> Tensor:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    for kind, left, top, right, bottom in rectangles:
        mask[top:bottom, left:right] = kind
    return mask


def boxes_of(rectangles: list[Rectangle], image: int = 0) -> set[tuple[float, ...]]:
    sides = np.float32([WIDTH, HEIGHT, WIDTH, HEIGHT])
    return {(float(image), *(np.float32(corners) / sides).tolist()) for _, *corners in rectangles}


def found(boxes: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in boxes.tolist()}


@pytest.mark.parametrize("seed", range(3))
def test_region_boxes__are_those_of_the_rectangles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rectangles = []
    for cell in range(4):  # one per quarter of the width, so that none touch
        left, top = 20 * cell + int(rng.integers(1, 8)), int(rng.integers(1, 20))
        rectangles.append(
            (int(rng.integers(1, 4)), left, top, left + int(rng.integers(4, 11)), top + int(rng.integers(4, 19)))
        )
    assert found(region_boxes(drawn(*rectangles)[None], background=0)) == boxes_of(rectangles)


def test_region_boxes__know_their_image() -> None:
    first, second = (1, 0, 0, 10, 10), (2, 30, 5, 50, 25)
    masks = torch.stack([drawn(first), drawn(), drawn(second)])
    assert found(region_boxes(masks, background=0)) == boxes_of([first], 0) | boxes_of([second], 2)


def test_region_boxes__two_regions_of_a_class_are_two_and_touching_classes_are_apart() -> None:
    rectangles = [(1, 0, 0, 10, 10), (1, 40, 0, 50, 10), (2, 10, 0, 20, 10)]
    assert found(region_boxes(drawn(*rectangles)[None], background=0)) == boxes_of(rectangles)


def test_region_boxes__the_background_is_an_object_only_where_it_is_none() -> None:
    everything, inner = (0, 0, 0, WIDTH, HEIGHT), (1, 10, 10, 20, 20)
    mask = drawn(inner)[None]
    assert found(region_boxes(mask, background=0)) == boxes_of([inner])
    assert found(region_boxes(mask, background=1)) == boxes_of([everything])
    assert found(region_boxes(mask, background=None)) == boxes_of([everything, inner])


def test_region_boxes__ignored_pixels_and_specks_are_no_objects() -> None:
    least = MIN_SHARE * HEIGHT * WIDTH
    assert 3 < least < 4
    mask = drawn((IGNORE, 0, 0, 20, 20), (1, 30, 0, 33, 1), (2, 40, 0, 42, 2))[None]  # areas 400, 3 and 4
    assert found(region_boxes(mask, background=0)) == boxes_of([(2, 40, 0, 42, 2)])


def test_region_boxes__of_nothing_are_none() -> None:
    assert region_boxes(drawn()[None], background=0).shape == (0, 5)
    assert region_boxes(torch.full((2, 8, 8), IGNORE), background=None).shape == (0, 5)
