"""Records of one task -> the nested numbers that `dvc metrics` shows, and the conditions they were taken under."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.records import (
    Accuracy,
    EngineRecord,
    Latency,
    Parity,
    Role,
    RuntimeLatency,
    Skipped,
    read_record,
)

# A gain below it is not a finding: two runs of the default chain that differed in rounding alone (1 and 2 threads)
# ended 0.043 AP apart, at 19b5a9e and before it.
NOISE_AP = 0.04

Metrics = dict[str, Any]
Summary = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """Every record of one trained model; mappings go from runtime to record, torch first."""

    name: str
    role: Role
    accuracy: dict[str, Accuracy]
    latency: Latency | None = None
    parity: tuple[Parity, ...] = ()
    engine: EngineRecord | None = None

    @property
    def timings(self) -> dict[str, RuntimeLatency]:
        """Latency by runtime; empty where none was measured."""
        return {} if self.latency is None else {entry.runtime: entry for entry in self.latency.runtimes}

    @property
    def runtimes(self) -> list[str]:
        """Runtimes with any number, torch first."""
        return sorted({*self.accuracy, *self.timings}, key=_torch_first)


@dataclass(frozen=True)
class Student:
    """One student architecture, trained without a teacher (or why not) and with it."""

    name: str
    control: Model | None
    control_skipped: str | None
    distilled: Model

    @property
    def gain(self) -> float | None:
        """AP that distillation added over the control, both in torch; None without a control."""
        if self.control is None:
            return None
        return self.distilled.accuracy["torch"].map50_95 - self.control.accuracy["torch"].map50_95


@dataclass(frozen=True)
class TaskResults:
    """All records of one task."""

    task: str
    teacher: Model
    students: tuple[Student, ...]

    def models(self) -> Iterator[Model]:
        """Yield the teacher, then each student's control (if any) and distilled model."""
        yield self.teacher
        for student in self.students:
            if student.control is not None:
                yield student.control
            yield student.distilled


def read_results(results: Path, task: str, students: list[str]) -> TaskResults:
    """Read the records under `results/<task>/` and `results/latency/<task>/`.

    Raises:
        PipelineError: if a record is missing or malformed, or if accuracies come from different test sets.

    """
    root, latencies = results / task, results / "latency" / task
    found = TaskResults(
        task,
        _read_model(root / "teacher", latencies / "teacher.json", "teacher", "teacher"),
        tuple(_read_student(root / name, latencies) for name in students),
    )
    _refuse_mixed_datasets(found, root)
    return found


def build_metrics(results: TaskResults) -> Metrics:
    """Build `<task>.teacher.<runtime>.<metric>` and `<task>.<student>.{control,distilled,gain}...`.

    AP is 0 to 1 with 4 decimals, milliseconds and images/s have 3 significant digits, sizes are MB (1e6 bytes).
    """
    numbers: Metrics = {"teacher": _model_metrics(results.teacher)}
    for student in results.students:
        entry: Metrics = {}
        if student.control is not None:
            entry["control"] = _model_metrics(student.control)
        entry["distilled"] = _model_metrics(student.distilled)
        if student.gain is not None:
            entry["gain"] = {"map50_95": round(student.gain, 4)}
        numbers[student.name] = entry
    return {results.task: numbers}


def build_summary(results: TaskResults) -> Summary:
    """Build what decides whether two commits' metrics may be compared: the test set, and the device of each latency."""
    accuracy = results.teacher.accuracy["torch"]
    return {
        results.task: {
            "dataset": accuracy.dataset,
            "split": accuracy.split,
            "images": accuracy.images,
            "device": {
                model.name: {
                    "fingerprint": model.latency.device.fingerprint,
                    "threads": model.latency.threads,
                    "batch_size": model.latency.batch_size,
                }
                for model in results.models()
                if model.latency is not None
            },
        }
    }


def same_conditions(first: Latency | None, second: Latency | None) -> bool:
    """Tell whether two latencies may be compared: same device fingerprint, threads and batch size."""
    if first is None or second is None:
        return False
    return (first.device.fingerprint, first.threads, first.batch_size) == (
        second.device.fingerprint,
        second.threads,
        second.batch_size,
    )


def significant(value: float, digits: int = 3) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")


def _model_metrics(model: Model) -> Metrics:
    return {runtime: _runtime_metrics(model, runtime) for runtime in model.runtimes}


def _runtime_metrics(model: Model, runtime: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    if accuracy := model.accuracy.get(runtime):
        numbers |= {name: round(getattr(accuracy, name), 4) for name in ("map50_95", "map50", "map75")}
        numbers |= {"size_mb": significant(accuracy.size_mb, 4), "params_m": significant(accuracy.model.params_m, 4)}
    if timing := model.timings.get(runtime):
        numbers |= {"p50_ms": significant(timing.total.p50_ms), "p99_ms": significant(timing.total.p99_ms)}
        numbers["throughput_per_s"] = significant(timing.throughput_per_s)
    return numbers


def _read_student(folder: Path, latencies: Path) -> Student:
    control, skipped = None, _skip_reason(folder / "control" / "accuracy-torch.json")
    if skipped is None:
        control = _read_model(folder / "control", None, folder.name, "control")
    distilled = _read_model(folder / "distilled", latencies / f"{folder.name}.json", folder.name, "distilled")
    return Student(folder.name, control, skipped, distilled)


def _read_model(folder: Path, latency: Path | None, name: str, role: Role) -> Model:
    torch = folder / "accuracy-torch.json"
    files = [torch, *(path for path in sorted(folder.glob("accuracy-*.json")) if path != torch)]
    accuracy = {record.runtime: record for record in (read_record(path, Accuracy) for path in files)}
    engine = folder / "engine.json"
    return Model(
        name=name,
        role=role,
        accuracy=accuracy,
        latency=read_record(latency, Latency) if latency is not None and latency.exists() else None,
        parity=tuple(read_record(path, Parity) for path in sorted(folder.glob("parity-*.json"))),
        engine=read_record(engine, EngineRecord) if engine.exists() else None,
    )


def _skip_reason(path: Path) -> str | None:
    """Return why a record was not made, or None where it is (or should be) a measurement."""
    try:
        is_skip = "skipped" in json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None  # read_record then says what is wrong with it
    return read_record(path, Skipped).skipped if is_skip else None


def _refuse_mixed_datasets(results: TaskResults, root: Path) -> None:
    expected = results.teacher.accuracy["torch"]
    for model in results.models():
        for accuracy in model.accuracy.values():
            if (accuracy.dataset, accuracy.split) != (expected.dataset, expected.split):
                raise PipelineError(
                    f"{root}: expected every accuracy on the teacher's {expected.split} of dataset {expected.dataset}, "
                    f"got {accuracy.split} of {accuracy.dataset} for {model.name} {model.role} in {accuracy.runtime}: "
                    "run `dvc repro evaluate export` so that all are measured on the same images"
                )


def _torch_first(runtime: str) -> tuple[bool, str]:
    return runtime != "torch", runtime
