"""Records of one task, read and grouped by model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.errors import PipelineError
from pipeline.records import (
    Accuracy,
    DeviceRecord,
    EngineRecord,
    Latency,
    Parity,
    Robustness,
    Role,
    RuntimeLatency,
    Skipped,
    read_record,
)
from pipeline.tasks import Task

# A gain of the main score below it is not a finding: twice the standard deviation of the control over four seeds, see
# benchmarks/scenes and benchmarks/segmenters.
NOISE: Final[dict[Task, float]] = {"detect": 0.07, "segment": 0.05}
NOISE_MEASURED_ON: Final = "scenes"  # source of the data


@dataclass(frozen=True)
class Model:
    """Every record of one trained model; mappings go from runtime to record, torch first."""

    name: str
    role: Role
    accuracy: dict[str, Accuracy]
    robustness: dict[str, Robustness] = field(default_factory=dict)
    robustness_skipped: str | None = None
    latency: Latency | None = None
    parity: tuple[Parity, ...] = ()
    engine: EngineRecord | None = None

    @property
    def label(self) -> str:
        """What plots call it: `teacher`, `<student> control` or `<student> distilled`."""
        return self.name if self.role == "teacher" else f"{self.name} {self.role}"

    @property
    def rejected(self) -> frozenset[str]:
        """Runtimes that compute something else on this device, and are not timed."""
        builds = () if self.engine is None else self.engine.builds
        return frozenset(f"{build.backend}-{build.precision}" for build in builds if build.status == "rejected")

    @property
    def timings(self) -> dict[str, RuntimeLatency]:
        """Latency by runtime; empty where none was measured."""
        return {} if self.latency is None else {entry.runtime: entry for entry in self.latency.runtimes}

    @property
    def runtimes(self) -> list[str]:
        """Runtimes with any number, torch first."""
        return sorted({*self.accuracy, *self.robustness, *self.timings}, key=_torch_first)


@dataclass(frozen=True)
class Student:
    """One student architecture, trained without a teacher (or why not) and with it."""

    name: str
    control: Model | None
    control_skipped: str | None
    distilled: Model

    @property
    def gain(self) -> float | None:
        """What distillation added to the main score over the control, both in torch; None without a control."""
        if self.control is None:
            return None
        return self.distilled.accuracy["torch"].main - self.control.accuracy["torch"].main


@dataclass(frozen=True)
class TaskResults:
    """All records of one task."""

    task: Task
    teacher: Model
    students: tuple[Student, ...]
    elsewhere: tuple[DeviceRecord, ...] = ()  # brought back from devices
    noise: float | None = None  # of one seed, in the main score; None where nobody measured it on this data

    def models(self) -> Iterator[Model]:
        """Yield the teacher, then each student's control (if any) and distilled model."""
        yield self.teacher
        for student in self.students:
            if student.control is not None:
                yield student.control
            yield student.distilled


def read_results(results: Path, task: Task, students: list[str], source: str) -> TaskResults:
    """Read the records under `results/<task>/`, `results/latency/<task>/` and `results/devices/`.

    Args:
        results: The folder of records.
        task: Which task's.
        students: The task's students.
        source: Of the dataset, which decides whether the noise of one seed is known.

    Raises:
        PipelineError: if a record is missing or malformed, or if scores come from different test sets.

    """
    root, latencies = results / task, results / "latency" / task
    found = TaskResults(
        task,
        _read_model(root / "teacher", latencies / "teacher.json", "teacher", "teacher"),
        tuple(_read_student(root / name, latencies) for name in students),
        tuple(
            read_record(path, DeviceRecord)
            for name in students
            for pattern in (f"devices/*/{task}-{name}.json", f"devices/*/{task}-{name}/*.json")
            for path in sorted(results.glob(pattern))
        ),
        noise=NOISE[task] if source == NOISE_MEASURED_ON else None,
    )
    _refuse_mixed_datasets(found, root)
    return found


def _read_student(folder: Path, latencies: Path) -> Student:
    control, skipped = None, _skip_reason(folder / "control" / "accuracy-torch.json")
    if skipped is None:
        control = _read_model(folder / "control", None, folder.name, "control")
    distilled = _read_model(
        folder / "distilled", latencies / f"{folder.name}.json", folder.name, "distilled",
        files=[folder / "export", folder / "engine"],
    )  # fmt: skip
    return Student(folder.name, control, skipped, distilled)


def _read_model(folder: Path, latency: Path | None, name: str, role: Role, files: Sequence[Path] = ()) -> Model:
    """Read one model's records: its checkpoint's in `folder`, those of the files made from it in `files`."""
    exported = [path for place in files for path in sorted(place.glob("accuracy-*.json"))]
    accuracies = [read_record(path, Accuracy) for path in [folder / "accuracy-torch.json", *exported]]
    parities = [path for place in files for path in sorted(place.glob("parity-*.json"))]
    engines = [place / "engine.json" for place in files if (place / "engine.json").exists()]
    return Model(
        name=name,
        role=role,
        accuracy={record.runtime: record for record in accuracies},
        robustness=_read_robustness(folder),
        robustness_skipped=_skip_reason(folder / "robustness-torch.json"),
        latency=read_record(latency, Latency) if latency is not None and latency.exists() else None,
        parity=tuple(read_record(path, Parity) for path in parities),
        engine=read_record(engines[0], EngineRecord) if engines else None,
    )


def _read_robustness(folder: Path) -> dict[str, Robustness]:
    """Read what was measured on corrupted images: nothing where that is switched off."""
    measured = [path for path in folder.glob("robustness-*.json") if _skip_reason(path) is None]
    found = {record.runtime: record for record in (read_record(path, Robustness) for path in measured)}
    return dict(sorted(found.items(), key=lambda item: _torch_first(item[0])))


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
        records: list[Accuracy | Robustness] = [*model.accuracy.values(), *model.robustness.values()]
        for record in records:
            if (record.dataset, record.split) != (expected.dataset, expected.split):
                raise PipelineError(
                    f"{root}: expected every score on the teacher's {expected.split} of dataset {expected.dataset}, "
                    f"got {record.split} of {record.dataset} for {model.name} {model.role} in {record.runtime}: "
                    "run `dvc repro` so that all are measured on the same images"
                )


def _torch_first(runtime: str) -> tuple[bool, str]:
    return runtime != "torch", runtime
