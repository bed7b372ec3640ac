"""The prompts' masks as heat over the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.report.sheet import Cell, Image8, cell_side, draw_sheet, enlarged, titles_of


@dataclass(frozen=True)
class MaskedImage:
    """One image (H, W, 3) uint8 RGB and the masks (h, w) in [0, 1] of one pyramid map, by the name of their band."""

    name: str
    image: Image8
    masks: dict[str, npt.NDArray[np.floating]]


def draw_masks(path: Path, images: Sequence[MaskedImage]) -> None:
    """Draw one row per image and pyramid map: the image, then each band's mask as heat over it.

    Every mask is stretched to its own range, which stands under it: a mask of 0.50 to 0.52 says next to nothing.

    Raises:
        PipelineError: if there is no image, or the images differ in their bands.

    """
    titles = titles_of([image.masks for image in images], path)
    cells = []
    for image in images:
        canvas, _ = enlarged(image.image, cell_side(1 + len(titles)))
        row: list[Cell] = [(_with_heat(canvas, m), f"{m.min():.2f} to {m.max():.2f}") for m in image.masks.values()]
        cells.append([(canvas, image.name), *row])
    draw_sheet(path, ["image", *titles], cells)


def _with_heat(canvas: Image.Image, mask: npt.NDArray[np.floating]) -> Image.Image:
    low, high = float(mask.min()), float(mask.max())
    stretched = (mask - low) / (high - low) if high - low > 1e-6 else np.zeros_like(mask)
    grey = Image.fromarray((stretched * 255).astype(np.uint8)).resize(canvas.size, Image.Resampling.BICUBIC)
    heat = matplotlib.colormaps["inferno"](np.asarray(grey) / 255.0)[..., :3] * 255
    flat = 64 + np.asarray(canvas.convert("L"), dtype=np.float64)[..., None] / 2  # so that bright is heat, not image
    blend = 0.4 * flat + 0.6 * heat
    return Image.fromarray(blend.astype(np.uint8))
