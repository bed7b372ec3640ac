"""Masks are heat over the image: bright where they are high."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.report.prompt_masks import MaskedImage, draw_masks

GREY = np.full((96, 128, 3), 128, dtype=np.uint8)


def test_masks__one_row_per_map_and_one_column_per_band(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12)
    images = [
        MaskedImage("one", GREY, {"low": ramp, "level 1": 1 - ramp, "level 2": ramp[::2, ::2]}),
        MaskedImage("two", GREY, {"low": ramp, "level 1": ramp, "level 2": np.full((6, 6), 0.5, dtype=np.float32)}),
    ]
    draw_masks(tmp_path / "m.png", images)
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.size == (10 + 4 * (397 + 10), 34 + 2 * (298 + 26 + 10))
        cells = [np.asarray(picture.crop((10 + k * 407, 34, 407 + k * 407, 332)), dtype=float) for k in (1, 2)]
    assert cells[0][-40:].mean() > cells[0][:40].mean() + 50  # brighter where the mask is higher
    assert cells[1][-40:].mean() < cells[1][:40].mean() - 50
