"""Records become the keys and numbers that `dvc metrics` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.records import Accuracy, Latency, WarmUp, read_record, write_record
from pipeline.report.history import points
from pipeline.report.metrics import build_metrics, build_summary
from pipeline.tasks import Task
from tests.report.conftest import DETECT, SEGMENT

SCORES: dict[Task, set[str]] = {
    "detect": {"map50_95", "map50", "map75", "precision", "recall", "f1"},
    "segment": {"miou", "pixel_accuracy", "boundary_f"},
}
SIZES = {"size_mb", "params_m"}
LATENCY = {"p50_ms", "p90_ms", "throughput_per_s"}
CORRUPTED = {"mean_corrupted", "relative_corrupted"}


@pytest.mark.parametrize("corrupted", ["measured", "skipped", "absent"])
@pytest.mark.parametrize("tasks", [DETECT, SEGMENT, {"segment": ("a", "b"), "detect": ("c",)}])
def test_metrics__key_of_every_task_model_runtime_and_number(
    make_run: Callable[..., Any], tasks: dict[Task, tuple[str, ...]], corrupted: str
) -> None:
    metrics = build_metrics(make_run(tasks=tasks, corrupted=corrupted).read())
    assert set(metrics) == set(tasks)
    for task, students in tasks.items():
        numbers = metrics[task]
        assert list(numbers) == ["teacher", *students]
        untimed = SCORES[task] | SIZES | (CORRUPTED if corrupted == "measured" else set())
        assert set(numbers["teacher"]["torch"]) == untimed | LATENCY
        for student in students:
            assert set(numbers[student]) == {"control", "distilled", "gain"}
            assert set(numbers[student]["control"]["torch"]) == untimed
            assert list(numbers[student]["distilled"]) == ["torch", "onnxruntime-fp32"]
            assert set(numbers[student]["distilled"]["onnxruntime-fp32"]) == untimed | LATENCY


def test_metrics__four_decimals_of_scores_and_three_digits_of_ms(make_run: Callable[..., Any]) -> None:
    metrics = build_metrics(make_run(tasks=DETECT | SEGMENT, level=0.6123456, p50_ms=21.34567).read())
    teacher = metrics["detect"]["teacher"]["torch"]
    assert (teacher["map50_95"], teacher["p50_ms"], teacher["params_m"]) == (0.6123, 21.3, 2.589)
    assert metrics["segment"]["teacher"]["torch"]["miou"] == 0.6123
    assert teacher["relative_corrupted"] == pytest.approx(teacher["mean_corrupted"] / 0.6123, abs=1e-4)
    assert metrics["detect"]["nano"]["gain"] == {"map50_95": 0.053}
    assert metrics["segment"]["nano-sem"]["gain"] == {"miou": 0.053}


def test_metrics__no_gain_where_the_control_was_switched_off(make_run: Callable[..., Any]) -> None:
    assert set(build_metrics(make_run(control=False).read())["detect"]["nano"]) == {"distilled"}


def test_metrics__without_a_score_that_does_not_exist(make_run: Callable[..., Any]) -> None:
    run = make_run(tasks=SEGMENT)
    path = run.results / "segment/teacher/accuracy-torch.json"
    record = read_record(path, Accuracy)
    write_record(path, record.model_copy(update={"scores": record.scores | {"boundary_f": None}}))
    assert "boundary_f" not in build_metrics(run.read())["segment"]["teacher"]["torch"]


def test_metrics__accuracy_alone_where_nothing_was_timed(make_run: Callable[..., Any]) -> None:
    run = make_run()
    (run.results / "latency/detect/teacher.json").unlink()
    found = run.read()
    assert "p50_ms" not in build_metrics(found)["detect"]["teacher"]["torch"]
    assert set(build_summary(found)["detect"]["device"]) == {"nano"}


def test_summary__names_the_device_and_the_test_set_of_each_task(make_run: Callable[..., Any]) -> None:
    summary = build_summary(make_run(tasks=DETECT | SEGMENT, fingerprint="cpu-b").read())
    assert set(summary) == {"detect", "segment"}
    assert summary["segment"]["device"]["nano-sem"] == {"fingerprint": "cpu-b", "threads": 2, "batch_size": 1}
    for task in summary.values():
        assert (task["dataset"], task["split"], task["images"]) == ("5e7d1c0a9b42", "test", 200)


def test_metrics__a_median_that_was_not_steady_is_marked(make_run: Callable[..., Any]) -> None:
    run = make_run()
    path = run.results / "latency/detect/nano.json"
    latency = read_record(path, Latency)
    moving = latency.runtimes[1].model_copy(update={"warmup": WarmUp(seconds=5.0, stable=False)})
    write_record(path, latency.model_copy(update={"runtimes": [latency.runtimes[0], moving]}))
    metrics, summary = build_metrics(run.read()), build_summary(run.read())
    runtimes = metrics["detect"]["nano"]["distilled"]
    assert [runtimes[name].get("latency_unstable") for name in ("torch", "onnxruntime-fp32")] == [None, 1]
    found = {(point.role, point.runtime): point.unstable for point in points(metrics, summary, "detect")}
    assert found == {
        ("teacher", "torch"): False,
        ("control", "torch"): False,
        ("distilled", "torch"): False,
        ("distilled", "onnxruntime-fp32"): True,
    }
