"""Every measurement as a typed JSON file: units in the key names, the device beside the number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import PipelineError
from pipeline.files import read_text, write_text
from pipeline.tasks import Task, main_score
from pipeline.text import is_one_line

Role = Literal["teacher", "control", "distilled", "qat"]
Runtime = Literal["onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt", "tensorrt", "openvino"]
Verdict = Literal["passed", "failed", "nothing to compare"]
Milliseconds = Annotated[float, Field(ge=1e-6, le=1e9, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
LEAST_RUNS: Final = {"p90_ms": 100, "p99_ms": 1000}  # of a percentile: ten runs beyond it
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]  # of a model; leads to no other path
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # see pipeline/digest.py
ImageSizePx = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]
Strides = Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=1)]
FilePrecision = Literal["fp32", "fp16", "int8", "int8-tensorrt"]  # of an ONNX file, as its metadata and its name say


def _one_line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError("should be a text of one line, without control characters")
    return text


def _unique(names: list[str]) -> list[str]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"should differ, {twice[0]} is there twice")
    return names


Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
ClassNames = Annotated[list[Line], Field(min_length=1, max_length=10_000), AfterValidator(_unique)]


class Record(BaseModel):
    """Refuse unknown keys, so that a record and its reader cannot drift apart."""

    model_config = ConfigDict(extra="forbid")


class DeviceInfo(Record):
    """What a latency depends on. No clock, no host name: equal devices give equal records."""

    cpu: str
    cpu_threads: Count
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
    image_size_px: Count
    digest: str

    @property
    def label(self) -> str:
        """What logs call it: `teacher`, or the student's name and role."""
        return self.name if self.role == "teacher" else f"{self.name} {self.role}"


class OperatingPoint(Record):
    """One class at one confidence, 0 to 1, at IoU 0.5."""

    precision: float
    recall: float
    f1: float


class DetectionDetails(Record):
    """What stands behind a detector's scores, per class that has objects.

    `confidence` is the one with the best mean F1, at which the operating points are taken. `precision_at_recall` has
    the precision at recall 0, 0.01, ... 1. `confusions` counts, at confidence 0.25 and IoU 0.45, true class -> detected
    class; the empty name is the background.
    """

    confidence: float
    operating_points: dict[str, OperatingPoint]
    precision_at_recall: dict[str, list[float]]
    confusions: dict[str, dict[str, int]]


