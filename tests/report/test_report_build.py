"""A report is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.report.build import OUTS, show


def test_build__every_out_and_nothing_else(built: Any) -> None:
    assert {path.name for path in built.out.iterdir()} == set(OUTS)
    assert json.loads((built.out / "metrics.json").read_text())["detect"]["nano"]["gain"]["map50_95"] == 0.053
    for path in built.out.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    assert list((built.out.parent / "scratch").iterdir()) == []


def test_build__equal_records_give_equal_bytes(make_run: Callable[..., Any], built: Any) -> None:
    run = make_run(students=("nano", "pico"))
    run.build()
    for name in OUTS:
        assert (run.out / name).read_bytes() == (built.out / name).read_bytes(), name


def test_build__failure_leaves_the_old_report(make_run: Callable[..., Any]) -> None:
    run = make_run()
    run.out.mkdir()
    (run.out / "report.html").write_text("old")
    (run.out / ".gitignore").write_text("/report.html\n")
    (run.results / "detect/nano/distilled/history.csv").unlink()
    with pytest.raises(PipelineError, match=r"nano/distilled/history\.csv not found"):
        run.build()
    assert {path.name for path in run.out.iterdir()} == {"report.html", ".gitignore"}
    assert (run.out / "report.html").read_text() == "old"


def test_show__a_row_per_model_and_runtime(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show(built.out / "metrics.json")
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "nano distilled" in line and "torch" in line)
    assert row.split() == ["nano", "distilled", "torch", "0.31", "1.31", "0.505", "0.697", "+0.053", "5.11", "7.16"]
    assert sum("onnxruntime-fp32" in line for line in lines) == 2
    assert max(map(len, lines)) <= 80


def test_show__says_that_the_control_was_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"detect": {"teacher": {}, "nano": {"distilled": {"torch": {"map50_95": 0.5}}}}}))
    show(path)
    assert "Control switched off" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "message"), [(None, "not found: run `dvc repro`"), ("{", "expected JSON")])
def test_show__says_what_to_do(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PipelineError, match=message):
        show(path)
