"""The embedded dataset: textured images of overlapping shapes, each generated from its own seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.prepared import SPLITS, Split

Float = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Contours = list[Float]

# Difficulty. Lengths are pixels of a 128-pixel scene and grow with the image; grey levels are of 0 to 255.
REFERENCE_SIDE_PX = 128
OBJECTS = (1, 5)  # per scene
OBJECT_SIZE_PX = (22.0, 64.0)  # outer diameter, log-uniform: small ones are common
ASPECT = (0.7, 1.0)  # shorter axis over longer axis
WALL = (0.24, 0.40)  # of a ring or frame, as a share of its radius: the smallest has walls of about 2 px
GAP = (0.2, 0.4)  # in an open ring, as a share of the turn
CLUTTER = (0, 3)  # shapes of no class per scene, drawn among the objects
CLUTTER_SIZE_PX = (10.0, 40.0)
MIN_VISIBLE = 0.5  # of an object's area: nothing may be hidden further
MIN_CONTRAST = 70.0  # grey levels between an object and what it covers, in the channel that differs most
BACKGROUND_TEXTURE = (4.0, 24.0)  # grey levels, standard deviation
OBJECT_TEXTURE = (0.0, 12.0)  # grey levels, standard deviation
STRIPE_PERIOD_PX = (8.0, 32.0)
LIGHT = (0.55, 1.15)  # brightness at the two ends of the lighting gradient
BLUR_PX = (0.0, 0.9)  # Gaussian sigma
NOISE = (2.0, 8.0)  # grey levels, standard deviation

PLACEMENT_TRIES = 8
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Scene:
    """One generated image with its labels.

    `image` (H, W, 3) RGB; `class_ids` (N,); `boxes` (N, 4) xyxy pixels, tight around the visible pixels, right and
    bottom edges exclusive; `mask` (H, W) with 0 for background and class id + 1 elsewhere.
    """

    image: Pixels
    class_ids: npt.NDArray[np.int64]
    boxes: Float
    mask: Pixels


def make_scene(seed: int, split: Split, index: int, size_px: int) -> Scene:
    """Generate scene `index` of a split. It depends on these four arguments and on no other scene."""
    rng = np.random.default_rng([seed % 2**32, SPLITS.index(split), index])
    unit = size_px / REFERENCE_SIDE_PX
    image = _texture(rng, (size_px, size_px), unit, _colour(rng), rng.uniform(*BACKGROUND_TEXTURE))
    owner = np.full((size_px, size_px), -1, np.int16)  # which shape a pixel shows; -1: background
    kinds, areas = _plan(rng), list[float]()
    for kind in kinds:
        areas.append(_place(rng, image, owner, kind, areas))
    return Scene(_photograph(rng, image), *_labels(owner, kinds, areas))


def _plan(rng: np.random.Generator) -> list[str]:
    """Draw which shapes a scene holds, from the lowest to the topmost."""
    objects = rng.choice(CLASSES, rng.integers(*OBJECTS, endpoint=True))
    clutter = rng.choice(CLUTTERS, rng.integers(*CLUTTER, endpoint=True))
    kinds = [str(kind) for kind in (*objects, *clutter)]
    rng.shuffle(kinds)
    return kinds


def _place(
    rng: np.random.Generator, image: Float, owner: npt.NDArray[np.int16], kind: str, areas: list[float]
) -> float:
    """Draw one shape on top where it hides no object too much.

    Returns:
        Its area in pixels, including what lies outside the image; 0 if no place was found.

    """
    side, number = len(image), len(areas)
    for _ in range(PLACEMENT_TRIES):
        contours = _pose(rng, kind, side)
        alpha = _rasterise(contours, side)
        inside = alpha >= 128
        area = abs(sum(_signed_area(contour) for contour in contours))
        covered = np.bincount(owner[~inside & (owner >= 0)], minlength=number)  # what would stay visible of each
        hidden = any(left < MIN_VISIBLE * whole for left, whole in zip(covered, areas, strict=True))
        if hidden or inside.sum() < MIN_VISIBLE * area or not inside.any():
            continue
        _paint(rng, image, alpha, inside)
        owner[inside] = number
        return area
    return 0.0


def _pose(rng: np.random.Generator, kind: str, side: int) -> Contours:
    """Draw size, aspect, rotation and centre of a shape; contours in pixels."""
    low, high = OBJECT_SIZE_PX if kind in CLASSES else CLUTTER_SIZE_PX
    radius = np.exp(rng.uniform(np.log(low), np.log(high))) / 2 * side / REFERENCE_SIDE_PX
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    scale = radius * np.array([1.0, rng.uniform(*ASPECT)])
    centre = rng.uniform(0.05 * side, 0.95 * side, 2)
    return [((contour * scale) @ turn + centre).astype(np.float32) for contour in SHAPES[kind](rng)]


def _rasterise(contours: Contours, side: int) -> Pixels:
    """Fill contours by the even-odd rule, so that an inner contour is a hole; (side, side), 255 inside."""
    alpha = np.zeros((side, side), np.uint8)
    points = [np.round((contour - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32) for contour in contours]
    cv2.fillPoly(alpha, points, 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return alpha


def _paint(rng: np.random.Generator, image: Float, alpha: Pixels, inside: npt.NDArray[np.bool_]) -> None:
    """Blend a textured colour in, one that stands out from what it covers."""
    under = image[inside].mean(0)
    colour = _colour(rng)
    while np.abs(colour - under).max() < MIN_CONTRAST:
        colour = _colour(rng)
    left, top, width, height = cv2.boundingRect(alpha)
    patch = np.s_[top : top + height, left : left + width]
    unit = len(image) / REFERENCE_SIDE_PX
    fill = _texture(rng, (height, width), unit, colour, rng.uniform(*OBJECT_TEXTURE))
    image[patch] += (alpha[patch] / np.float32(255))[..., None] * (fill - image[patch])


def _photograph(rng: np.random.Generator, image: Float) -> Pixels:
    """Apply a lighting gradient, blur and sensor noise."""
    side = len(image)
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    along = np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]  # about -0.7 to 0.7
    first, last = rng.uniform(*LIGHT, 2)
    image = image * (first + (last - first) * (along + 0.5))[..., None].astype(np.float32)
    sigma = rng.uniform(*BLUR_PX) * side / REFERENCE_SIDE_PX
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image = image + rng.uniform(*NOISE) * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _labels(
    owner: npt.NDArray[np.int16], kinds: list[str], areas: list[float]
) -> tuple[npt.NDArray[np.int64], Float, Pixels]:
    """Read class ids, tight boxes and the class mask off the map of owners."""
    mask = np.zeros(owner.shape, np.uint8)
    class_ids, boxes = [], []
    for number, (kind, area) in enumerate(zip(kinds, areas, strict=True)):
        if kind not in CLASSES or not area:
            continue
        visible = owner == number
        xs, ys = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
        mask[visible] = CLASSES.index(kind) + 1
        class_ids.append(CLASSES.index(kind))
        boxes.append((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1))
    return np.array(class_ids, np.int64), np.array(boxes, np.float32).reshape(-1, 4), mask


def _colour(rng: np.random.Generator) -> Float:
    return rng.uniform(20, 235, 3).astype(np.float32)


def _texture(rng: np.random.Generator, shape: tuple[int, int], unit: float, colour: Float, strength: float) -> Float:
    """Modulate a colour by smooth noise, and by stripes half of the time; (*shape, 3)."""
    height, width = shape
    grain = np.zeros(shape, np.float32)
    for cells, weight in ((3, 1.0), (8, 0.7), (24, 0.5)):
        noise = rng.standard_normal((cells, cells), np.float32)
        grain += np.float32(weight) * cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        wave = 2 * np.pi / (rng.uniform(*STRIPE_PERIOD_PX) * unit)
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        grain += np.sin(np.float32(wave) * (np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y + phase))
    tint = rng.uniform(0.5, 1.0, 3).astype(np.float32)
    return colour + np.float32(strength) * grain[..., None] * tint


def _signed_area(contour: Float) -> float:
    x, y = contour.astype(np.float64).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _around(radii: npt.ArrayLike, count: int, start: float = 0.0, end: float = 2 * np.pi) -> Float:
    """Put `count` corners at the given radii, evenly spaced in angle; (count, 2)."""
    angles = np.linspace(start, end, count, endpoint=end - start < 2 * np.pi)
    return (np.stack([np.cos(angles), np.sin(angles)], 1) * np.broadcast_to(radii, count)[:, None]).astype(np.float32)


SQUARE = np.array([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]], np.float32)


def _disc(_: np.random.Generator) -> Contours:
    return [_around(1.0, 40)]


def _ring(rng: np.random.Generator) -> Contours:
    return [_around(1.0, 40), _around(1 - rng.uniform(*WALL), 40)[::-1]]


def _square(_: np.random.Generator) -> Contours:
    return [SQUARE]


def _frame(rng: np.random.Generator) -> Contours:
    return [SQUARE, SQUARE[::-1] * np.float32(1 - 1.3 * rng.uniform(*WALL))]


def _star(_: np.random.Generator) -> Contours:
    return [_around([1.0, 0.45] * 5, 10)]


def _cross(rng: np.random.Generator) -> Contours:
    arm = rng.uniform(0.25, 0.4)
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]], np.float32)
    turn = np.array([[0, 1], [-1, 0]], np.float32)
    return [np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])]


def _open_ring(rng: np.random.Generator) -> Contours:
    """Like a ring, with a gap: no object."""
    end = (1 - rng.uniform(*GAP)) * 2 * np.pi
    return [np.concatenate([_around(1.0, 30, 0, end), _around(1 - rng.uniform(*WALL), 30, 0, end)[::-1]])]


def _open_frame(rng: np.random.Generator) -> Contours:
    """Like a frame, with one wall missing: no object."""
    return [np.concatenate([SQUARE, SQUARE[::-1] * np.float32(1 - 1.3 * rng.uniform(*WALL))])]


def _blob(rng: np.random.Generator) -> Contours:
    return [_around(rng.uniform(0.45, 1.0, 9), 9)]


def _bar(rng: np.random.Generator) -> Contours:
    thin = rng.uniform(0.08, 0.2)
    return [np.array([[-1, -thin], [1, -thin], [1, thin], [-1, thin]], np.float32)]


def _triangle(_: np.random.Generator) -> Contours:
    return [_around(1.0, 3)]


SHAPES: dict[str, Callable[[np.random.Generator], Contours]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "star": _star,
    "cross": _cross,
    "open ring": _open_ring,
    "open frame": _open_frame,
    "blob": _blob,
    "bar": _bar,
    "triangle": _triangle,
}
CLASSES = ("disc", "ring", "square", "frame", "star", "cross")
CLUTTERS = tuple(kind for kind in SHAPES if kind not in CLASSES)