class Accuracy(Record):
    """Scores on one split, 0 to 1; None where there is nothing to score, such as no small object.

    `details` are a detector's in torch.
    """

    model: ModelInfo
    runtime: str
    size_mb: float
    split: str
    images: int
    dataset: str
    scores: dict[str, float | None]  # keys of pipeline.tasks.SCORES[task]
    per_class: dict[str, float | None]
    details: DetectionDetails | None = None

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

    `agreement` is the share of boxes that match, or of pixels of the same class, None where neither found a box;
    `least_alike` lists the images where it is lowest; box errors are a detector's. `max_relative_error` is what the
    outputs' relative error may be where there is no box to compare.
    """

    model: ModelInfo
    runtime: str
    images: int
    outputs: list[OutputError]
    agreement: float | None
    max_box_error_px: float | None
    max_score_error: float | None
    least_alike: list[str]
    score_torch: float
    score_exported: float
    drop: float
    max_drop: float
    max_relative_error: float | None = None

    @property
    def precision(self) -> str:
        """What the exported file computes in."""
        return self.runtime.partition("-")[2]

    @property
    def relative_error(self) -> float:
        """The largest relative L2 error of an output."""
        return max(output.relative_l2 for output in self.outputs)

    @property
    def verdict(self) -> Verdict:
        """Judge the drop by its budget: of fp32 a gain too, for the network has to be the same.

        Where neither model found a box, as in a trial run of a few steps, the score is made of noise and its drop means
        nothing: then the outputs have to be alike.
        """
        if self.agreement is None and self.max_relative_error is not None:
            return "nothing to compare" if self.relative_error <= self.max_relative_error else "failed"
        drop = abs(self.drop) if self.precision == "fp32" else self.drop
        return "passed" if drop <= self.max_drop else "failed"


def least_alike(runtime: str) -> str:
    """Name the picture of the images on which a runtime differs most from torch; it lies beside the records."""
    return f"least-alike-{runtime}.png"


class Skipped(Record):
    """A stage or a model that was asked for and not made, and why."""

    skipped: str


class BackendBuild(Record):
    """One asked backend with one precision: built, or why not.

    `rejected` is what this device has, and which failed or computes something else than the file: it is never timed.
    `layer_shares` is what TensorRT really built: of the layers that compute, the share per datatype, 0 to 1.
    `layer_places` counts the layers on `dla` and `gpu` of an engine for a DLA core, and `reason` says so in words.
    """

    backend: Runtime
    precision: str
    status: Literal["built", "rejected", "skipped"]
    reason: str | None
    version: str | None
    file: str | None  # in the folder of ONNX files or of engines
    size_mb: float | None
    layer_shares: dict[str, float] | None = None
    layer_places: dict[str, int] | None = None


class EngineRecord(Record):
    """What the engine stage made on this device."""

    model: ModelInfo
    device: DeviceInfo
    builds: list[BackendBuild]


class Load(Record):
    """How busy a machine was: the average of the last minute, and of how many CPUs."""

    average: NonNegative
    cpus: Count


class Conditions(Record):
    """Clocks, power mode and temperatures at one moment; None or no key where the machine does not tell."""

    cpu_governor: str | None
    power_mode: str | None  # a Jetson's
    clocks_mhz: dict[str, float]
    temperatures_c: dict[str, float]
    power_limits_w: dict[str, float]


class WarmUp(Record):
    """How long a runtime ran before it was timed, and whether its median had come to rest by then."""

    seconds: NonNegative
    stable: bool


class Blocks(Record):
    """Medians of the alternating blocks, lowest and highest: how far the number moves by itself."""

    count: Count
    min_ms: NonNegative
    max_ms: NonNegative

    @model_validator(mode="after")
    def _ordered(self) -> Blocks:
        if self.min_ms > self.max_ms:
            raise ValueError(f"min_ms {self.min_ms} should be at most max_ms {self.max_ms}")
        return self


def _require_ordered(p50_ms: float, p90_ms: float | None, p99_ms: float | None) -> None:
    present = [value for value in (p50_ms, p90_ms, p99_ms) if value is not None]
    if present != sorted(present):
        raise ValueError(f"percentiles should not decrease, got p50 {p50_ms}, p90 {p90_ms}, p99 {p99_ms}")


class Timing(Record):
    """Milliseconds of one phase over all runs; a percentile that rests on too few runs is None (`LEAST_RUNS`)."""

    mean_ms: NonNegative
    std_ms: NonNegative
    p50_ms: NonNegative
    p90_ms: NonNegative | None = None
    p99_ms: NonNegative | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Timing:
        _require_ordered(self.p50_ms, self.p90_ms, self.p99_ms)
        return self

    def of_runs(self, runs: int) -> Timing:
        """Leave out the percentiles that need more runs than these."""
        return self.model_copy(update={name: None for name, least in LEAST_RUNS.items() if runs < least})


class BatchLatency(Record):
    """Inference alone on whole batches; milliseconds are a batch's, the throughput counts images.

    `asked_runs` is `benchmark.min_runs`; `runs` is lower where `benchmark.max_time_s` ended the measurement.
    """

    batch_size: Count
    runs: Count
    asked_runs: Count | None = None
    infer: Timing
    throughput_per_s: NonNegative
    warmup: WarmUp
    blocks: Blocks

    @model_validator(mode="after")
    def _enough_runs(self) -> BatchLatency:
        self.infer = self.infer.of_runs(self.runs)
        return self


class RuntimeLatency(Record):
    """One runtime's batch-1 latency, and beyond that inference alone.

    `infer` and `total` are clock times, `total` measured and not the sum of the medians; `blocks` are of `total`.
    `host_to_device`, `compute` and `device_to_host` are by the device's own clock, of further runs; None: it has none.
    Percentiles that the runs do not carry are left out, in records of older commits too. `asked_runs`: see
    `BatchLatency`.
    """

    runtime: str
    device: str = "cpu"
    runs: Count
    asked_runs: Count | None = None
    preprocess: Timing
    infer: Timing
    host_to_device: Timing | None = None
    compute: Timing | None = None
    device_to_host: Timing | None = None
    postprocess: Timing
    total: Timing
    throughput_per_s: NonNegative
    warmup: WarmUp | None = None
    blocks: Blocks | None = None
    batches: list[BatchLatency] = []

    @model_validator(mode="after")
    def _enough_runs(self) -> RuntimeLatency:
        self.preprocess, self.infer = self.preprocess.of_runs(self.runs), self.infer.of_runs(self.runs)
        self.postprocess, self.total = self.postprocess.of_runs(self.runs), self.total.of_runs(self.runs)
        return self


class Latency(Record):
    """All runtimes of one model, measured alternately in one process with those of every other model.

    The threshold is what NMS had to cope with. `load` was read first of all, `before` after the warm-up and `after` at
    the end. What may be None is None in records of commits that did not measure it.
    """

    model: ModelInfo
    device: DeviceInfo
    threads: Count
    batch_size: Count
    score_threshold: float = 0.25
    load: Load | None = None
    before: Conditions | None = None
    after: Conditions | None = None
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


class BatchProfile(Record):
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    min: Count
    opt: Count
    max: Count

    @model_validator(mode="after")
    def _ordered(self) -> BatchProfile:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"should be min <= opt <= max, got {self.min}, {self.opt}, {self.max}")
        return self


class DeviceTiming(Record):
    """One model in one runtime on a device: milliseconds per call, host array to host array, nothing else timed.

    `compute_p50_ms` is the GPU's share, without copies; None where nothing tells it. `profile` is an engine's, None
    where it is not known. `inputs` says what was fed. `warmup` and `blocks` are None where the program tells neither.
    Percentiles that the runs do not carry are left out.
    """

    runtime: Literal["onnxruntime", "tensorrt"]
    runtime_version: Line
    precision: FilePrecision
    batch_size: Count
    runs: Count
    mean_ms: Milliseconds
    p50_ms: Milliseconds
    p90_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    compute_p50_ms: Milliseconds | None
    profile: BatchProfile | None = None
    inputs: Literal["samples", "noise"] | None = None
    warmup: WarmUp | None = None
    blocks: Blocks | None = None

    @model_validator(mode="after")
    def _enough_runs(self) -> DeviceTiming:
        _require_ordered(self.p50_ms, self.p90_ms, self.p99_ms)
        if self.profile is not None and not self.profile.min <= self.batch_size <= self.profile.max:
            raise ValueError(f"batch_size {self.batch_size} should be within the profile")
        if self.runs < LEAST_RUNS["p90_ms"]:
            self.p90_ms = None
        if self.runs < LEAST_RUNS["p99_ms"]:
            self.p99_ms = None
        return self


class DeviceRecord(Record):
    """What a bundle's benchmark measured on a device, as it wrote it there.

    `threads` are ONNX Runtime's. `state` is what could be read of power mode and clocks.
    """

    format: Literal[1]
    task: Task
    student: FileName
    checkpoint_digest: str
    image_size_px: ImageSizePx
    commit: Line
    threads: Count | None
    device: DeviceInfo
    state: dict[Line, Line | Literal[""]]
    timings: Annotated[list[DeviceTiming], Field(min_length=1)]


AnyRecord = TypeVar("AnyRecord", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record as indented JSON, atomically."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_record(path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Read a record of a known kind.

    Raises:
        PipelineError: if the file is missing or is not such a record.

    """
    try:
        return kind.model_validate_json(read_text(path), strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise PipelineError(f"{path} not found: run `dvc repro` to make it") from None
    except ValidationError as error:
        raise PipelineError(f"{path} is not a {kind.__name__} record: {error}") from None
