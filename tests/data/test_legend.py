"""The classes file of masks."""

from __future__ import annotations

import pytest

from pipeline.data.legend import MAX_ID, read_legend
from pipeline.errors import PipelineError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sky\nroad\nsky\n", r"classes\.txt:3: class 'sky' stands in line 1 already"),
        ("0 sky\n\n0 road\n", r"classes\.txt:3: this id stands in line 1 already"),
        ("0 0 0 sky\n0 0 1 road\n0 0 0 car\n", r"classes\.txt:3: this colour stands in line 1 already"),
        ("0 sky\nroad\n", r"classes\.txt:2: expected `id name` as in the lines before, got 'road'"),
        ("sky\n1 road\n", r"classes\.txt:2: expected `name` as in the lines before, got '1 road'"),
        ("255 0 0\n", r"classes\.txt:1: expected `R G B name` or `id name` or `name`, got '255 0 0'"),
        ("-1 void\n0 sky\n", r"classes\.txt:2: expected `name` as in the lines before"),
        ("0 0 256 sky\n", r"classes\.txt:1: expected numbers from 0 to 255"),
        (f"{MAX_ID + 1} sky\n", rf"classes\.txt:1: expected numbers from 0 to {MAX_ID}"),
        ("# nothing\n\n", r"classes\.txt: 0 classes that are not ignored"),
        ("cell\n", r"classes\.txt: 1 classes that are not ignored.*list the background as a class too"),
        ("".join(f"c{number}\n" for number in range(255)), r"255 classes that are not ignored: expected 2 to 254$"),
        (None, r"classes\.txt cannot be read: prepare\.masks\.classes should name a text file"),
    ],
)
def test_legend__faults_are_named_with_file_and_line(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(PipelineError, match=expected):
        read_legend(tmp_path / "classes.txt", [])


@pytest.mark.parametrize(
    ("lines", "ignore", "expected"),
    [
        ("sky\nroad\n", ["void"], r"expected names of .*\(sky, road\) or ids from 0 to 65535, got 'void'"),
        ("sky\nroad\n", [-1], "got -1"),
        ("0 0 0 sky\n1 1 1 road\n", [1], r"expected names of .*classes\.txt \(sky, road\), got 1"),
        ("sky\nroad\n", [0, "road"], "0 classes that are not ignored"),
    ],
)
def test_legend__ignore_holds_only_what_can_be_there(tmp_path, lines, ignore, expected):
    (tmp_path / "classes.txt").write_text(lines)
    with pytest.raises(PipelineError, match=expected):
        read_legend(tmp_path / "classes.txt", ignore)
