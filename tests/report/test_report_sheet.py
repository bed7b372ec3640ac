"""A sheet is a grid: equal columns in every row, texts inside their cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.colours import colour_of
from pipeline.errors import PipelineError
from pipeline.report.sheet import draw_sheet, titles_of

BLACK = Image.new("RGB", (400, 400))


def test_titles__refuse_nothing_and_unequal_rows() -> None:
    assert titles_of([{"a": 1, "b": 2}, ["a", "b"]], Path("p.png")) == ["a", "b"]
    with pytest.raises(PipelineError, match=r"report\.images"):
        titles_of([], Path("p.png"))
    with pytest.raises(PipelineError, match=r"same columns for every image"):
        titles_of([["teacher"], ["control"]], Path("p.png"))


def test_sheet__long_texts_stay_in_their_cell(tmp_path: Path) -> None:
    for name, text in (("long", "W" * 400), ("short", "W")):
        draw_sheet(tmp_path / f"{name}.png", [text, ""], [[(BLACK, text), (BLACK, "")]])
    long, short = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("long", "short"))
    assert (long != short).any(axis=0)[:410].any()
    assert not (long != short).any(axis=0)[415:].any()


def test_sheet__legend_wraps_at_the_sheets_width(tmp_path: Path) -> None:
    swatch = Image.new("RGB", (18, 18))
    heights = []
    for count in (0, 1, 60):
        draw_sheet(tmp_path / "s.png", ["one"], [[(BLACK, "")]], [(swatch, f"class {k}") for k in range(count)])
        heights.append(Image.open(tmp_path / "s.png").height)
    assert heights[0] < heights[1] < heights[2] - 5 * 26


def test_colours__differ_for_as_many_classes_as_a_mask_holds() -> None:
    assert len({colour_of(index) for index in range(255)}) > 240
