"""Predicted boxes beside ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.colours import Colour, colour_of
from pipeline.report.sheet import TEXT, Cell, Scene, cell_side, draw_sheet, enlarged, font_of, titles_of

Rectangle = tuple[float, float, float, float]

MATCH_IOU = 0.5
MIN_SCORE = 0.25  # predictions below it are not drawn
MAX_LABELS = 10  # of one picture: more would hide the objects, and the legend names the colors
SWATCH = 16  # pixels


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


def draw_boxes(path: Path, scenes: Sequence[Scene[Boxes]], classes: Sequence[str]) -> None:
    """Draw one row per image: ground truth, then each model's boxes with class and score, enlarged to be legible.

    Under each prediction stands what it found and what it made up, at IoU 0.5 and the right class. Boxes of a picture
    with many are told apart by color alone, which the legend below names.

    Args:
        path: the PNG to write.
        scenes: the images; all with the same prediction columns.
        classes: name of each class id.

    Raises:
        PipelineError: if there is no image, or the images differ in their columns.

    """
    titles = titles_of([scene.predictions for scene in scenes], path)
    cells = []
    for scene in scenes:
        canvas, scale = enlarged(scene.image, cell_side(1 + len(titles)))
        row: list[Cell] = [(_with_boxes(canvas, scale, scene.truth, classes), f"{scene.name}: {_count(scene.truth)}")]
        for title in titles:
            found = scene.predictions[title].above(MIN_SCORE)
            row.append((_with_boxes(canvas, scale, found, classes), _verdict(scene.truth, found)))
        cells.append(row)
    draw_sheet(path, ["ground truth", *titles], cells, _legend(scenes, classes))


def undrawn(scenes: Sequence[Scene[Boxes]]) -> str:
    """Say of which models no box is drawn, so that scores below `MIN_SCORE` are not taken for finding nothing."""
    best: dict[str, float] = {}
    for scene in scenes:
        for title, found in scene.predictions.items():
            top = 0.0 if found.scores is None else float(found.scores.max(initial=0.0))
            best[title] = max(best.get(title, 0.0), top)
    low = [f"{title} (highest score {score:.2f})" for title, score in best.items() if score < MIN_SCORE]
    return f"No box is drawn of {', '.join(low)}." if low else ""


def _legend(scenes: Sequence[Scene[Boxes]], classes: Sequence[str]) -> list[Cell]:
    """Name the color of each class that is drawn."""
    drawn = [boxes.above(MIN_SCORE) for scene in scenes for boxes in (scene.truth, *scene.predictions.values())]
    present = sorted({int(kind) for boxes in drawn for kind in boxes.classes})
    return [(Image.new("RGB", (SWATCH, SWATCH), colour_of(kind)), classes[kind]) for kind in present]


def _with_boxes(canvas: Image.Image, scale: float, boxes: Boxes, classes: Sequence[str]) -> Image.Image:
    picture = canvas.copy()
    draw, text_px = ImageDraw.Draw(picture), TEXT if len(boxes.classes) <= 6 else TEXT - 3
    font, taken = font_of(text_px), list[Rectangle]()
    corners = boxes.xyxy.astype(np.float64) * scale
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 6)  # a tiny box is drawn large enough to see
    for (x0, y0, x1, y1), kind in zip(corners, boxes.classes, strict=True):
        draw.rectangle((x0, y0, x1, y1), outline=(0, 0, 0), width=5)  # a dark rim: visible on any image
        draw.rectangle((x0 + 1, y0 + 1, x1 - 1, y1 - 1), outline=colour_of(int(kind)), width=3)
    if len(boxes.classes) > MAX_LABELS:
        return picture
    for index, ((x0, y0, _, y1), kind) in enumerate(zip(corners, boxes.classes, strict=True)):
        text = classes[int(kind)] + ("" if boxes.scores is None else f" {boxes.scores[index]:.2f}")
        size = (draw.textlength(text, font) + 8, text_px + 5)
        wishes = [(x0, y0 - size[1]), (x0, y0), (x0, y1), (x0, y1 - size[1])]  # above, inside, below, inside below
        spot = _free_spot(wishes, size, picture.size, taken)
        taken.append(spot)
        draw.rectangle(spot, fill=colour_of(int(kind)), outline=(0, 0, 0))
        draw.text((spot[0] + 4, spot[1] + 1), text, _on(colour_of(int(kind))), font)
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


def _on(colour: Colour) -> Colour:
    return (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 110 else (255, 255, 255)
