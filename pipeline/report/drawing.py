"""Pictures over images: predictions beside ground truth, and the prompt's masks as heat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import PipelineError

Image8 = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

MATCH_IOU = 0.5
GAP, HEADER, FOOTER, TEXT = 10, 34, 26, 15  # pixels
WIDTH = 1640  # a whole picture, about; cells share it
PAPER, INK, SOFT = (255, 255, 255), (34, 34, 34), (110, 110, 110)
# Okabe and Ito's palette without black, bright enough for a box on a photograph.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (255, 255, 255),
)  # fmt: skip


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image: (N, 4) xyxy in pixels of that image, class ids (N,), scores (N,) or None for ground truth."""

    xyxy: npt.NDArray[np.floating]
    classes: npt.NDArray[np.integer]
    scores: npt.NDArray[np.floating] | None = None

    def above(self, score: float) -> Boxes:
        """Keep boxes with at least this score; ground truth stays whole."""
        if self.scores is None:
            return self
        keep = self.scores >= score
        return Boxes(self.xyxy[keep], self.classes[keep], self.scores[keep])


@dataclass(frozen=True)
class Scene:
    """One test image (H, W, 3) uint8 RGB, its ground truth, and what each model (column title) found."""

    name: str
    image: Image8
    truth: Boxes
    predictions: dict[str, Boxes]


@dataclass(frozen=True)
class MaskedImage:
    """One image (H, W, 3) uint8 RGB and the masks (h, w) in [0, 1] of one pyramid map, by the name of their band."""

    name: str
    image: Image8
    masks: dict[str, npt.NDArray[np.floating]]


def draw_predictions(path: Path, scenes: Sequence[Scene], classes: Sequence[str], min_score: float = 0.25) -> None:
    """Draw one row per image: ground truth, then each model's boxes with class and score, enlarged to be legible.

    Under each prediction stands what it found and what it made up, at IoU 0.5 and the right class.

    Args:
        path: the PNG to write.
        scenes: the images; all with the same prediction columns.
        classes: name of each class id.
        min_score: predictions below it are not drawn.

    Raises:
        PipelineError: if there is no image, or the images differ in their columns.

    """
    titles = _common([list(scene.predictions) for scene in scenes], path)
    cells = []
    for scene in scenes:
        canvas, scale = _enlarged(scene.image, _cell_side(1 + len(titles)))
        row = [(_with_boxes(canvas, scale, scene.truth, classes), f"{scene.name}: {_count(scene.truth)}")]
        for title in titles:
            found = scene.predictions[title].above(min_score)
            row.append((_with_boxes(canvas, scale, found, classes), _verdict(scene.truth, found)))
        cells.append(row)
    _sheet(["ground truth", *titles], cells).save(path, format="PNG")


def draw_masks(path: Path, images: Sequence[MaskedImage]) -> None:
    """Draw one row per image and pyramid map: the image, then each band's mask as heat over it.

    Every mask is stretched to its own range, which stands under it: a mask of 0.50 to 0.52 says next to nothing.

    Raises:
        PipelineError: if there is no image, or the images differ in their bands.

    """
    titles = _common([list(image.masks) for image in images], path)
    cells = []
    for image in images:
        canvas, _ = _enlarged(image.image, _cell_side(1 + len(titles)))
        row = [(_with_heat(canvas, m), f"{m.min():.2f} to {m.max():.2f}") for m in image.masks.values()]
        cells.append([(canvas, image.name), *row])
    _sheet(["image", *titles], cells).save(path, format="PNG")


def _sheet(titles: Sequence[str], cells: Sequence[Sequence[tuple[Image.Image, str]]]) -> Image.Image:
    """Lay out a grid: a title over each column, and a line of text under each cell."""
    side = _cell_side(len(titles))
    heights = [max(cell.height for cell, _ in row) for row in cells]
    size = (GAP + len(titles) * (side + GAP), HEADER + sum(heights) + len(cells) * (FOOTER + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (side + GAP), 8), title, INK, _font(TEXT + 1, bold=True))
    y = HEADER
    for row, height in zip(cells, heights, strict=True):
        for column, (cell, caption) in enumerate(row):
            x = GAP + column * (side + GAP)
            sheet.paste(cell, (x, y))
            draw.text((x, y + cell.height + 4), caption, SOFT, _font(TEXT - 1))
        y += height + FOOTER + GAP
    return sheet


