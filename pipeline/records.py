"""Every measurement as a typed JSON file: units in the key names, the device beside the number."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import PipelineError
from pipeline.tasks import Task, main_score

Role = Literal["teacher", "control", "distilled", "qat"]


class Record(BaseModel):
    """Refuse unknown keys, so that a record and its reader cannot drift apart."""

    model_config = ConfigDict(extra="forbid")


class DeviceInfo(Record):
    """What a latency depends on. No clock, no host name: equal devices give equal records."""

    cpu: str
    cpu_threads: int
    gpu: str | None
    gpu_driver: str | None
    versions: dict[str, str]
    fingerprint: str


class ModelInfo(Record):
    """Which model a record is about."""

    task: Task
    name: str
    role: Role
    architecture: str
    params_m: float
    image_size_px: int
    digest: str


class Accuracy(Record):
    """Scores on one split, 0 to 1; None where there is nothing to score, such as no small object."""

    model: ModelInfo
    runtime: str
    size_mb: float
    split: str
    images: int
    dataset: str
    scores: dict[str, float | None]  # keys of pipeline.tasks.SCORES[task]
    per_class: dict[str, float | None]

    @property
    def main(self) -> float:
        """The score that decisions are made on; 0 where nothing could be scored."""
        return self.scores[main_score(self.model.task)] or 0.0


class OutputError(Record):
    """One output tensor against its reference."""

    name: str
    max_abs: float
    relative_l2: float


class Parity(Record):
    """An exported file against torch: outputs on the same real images, the main score on the whole split.

    `agreement` is the share of boxes that match, or of pixels of the same class; box errors are a detector's.
    """

    model: ModelInfo
    runtime: str
    images: int
    outputs: list[OutputError]
    agreement: float
    max_box_error_px: float | None
    max_score_error: float | None
    score_torch: float
    score_exported: float
    drop: float
    max_drop: float


class Skipped(Record):
    """A stage or a model that was asked for and not made, and why."""

    skipped: str


class BackendBuild(Record):
    """One asked backend: built, or skipped and why."""

    backend: str
    precision: str
    status: Literal["built", "skipped"]
    reason: str | None
    version: str | None
    file: str | None
    size_mb: float | None


class EngineRecord(Record):
    """What the engine stage made on this device."""

    model: ModelInfo
    device: DeviceInfo
    builds: list[BackendBuild]


class Timing(Record):
    """Milliseconds of one phase over all runs."""

    mean_ms: float
    std_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


class RuntimeLatency(Record):
    """One runtime's batch-1 latency. `total` is measured, not the sum of the medians."""

    runtime: str
    device: str = "cpu"
    runs: int
    preprocess: Timing
    infer: Timing
    postprocess: Timing
    total: Timing
    throughput_per_s: float


class Latency(Record):
    """All runtimes of one model, measured alternately in one process. The threshold is what NMS had to cope with."""

    model: ModelInfo
    device: DeviceInfo
    threads: int
    batch_size: int
    score_threshold: float = 0.25
    runtimes: list[RuntimeLatency]


class Robustness(Record):
    """The main score on corrupted images of one split, 0 to 1, beside the score on the same images as they are.

    `corrupted` is corruption -> severity -> score; `mean_corrupted` their mean (mPC), `relative` its share of `clean`
    (rPC).
    """

    model: ModelInfo
    runtime: str
    split: str
    images: int
    dataset: str
    seed: int
    clean: float
    corrupted: dict[str, dict[str, float]]
    mean_corrupted: float
    relative: float


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record as indented JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(record.model_dump_json(indent=2) + "\n")
    partial.replace(path)


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read a record of a known kind.

    Raises:
        PipelineError: if the file is missing or is not such a record.

    """
    try:
        return kind.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: run `dvc repro` to make it") from None
    except ValidationError as error:
        raise PipelineError(f"{path} is not a {kind.__name__} record: {error}") from None
