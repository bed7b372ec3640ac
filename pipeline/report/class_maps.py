"""Predicted class maps beside ground truth, as translucent colours over the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.colours import Colour, colour_of
from pipeline.data.prepared import IGNORE
from pipeline.report.sheet import INK, SOFT, Cell, Scene, cell_side, draw_sheet, enlarged, titles_of

ClassMap = npt.NDArray[np.uint8]  # (H, W) class ids; IGNORE in ground truth

BACKGROUND = "background"  # the class of this name stays uncoloured
TINT, RIM_PX = 0.5, 2  # strength of the colours, and the width of the full colour along a class's boundary
HATCH_PX, HATCHED, HATCH = 10, (150, 150, 150), (90, 90, 90)  # of pixels without a label
SWATCH_PX, UNCOLOURED = 18, (128, 128, 128)


def draw_class_maps(path: Path, scenes: Sequence[Scene[ClassMap]], classes: Sequence[str]) -> None:
    """Draw one row per image: the image, ground truth and each model's class map, and below all the colours' names.

    Under each prediction stand its mIoU on that image, over the classes that the ground truth has, and its share of
    right pixels.

    Args:
        path: the PNG to write.
        scenes: the images; all with the same prediction columns.
        classes: name of each class id.

    Raises:
        PipelineError: if there is no image, or the images differ in their columns.

    """
    titles = titles_of([scene.predictions for scene in scenes], path)
    colours = _colours(classes)
    cells = []
    for scene in scenes:
        canvas, _ = enlarged(scene.image, cell_side(2 + len(titles)))
        row: list[Cell] = [(canvas, scene.name), (_tinted(canvas, scene.truth, colours), _content(scene.truth))]
        for title in titles:
            found = scene.predictions[title]
            row.append((_tinted(canvas, found, colours), _verdict(scene.truth, found)))
        cells.append(row)
    draw_sheet(path, ["image", "ground truth", *titles], cells, _legend(scenes, classes, colours))


def _colours(classes: Sequence[str]) -> dict[int, Colour]:
    """Colour every class but the background, from the palette's first colour on: as that of boxes."""
    coloured = [index for index, name in enumerate(classes) if name != BACKGROUND]
    return {index: colour_of(place) for place, index in enumerate(coloured)}


def _tinted(canvas: Image.Image, classes: ClassMap, colours: dict[int, Colour]) -> Image.Image:
    ids = np.asarray(Image.fromarray(classes).resize(canvas.size, Image.Resampling.NEAREST))
    pixels = np.asarray(canvas.convert("L"), dtype=np.float64)[..., None]  # grey, so that every colour is a class
    table, strength = np.zeros((256, 3)), np.zeros(256)
    for index, colour in colours.items():
        table[index], strength[index] = colour, TINT
    edge = _differs(ids, RIM_PX)
    share = np.where(edge, np.ceil(strength[ids]), strength[ids])[..., None]  # (H, W, 1)
    tinted = (1 - share) * pixels + share * table[ids]
    uncoloured = (strength[ids] == 0) & _differs(ids, 1)
    tinted[uncoloured] = INK  # the dark side of a boundary: visible whatever the image's colour
    tinted[ids == IGNORE] = _hatched(canvas.size)[ids == IGNORE]
    return Image.fromarray(tinted.astype(np.uint8))


def _differs(ids: ClassMap, radius: int) -> npt.NDArray[np.bool_]:
    """Mark the pixels with another class at most `radius` pixels away."""
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(ids, square) != cv2.erode(ids, square))


def _hatched(size: tuple[int, int]) -> npt.NDArray[np.float64]:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    line = (x + y) % HATCH_PX < HATCH_PX // 4
    return np.where(line[..., None], HATCH, HATCHED).astype(np.float64)  # (H, W, 3)


def _legend(scenes: Sequence[Scene[ClassMap]], classes: Sequence[str], colours: dict[int, Colour]) -> list[Cell]:
    """Explain what the pictures hold, and no other class."""
    maps = [found for scene in scenes for found in (scene.truth, *scene.predictions.values())]
    shown = sorted({int(index) for found in maps for index in np.unique(found)})
    names = {**dict(enumerate(classes)), IGNORE: "no label"}
    return [(_swatch(index, colours), names[index]) for index in shown]


def _swatch(index: int, colours: dict[int, Colour]) -> Image.Image:
    size = (SWATCH_PX, SWATCH_PX)
    hatched = Image.fromarray(_hatched(size).astype(np.uint8))
    swatch = hatched if index == IGNORE else Image.new("RGB", size, colours.get(index, UNCOLOURED))
    ImageDraw.Draw(swatch).rectangle((0, 0, SWATCH_PX - 1, SWATCH_PX - 1), outline=SOFT)
    return swatch


def _content(truth: ClassMap) -> str:
    labelled = truth[truth != IGNORE]
    count = len(np.unique(labelled))
    ignored = 1 - labelled.size / truth.size
    text = f"{count} class{'' if count == 1 else 'es'}"
    return f"{text}, {100 * ignored:.0f} % without a label" if ignored else text


def _verdict(truth: ClassMap, found: ClassMap) -> str:
    """Score one image: mIoU over its ground truth's classes, and the share of its labelled pixels that are right."""
    labelled = truth != IGNORE
    truth, found = truth[labelled], found[labelled]
    if not truth.size:
        return "no labelled pixel"
    right = truth == found
    iou = [(right & (truth == k)).sum() / ((truth == k) | (found == k)).sum() for k in np.unique(truth)]
    return f"mIoU {np.mean(iou):.2f}, {100 * right.mean():.1f} % of pixels right"