def _with_boxes(canvas: Image.Image, scale: float, boxes: Boxes, classes: Sequence[str]) -> Image.Image:
    picture = canvas.copy()
    draw, text_px = ImageDraw.Draw(picture), TEXT if len(boxes.classes) <= 6 else TEXT - 3
    font, taken = _font(text_px), list[Rectangle]()
    corners = boxes.xyxy.astype(np.float64) * scale
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 6)  # a tiny box is drawn large enough to see
    for (x0, y0, x1, y1), kind in zip(corners, boxes.classes, strict=True):
        draw.rectangle((x0, y0, x1, y1), outline=(0, 0, 0), width=5)  # a dark rim: visible on any image
        draw.rectangle((x0 + 1, y0 + 1, x1 - 1, y1 - 1), outline=_colour(kind), width=3)
    for index, ((x0, y0, _, y1), kind) in enumerate(zip(corners, boxes.classes, strict=True)):
        text = classes[int(kind)] + ("" if boxes.scores is None else f" {boxes.scores[index]:.2f}")
        size = (draw.textlength(text, font) + 8, text_px + 5)
        wishes = [(x0, y0 - size[1]), (x0, y0), (x0, y1), (x0, y1 - size[1])]  # above, inside, below, inside below
        spot = _free_spot(wishes, size, picture.size, taken)
        taken.append(spot)
        draw.rectangle(spot, fill=_colour(kind), outline=(0, 0, 0))
        draw.text((spot[0] + 4, spot[1] + 1), text, _on(_colour(kind)), font)
    return picture


def _free_spot(
    wishes: Sequence[tuple[float, float]],
    size: tuple[float, float],
    within: tuple[int, int],
    taken: Sequence[Rectangle],
) -> Rectangle:
    """Pick the first wished corner where a label covers no other label, kept inside the image; else the first."""
    spots = []
    for x, y in wishes:
        left, top = max(0, min(x, within[0] - size[0] - 1)), max(0, min(y, within[1] - size[1] - 1))
        spots.append((left, top, left + size[0], top + size[1]))
    free = [s for s in spots if not any(s[0] < t[2] and t[0] < s[2] and s[1] < t[3] and t[1] < s[3] for t in taken)]
    return (free or spots)[0]


def _with_heat(canvas: Image.Image, mask: npt.NDArray[np.floating]) -> Image.Image:
    low, high = float(mask.min()), float(mask.max())
    stretched = (mask - low) / (high - low) if high - low > 1e-6 else np.zeros_like(mask)
    grey = Image.fromarray((stretched * 255).astype(np.uint8)).resize(canvas.size, Image.Resampling.BICUBIC)
    heat = matplotlib.colormaps["inferno"](np.asarray(grey) / 255.0)[..., :3] * 255
    flat = 64 + np.asarray(canvas.convert("L"), dtype=np.float64)[..., None] / 2  # so that bright is heat, not image
    blend = 0.4 * flat + 0.6 * heat
    return Image.fromarray(blend.astype(np.uint8))


def _verdict(truth: Boxes, found: Boxes) -> str:
    """Say how many objects were found, and how many boxes match none; each object counts once, best score first."""
    overlaps = _iou(found.xyxy, truth.xyxy) * (found.classes[:, None] == truth.classes[None, :])
    order = np.argsort(-found.scores) if found.scores is not None else np.arange(len(found.xyxy))
    hit: set[int] = set()
    for row in overlaps[order]:
        free = [index for index in np.argsort(-row) if row[index] >= MATCH_IOU and index not in hit]
        hit.update(int(index) for index in free[:1])
    return f"{len(hit)} of {len(truth.xyxy)} found, {len(found.xyxy) - len(hit)} false"


def _iou(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Compute (N, M) intersection over union of xyxy boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (first, second)]
    return inter / np.maximum(areas[0][:, None] + areas[1][None, :] - inter, 1e-9)


def _count(truth: Boxes) -> str:
    return f"{len(truth.xyxy)} object{'' if len(truth.xyxy) == 1 else 's'}"


def _common(columns: Sequence[list[str]], path: Path) -> list[str]:
    if not columns:
        raise PipelineError(f"{path}: expected at least one image to draw, got none: set report.images to 1 or more")
    if any(other != columns[0] for other in columns):
        raise PipelineError(f"{path}: expected the same columns for every image, got {columns}")
    return columns[0]


def _cell_side(columns: int) -> int:
    return max(200, min(400, (WIDTH - GAP) // columns - GAP))


def _enlarged(image: Image8, side: int) -> tuple[Image.Image, float]:
    """Scale an image so that its longer side is `side` pixels; return the scale too."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), scale


def _colour(kind: np.integer) -> Colour:
    return PALETTE[int(kind) % len(PALETTE)]


def _on(colour: Colour) -> Colour:
    return (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 110 else (255, 255, 255)


@lru_cache
def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that matplotlib brings, so that a picture looks the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size_px)
