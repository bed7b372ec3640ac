"""Scores on corrupted images by severity and by corruption, also where records differ in what they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.records import Robustness
from pipeline.report.robustness import at_severity, measured, plot_robustness, severities


def _records(run: Any) -> list[tuple[str, Robustness]]:
    return measured(run.read()[0])


def test_measured__teacher_first_and_every_runtime(make_run: Callable[..., Any]) -> None:
    labels = [(label, record.runtime) for label, record in _records(make_run())]
    assert labels == [
        ("teacher", "torch"),
        ("nano control", "torch"),
        ("nano distilled", "torch"),
        ("nano distilled", "onnxruntime-fp32"),
    ]


@pytest.mark.parametrize("corrupted", ["skipped", "absent"])
def test_measured__empty_where_it_is_switched_off(make_run: Callable[..., Any], corrupted: str) -> None:
    assert _records(make_run(corrupted=corrupted)) == []


def test_at_severity__mean_of_the_corruptions_that_have_it(make_run: Callable[..., Any]) -> None:
    record = _records(make_run())[0][1].model_copy(update={"corrupted": {"a": {"1": 0.4, "10": 0.1}, "b": {"1": 0.2}}})
    assert severities([record]) == ["1", "10"]
    assert at_severity(record, "1") == pytest.approx(0.3)
    assert at_severity(record, "10") == 0.1
    assert at_severity(record, "2") is None


@pytest.mark.parametrize("corrupted", [{"fog": {"3": 0.2}}, {"fog": {"1": 0.2, "5": 0.1}, "jpeg": {"2": 0.4}}])
def test_plot__whatever_was_corrupted(make_run: Callable[..., Any], tmp_path: Path, corrupted: Any) -> None:
    first, *others = _records(make_run())
    found = [first, *((label, record.model_copy(update={"corrupted": corrupted})) for label, record in others)]
    for name, records in (("mixed", found), ("alike", found[1:])):
        plot_robustness(tmp_path / f"{name}.png", records, "detect")
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5
