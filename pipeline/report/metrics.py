"""Records -> the nested numbers that `dvc metrics` shows, and the conditions they were taken under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pipeline.evaluation.conditions import doubts_of
from pipeline.evaluation.latency_comparison import setting_of
from pipeline.report.results import Model, TaskResults
from pipeline.tasks import Task, main_score, main_title

KEPT: Final[dict[Task, tuple[str, ...]]] = {  # scores that go into metrics.json
    "detect": ("map50_95", "map50", "map75", "precision", "recall", "f1"),
    "segment": ("miou", "pixel_accuracy", "boundary_f"),
}

UNSTABLE: Final = "latency_unstable"  # beside a median that is no number to divide

Metrics = dict[str, Any]
Summary = dict[str, Any]


def build_metrics(found: Sequence[TaskResults]) -> Metrics:
    """Build `<task>.teacher.<runtime>.<metric>` and `<task>.<student>.{control,distilled,gain}...`.

    Scores are 0 to 1 with 4 decimals, milliseconds and images/s have 3 significant digits, sizes are MB (1e6 bytes).
    `latency_unstable: 1` stands beside a median that was not steady.
    """
    return {results.task: _task_metrics(results) for results in found}


def build_summary(found: Sequence[TaskResults]) -> Summary:
    """Build what decides whether two commits' metrics may be compared: the test set, and the device of each latency."""
    return {results.task: _task_summary(results) for results in found}


def noise_text(noise: float | None, task: Task) -> str:
    """Say how far a score moves with the seed alone, as far as that was measured."""
    title = main_title(task)
    if noise is None:
        return f"how far another seed moves {title} on this data was not measured, so repeat with other seeds"
    return f"a gain within about ±{noise} {title} is noise, as measured over four seeds on the generated scenes"


def significant(value: float, digits: int = 3) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")


def _task_metrics(results: TaskResults) -> Metrics:
    numbers: Metrics = {"teacher": _model_metrics(results.teacher, results.task)}
    for student in results.students:
        entry: Metrics = {}
        if student.control is not None:
            entry["control"] = _model_metrics(student.control, results.task)
        entry["distilled"] = _model_metrics(student.distilled, results.task)
        if student.gain is not None:
            entry["gain"] = {main_score(results.task): round(student.gain, 4)}
        numbers[student.name] = entry
    return numbers


def _task_summary(results: TaskResults) -> Summary:
    accuracy = results.teacher.accuracy["torch"]
    return {
        "dataset": accuracy.dataset,
        "split": accuracy.split,
        "images": accuracy.images,
        "noise": results.noise,
        "device": {model.name: setting_of(model.latency) for model in results.models() if model.latency is not None},
    }


def _model_metrics(model: Model, task: Task) -> Metrics:
    return {runtime: _runtime_metrics(model, runtime, task) for runtime in model.runtimes}


def _runtime_metrics(model: Model, runtime: str, task: Task) -> dict[str, float]:
    numbers: dict[str, float] = {}
    if accuracy := model.accuracy.get(runtime):
        scores = {name: accuracy.scores.get(name) for name in KEPT[task]}
        numbers |= {name: round(score, 4) for name, score in scores.items() if score is not None}
        numbers |= {"size_mb": significant(accuracy.size_mb, 4), "params_m": significant(accuracy.model.params_m, 4)}
    if robustness := model.robustness.get(runtime):
        numbers["mean_corrupted"] = round(robustness.mean_corrupted, 4)
        numbers["relative_corrupted"] = round(robustness.relative, 4)
    if runtime in model.rejected:
        numbers["rejected"] = 1
    if timing := model.timings.get(runtime):
        percentiles = {name: getattr(timing.total, name) for name in ("p50_ms", "p90_ms", "p99_ms")}
        numbers |= {name: significant(value) for name, value in percentiles.items() if value is not None}
        numbers["throughput_per_s"] = significant(timing.throughput_per_s)
        if doubts_of(timing):
            numbers[UNSTABLE] = 1
    return numbers
