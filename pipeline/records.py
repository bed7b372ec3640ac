"""Every measurement as a typed JSON file: units in the key names, the device beside the number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import PipelineError
from pipeline.files import read_text, write_text
from pipeline.tasks import Task, main_score
from pipeline.text import is_one_line

Role = Literal["teacher", "control", "distilled", "qat"]
Runtime = Literal["onnxruntime", "onnxruntime_cuda", "onnxruntime_tensorrt", "tensorrt", "openvino"]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]  # of a model; leads to no other path
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]  # see pipeline/digest.py
ImageSizePx = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]
Strides = Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=1)]
FilePrecision = Literal["fp32", "fp16", "int8", "int8-fp16"]  # of an ONNX file, as its metadata and its name say


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

    `agreement` is the share of boxes that match, or of pixels of the same class, `least_alike` the images where it is
    lowest; box errors are a detector's.
    """

    model: ModelInfo
    runtime: str
    images: int
    outputs: list[OutputError]
    agreement: float
    max_box_error_px: float | None
    max_score_error: float | None
    least_alike: list[str]
    score_torch: float
    score_exported: float
    drop: float
    max_drop: float

    @property
    def precision(self) -> str:
        """What the exported file computes in."""
        return self.runtime.partition("-")[2]

    @property
    def passed(self) -> bool:
        """Whether the drop is within its budget; of fp32 a gain is too: the network has to be the same."""
        return (abs(self.drop) if self.precision == "fp32" else self.drop) <= self.max_drop


class Skipped(Record):
    """A stage or a model that was asked for and not made, and why."""

    skipped: str


class BackendBuild(Record):
    """One asked backend: built, or skipped and why.

    `layer_shares` is what TensorRT really built: of the layers that compute, the share per datatype, 0 to 1.
    """

    backend: Runtime
    precision: str
    status: Literal["built", "skipped"]
    reason: str | None
    version: str | None
    file: str | None  # in the folder of ONNX files or of engines
    size_mb: float | None
    layer_shares: dict[str, float] | None = None


class EngineRecord(Record):
    """What the engine stage made on this device."""

    model: ModelInfo
    device: DeviceInfo
    builds: list[BackendBuild]


class Load(Record):
    """How busy a machine was: the average of the last minute, and of how many CPUs."""

    average: float
    cpus: int


class Conditions(Record):
    """Clocks, power mode and temperatures at one moment; None or no key where the machine does not tell."""

    cpu_governor: str | None
    power_mode: str | None  # a Jetson's
    clocks_mhz: dict[str, float]
    temperatures_c: dict[str, float]
    power_limits_w: dict[str, float]


class WarmUp(Record):
    """How long a runtime ran before it was timed, and whether its median had come to rest by then."""

    seconds: float
    stable: bool


class Blocks(Record):
    """Medians of the alternating blocks, lowest and highest: how far the number moves by itself."""

    count: int
    min_ms: float
    max_ms: float


class Timing(Record):
    """Milliseconds of one phase over all runs."""

    mean_ms: float
    std_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float


class BatchLatency(Record):
    """Inference alone on whole batches; milliseconds are a batch's, the throughput counts images."""

    batch_size: int
    runs: int
    infer: Timing
    throughput_per_s: float
    warmup: WarmUp
    blocks: Blocks


class RuntimeLatency(Record):
    """One runtime's batch-1 latency, and beyond that inference alone.

    `infer` and `total` are clock times, `total` measured and not the sum of the medians; `blocks` are of `total`.
    `host_to_device`, `compute` and `device_to_host` are by the device's own clock, of further runs; None: it has none.
    """

    runtime: str
    device: str = "cpu"
    runs: int
    preprocess: Timing
    infer: Timing
    host_to_device: Timing | None = None
    compute: Timing | None = None
    device_to_host: Timing | None = None
    postprocess: Timing
    total: Timing
    throughput_per_s: float
    warmup: WarmUp | None = None
    blocks: Blocks | None = None
    batches: list[BatchLatency] = []


class Latency(Record):
    """All runtimes of one model, measured alternately in one process with those of every other model.

    The threshold is what NMS had to cope with. `load` was read first of all, `before` after the warm-up and `after` at
    the end. What may be None is None in records of commits that did not measure it.
    """

    model: ModelInfo
    device: DeviceInfo
    threads: int
    batch_size: int
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


class DeviceTiming(Record):
    """One model in one runtime on a device: milliseconds per call, host array to host array, nothing else timed.

    `compute_p50_ms` is the GPU's share, without copies; None where nothing tells it.
    """

    runtime: Literal["onnxruntime", "tensorrt"]
    runtime_version: str
    precision: str
    batch_size: Annotated[int, Field(ge=1)]
    runs: Annotated[int, Field(ge=1)]
    mean_ms: Milliseconds
    p50_ms: Milliseconds
    p90_ms: Milliseconds
    p99_ms: Milliseconds
    compute_p50_ms: Milliseconds | None


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
    threads: Annotated[int, Field(ge=1)] | None
    device: DeviceInfo
    state: dict[str, str]
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
        return kind.model_validate_json(read_text(path))
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: run `dvc repro` to make it") from None
    except ValidationError as error:
        raise PipelineError(f"{path} is not a {kind.__name__} record: {error}") from None
