"""Records become the keys and numbers that `dvc metrics` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.records import Accuracy, read_record, write_record
from pipeline.report.metrics import build_metrics, build_summary, read_results


def test_metrics__key_of_every_model_runtime_and_number(make_run: Callable[..., Any]) -> None:
    run = make_run(students=("nano", "pico"))
    numbers = build_metrics(read_results(run.results, "detect", ["nano", "pico"]))["detect"]
    assert list(numbers) == ["teacher", "nano", "pico"]
    accuracy = {"map50_95", "map50", "map75", "size_mb", "params_m"}
    latency = {"p50_ms", "p99_ms", "throughput_per_s"}
    assert set(numbers["teacher"]["torch"]) == accuracy | latency
    for student in ("nano", "pico"):
        assert set(numbers[student]) == {"control", "distilled", "gain"}
        assert set(numbers[student]["control"]["torch"]) == accuracy
        assert list(numbers[student]["distilled"]) == ["torch", "onnxruntime-fp32"]
        assert set(numbers[student]["distilled"]["onnxruntime-fp32"]) == accuracy | latency


def test_metrics__four_decimals_of_ap_and_three_digits_of_ms(make_run: Callable[..., Any]) -> None:
    run = make_run(ap=0.6123456, p50_ms=21.34567)
    numbers = build_metrics(read_results(run.results, "detect", ["nano"]))["detect"]
    assert numbers["teacher"]["torch"]["map50_95"] == 0.6123
    assert numbers["teacher"]["torch"]["p50_ms"] == 21.3
    assert numbers["teacher"]["torch"]["params_m"] == 2.589
    assert numbers["nano"]["gain"] == {"map50_95": 0.053}


def test_metrics__no_gain_where_the_control_was_switched_off(make_run: Callable[..., Any]) -> None:
    run = make_run(control=False)
    results = read_results(run.results, "detect", ["nano"])
    assert set(build_metrics(results)["detect"]["nano"]) == {"distilled"}
    assert results.students[0].control_skipped == "control.enabled is false in params.yaml"


def test_metrics__accuracy_alone_where_nothing_was_timed(make_run: Callable[..., Any]) -> None:
    run = make_run()
    (run.results / "latency/detect/teacher.json").unlink()
    results = read_results(run.results, "detect", ["nano"])
    assert "p50_ms" not in build_metrics(results)["detect"]["teacher"]["torch"]
    assert set(build_summary(results)["detect"]["device"]) == {"nano"}


def test_summary__names_the_device_and_the_test_set(make_run: Callable[..., Any]) -> None:
    run = make_run(fingerprint="cpu-b")
    summary = build_summary(read_results(run.results, "detect", ["nano"]))["detect"]
    assert summary["device"]["nano"] == {"fingerprint": "cpu-b", "threads": 2, "batch_size": 1}
    assert (summary["dataset"], summary["split"], summary["images"]) == ("5e7d1c0a9b42", "test", 200)


def test_results__missing_record_is_named(make_run: Callable[..., Any]) -> None:
    run = make_run()
    (run.results / "detect/nano/distilled/accuracy-torch.json").unlink()
    with pytest.raises(PipelineError, match=r"nano/distilled/accuracy-torch\.json not found"):
        read_results(run.results, "detect", ["nano"])


def test_results__refuse_accuracies_of_two_test_sets(make_run: Callable[..., Any]) -> None:
    run = make_run()
    path = run.results / "detect/nano/control/accuracy-torch.json"
    write_record(path, read_record(path, Accuracy).model_copy(update={"dataset": "another"}))
    with pytest.raises(PipelineError, match=r"got test of another for nano control in torch"):
        read_results(run.results, "detect", ["nano"])
