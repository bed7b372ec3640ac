"""Records are found, in order, and refused where they do not belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.records import Accuracy, Record, Robustness, read_record, write_record
from pipeline.report.results import read_results


def test_results__missing_record_is_named(make_run: Callable[..., Any]) -> None:
    run = make_run()
    (run.results / "detect/nano/distilled/accuracy-torch.json").unlink()
    with pytest.raises(PipelineError, match=r"nano/distilled/accuracy-torch\.json not found"):
        read_results(run.results, "detect", ["nano"], "scenes")


@pytest.mark.parametrize(("name", "kind"), [("accuracy-torch", Accuracy), ("robustness-torch", Robustness)])
def test_results__refuse_scores_of_two_test_sets(make_run: Callable[..., Any], name: str, kind: type[Record]) -> None:
    run = make_run()
    path = run.results / f"detect/nano/control/{name}.json"
    write_record(path, read_record(path, kind).model_copy(update={"dataset": "another"}))
    with pytest.raises(PipelineError, match=r"got test of another for nano control in torch"):
        read_results(run.results, "detect", ["nano"], "scenes")


def test_results__torch_comes_first(make_run: Callable[..., Any]) -> None:
    student = make_run().read()[0].students[0]
    assert list(student.distilled.accuracy) == student.distilled.runtimes == ["torch", "onnxruntime-fp32"]
    assert list(student.distilled.robustness) == ["torch", "onnxruntime-fp32"]


def test_results__reasons_of_what_was_switched_off(make_run: Callable[..., Any]) -> None:
    results = make_run(control=False, corrupted="skipped").read()[0]
    assert results.students[0].control is None
    assert results.students[0].control_skipped == "control.enabled is false in params.yaml"
    assert results.teacher.robustness == {}
    assert results.teacher.robustness_skipped == "robustness.corruptions is empty in params.yaml"
