"""What the pictures over images share: what they are made of, a grid of captioned cells, and fonts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import PipelineError

Image8 = npt.NDArray[np.uint8]
Cell = tuple[Image.Image, str]  # a picture and the line under it
Labels = TypeVar("Labels")  # boxes of an image, or its class map

GAP, HEADER, FOOTER, TEXT = 10, 34, 26, 15  # pixels
WIDTH = 1640  # a whole picture, about; cells share it
PAPER, INK, SOFT = (255, 255, 255), (34, 34, 34), (110, 110, 110)


@dataclass(frozen=True)
class Scene(Generic[Labels]):
    """One test image (H, W, 3) uint8 RGB, its ground truth, and what each model (column title) found."""

    name: str
    image: Image8
    truth: Labels
    predictions: dict[str, Labels]


def titles_of(rows: Sequence[Iterable[str]], path: Path) -> list[str]:
    """Return the column titles that all rows share.

    Raises:
        PipelineError: if there is no row, or rows differ in their columns.

    """
    titles = [list(row) for row in rows]
    if not titles:
        raise PipelineError(f"{path}: expected at least one image to draw, got none: set report.images to 1 or more")
    if any(other != titles[0] for other in titles):
        raise PipelineError(f"{path}: expected the same columns for every image, got {titles}")
    return titles[0]


def draw_sheet(path: Path, titles: Sequence[str], cells: Sequence[Sequence[Cell]], legend: Sequence[Cell] = ()) -> None:
    """Write a grid as PNG: a title over each column, a line of text under each cell, and a legend below all."""
    side = cell_side(len(titles))
    width = GAP + len(titles) * (side + GAP)
    heights = [max(cell.height for cell, _ in row) for row in cells]
    spots, legend_height = _flow(legend, width)
    height = HEADER + sum(heights) + len(cells) * (FOOTER + GAP)
    sheet = Image.new("RGB", (width, height + legend_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        font = font_of(TEXT + 1, bold=True)
        draw.text((GAP + column * (side + GAP), 8), _fitted(draw, title, font, side), INK, font)
    y = HEADER
    for row, row_height in zip(cells, heights, strict=True):
        for column, (cell, caption) in enumerate(row):
            x, font = GAP + column * (side + GAP), font_of(TEXT - 1)
            sheet.paste(cell, (x, y))
            draw.text((x, y + cell.height + 4), _fitted(draw, caption, font, side), SOFT, font)
        y += row_height + FOOTER + GAP
    for (x, y), (swatch, name) in zip(spots, legend, strict=True):
        sheet.paste(swatch, (x, height + y))
        draw.text((x + swatch.width + 6, height + y), name, INK, font_of(TEXT - 1))
    sheet.save(path, format="PNG")


def cell_side(columns: int) -> int:
    """Share a sheet's width, in pixels."""
    return max(200, min(400, (WIDTH - GAP) // columns - GAP))


def enlarged(image: Image8, side: int) -> tuple[Image.Image, float]:
    """Scale an image so that its longer side is `side` pixels; return the scale too."""
    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), scale


@lru_cache
def font_of(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that matplotlib brings, so that a picture looks the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size_px)


def _fitted(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Cut a text that is wider than its cell."""
    kept = text
    while kept and draw.textlength(kept if kept == text else f"{kept}…", font) > width:
        kept = kept[:-1]
    return kept if kept == text else f"{kept}…"


def _flow(legend: Sequence[Cell], width: int) -> tuple[list[tuple[int, int]], int]:
    """Place a legend's entries side by side, in as many lines as they need; return corners and the height of all."""
    spots, x, y = list[tuple[int, int]](), GAP, 0
    for swatch, name in legend:
        needed = swatch.width + 6 + round(font_of(TEXT - 1).getlength(name)) + 2 * GAP
        if x > GAP and x + needed > width:
            x, y = GAP, y + FOOTER
        spots.append((x, y))
        x += needed
    return spots, y + FOOTER if legend else 0
