"""The sections of params.yaml, strict and frozen: what each key may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.records import FileName, ImageSizePx, Runtime
from pipeline.tasks import TASKS, Task

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Whole = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what torch, numpy and Python's random all take
Threads = Annotated[int, Field(ge=0, le=1024)]  # 0: all that the process may use
Name = FileName  # a folder, a DVC stage, a metrics key


Method = Literal[
    "acam", "cwd", "dist", "fgd", "freekd", "gdd", "maskd", "mgd", "mse", "pkd", "ultralytics"
]  # pipeline/distill/losses.py
Weighting = Literal["fixed", "linear", "balanced"]
Precision = Literal["fp32", "fp16", "int8"]
Corruption = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "motion_blur",
    "zoom_blur",
    "fog",
    "snow",
    "rain",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg",
    "saturate",
]  # fmt: skip; pipeline/evaluation/corruptions.py


class Section(BaseModel):
    """Refuse unknown keys, wrong types, infinity, NaN and later changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Machine(Section):
    """Where and how wide training runs. No stage depends on it: results do not."""

    device: str | int
    workers: Annotated[int, Field(ge=0, le=1024)]
    threads: Threads
    modelopt_python: str | None

    @field_validator("device")
    @classmethod
    def _known(cls, device: str | int) -> str:
        text = str(device).replace(" ", "")
        if text not in {"auto", "cpu"} and not all(part.isdecimal() for part in text.split(",")):
            raise ValueError("should be auto, cpu, a GPU number such as 0, or several such as 0,1")
        return text


class Scenes(Section):
    """The embedded dataset."""

    train_images: Count
    val_images: Count
    test_images: Count


class Coco(Section):
    """What the annotations of source `coco` mean."""

    keep_crowds: bool


class Masks(Section):
    """What the masks of source `masks` mean."""

    classes: str
    ignore: list[int | str]
    resize: bool
    image_suffix: str = ""
    mask_suffix: str = ""


class Prepare(Section):
    """Where the data come from and how they are cut."""

    source: Literal["scenes", "yolo", "coco", "voc", "masks"]
    path: str
    annotations: str | None
    image_size_px: ImageSizePx
    val_fraction: Fraction
    test_fraction: Fraction
    calibration_images: Count
    seed: Seed
    scenes: Scenes
    coco: Coco
    masks: Masks

    @model_validator(mode="after")
    def _leaves_train(self) -> Prepare:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction + test_fraction should leave images to train on (a sum below 1)")
        return self


class Training(Section):
    """One training run; what Ultralytics calls these is in `training/trainer.py`."""

    epochs: Count
    batch_size: Count
    optimizer: Literal["SGD", "Adam", "AdamW", "MuSGD"]
    learning_rate: Positive
    final_learning_rate_factor: Fraction
    momentum: Fraction
    weight_decay: NonNegative
    warmup_epochs: NonNegative
    cosine_schedule: bool
    mixed_precision: bool
    close_mosaic_epochs: Whole
    class_weight_power: Fraction
    augment: dict[str, float]
    seed: Seed

    @field_validator("augment")
    @classmethod
    def _known_augmentation(cls, augment: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(augment) - AUGMENTATIONS):
            raise ValueError(
                f"unknown augmentation {', '.join(unknown)}; Ultralytics' are {', '.join(sorted(AUGMENTATIONS))}"
            )
        return augment


AUGMENTATIONS = frozenset(
    ["hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr"]
    + ["mosaic", "mixup", "cutmix", "multi_scale"]
)


class Teacher(Training):
    """The large model; without epochs, a trained `.pt` is used as it is."""

    model: str
    epochs: Whole

    @model_validator(mode="after")
    def _is_trained(self) -> Teacher:
        if self.epochs == 0 and not self.model.endswith(".pt"):
            raise ValueError(f"epochs 0 uses a trained model as it is: model should be a .pt file, got {self.model}")
        return self


class Student(Training):
    """The recipe that control and distill share, so that their difference is the teacher."""


class Prompt(Section):
    """Frequency prompts in the frozen teacher (FreeKD, section 3.2 of the paper)."""

    levels: Count
    prompts: Count
    iterations: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NonNegative
    wavelet: str
    overlap: Literal["dice", "jaccard"]
    overlap_weight: NonNegative
    seed: Seed


class StudentModel(Section):
    """One student: what it is trained for, and its architecture."""

    task: Task
    model: str


class Control(Section):
    """The same student without a teacher."""

    enabled: bool


class DistillRecipe(Section):
    """How much the teacher counts in one task, and the options of the methods there."""

    weight: NonNegative
    weighting: Weighting
    options: dict[Method, dict[str, bool | int | float | str | None]]


class Distill(Section):
    """The distillation part of the student's loss."""

    method: Method
    detect: DistillRecipe | None = None
    segment: DistillRecipe | None = None

    def recipe(self, task: Task) -> DistillRecipe:
        """Return a task's recipe; `Params` has checked that every student's task has one."""
        recipe = self.detect if task == "detect" else self.segment
        assert recipe is not None
        return recipe

    def reads_prompts(self, task: Task) -> bool:
        """Whether the method reads the teacher's frequency prompts in a task; else they are not trained."""
        return reads_prompts(self.method, self.recipe(task))


def reads_prompts(method: Method, recipe: DistillRecipe) -> bool:
    """Whether a method with a task's options reads frequency prompts."""
    if method == "freekd":
        return "prompt" in str(recipe.options.get("freekd", {}).get("mask", "prompt"))
    return method == "maskd"


class Qat(Section):
    """Quantization-aware fine-tuning of the distilled student: what differs from its own recipe."""

    enabled: bool
    epochs: Count
    learning_rate: Positive
    warmup_epochs: NonNegative


class Evaluate(Section):
    """Accuracy on the test split."""

    batch_size: Count
    score_threshold: Fraction
    nms_iou: Fraction
    max_detections: Count
    boundary_tolerance: Fraction


class RobustnessParams(Section):
    """Corrupted images."""

    corruptions: list[Corruption]
    severities: Annotated[list[Annotated[int, Field(ge=1, le=5)]], Field(min_length=1)]
    images: Count
    seed: Seed


class Int8(Section):
    """Static quantization."""

    quantizer: Literal["onnxruntime", "modelopt"]
    calibration: Literal["minmax", "entropy", "percentile"]
    percentile: Annotated[float, Field(gt=50, le=100)]
    float_layers: list[str]

    @model_validator(mode="after")
    def _calibrates(self) -> Int8:
        if self.quantizer == "modelopt" and self.calibration == "percentile":
            raise ValueError("calibration should be minmax or entropy, as ModelOpt knows no percentile")
        return self


class Export(Section):
    """The ONNX files, and the gate that each passes."""

    opset: Annotated[int, Field(ge=13, le=20)]
    dynamic_batch: bool
    precisions: list[Precision]
    max_drop: dict[Precision, NonNegative]
    enforce_max_drop: bool
    parity_images: Count
    int8: Int8

    @model_validator(mode="after")
    def _complete(self) -> Export:
        if "fp32" not in self.precisions:
            raise ValueError("precisions should hold fp32: the other files are made from it")
        if absent := [precision for precision in self.precisions if precision not in self.max_drop]:
            raise ValueError(f"max_drop should have a number for {', '.join(absent)}")
        return self


class TensorRT(Section):
    """TensorRT's builder. Precision is no setting of it: the ONNX file carries that."""

    workspace_mb: Count
    optimization_level: Annotated[int, Field(ge=0, le=5)]
    max_batch: Count
    dla_core: Whole | None
    gpu_fallback: bool


class Engine(Section):
    """What is built from the ONNX file on this machine."""

    backends: list[Runtime]
    fail_on_rejection: bool
    tensorrt: TensorRT


class Benchmark(Section):
    """Latency: at which batch sizes, and how long and how often each runtime runs."""

    threads: Threads
    batch_sizes: list[Count]
    warmup_min_s: NonNegative
    warmup_max_s: NonNegative
    warmup_tolerance: Positive
    min_time_s: Positive
    min_runs: Count
    max_time_s: Positive

    @field_validator("batch_sizes")
    @classmethod
    def _from_one_up(cls, sizes: list[int]) -> list[int]:
        if sizes[:1] != [1] or sizes != sorted(set(sizes)):
            raise ValueError("should start with 1 and increase, such as [1, 4]")
        return sizes

    @model_validator(mode="after")
    def _warm_up_can_end(self) -> Benchmark:
        if self.warmup_max_s < self.warmup_min_s:
            raise ValueError("warmup_max_s should be at least warmup_min_s")
        return self

    @model_validator(mode="after")
    def _asked_time_fits(self) -> Benchmark:
        if self.max_time_s < self.min_time_s:
            raise ValueError("max_time_s should be at least min_time_s")
        return self


class Report(Section):
    """Pictures and history."""

    images: Count
    history_commits: Whole


class Params(Section):
    """All of params.yaml."""

    machine: Machine
    prepare: Prepare
    teacher: Annotated[dict[Task, Teacher], Field(min_length=1)]
    prompt: Prompt
    students: Annotated[dict[Name, StudentModel], Field(min_length=1)]
    student: Annotated[dict[Task, Student], Field(min_length=1)]
    control: Control
    distill: Distill
    qat: Qat
    evaluate: Evaluate
    robustness: RobustnessParams
    export: Export
    engine: Engine
    benchmark: Benchmark
    report: Report

    @model_validator(mode="after")
    def _learned_ranges_are_used(self) -> Params:
        if self.qat.enabled and self.export.int8.quantizer == "modelopt":
            raise ValueError("qat.enabled needs export.int8.quantizer onnxruntime: ModelOpt would calibrate anew")
        return self

    @model_validator(mode="after")
    def _students_can_be_trained(self) -> Params:
        if taken := sorted({"teacher", *TASKS} & set(self.students)):
            raise ValueError(f"no student can be named {taken[0]}: results/ and the metrics have that name already")
        for name, student in self.students.items():
            sections = {
                "teacher": self.teacher.get(student.task),
                "student": self.student.get(student.task),
                "distill": getattr(self.distill, student.task),
            }
            if absent := [section for section, found in sections.items() if found is None]:
                listed = ", ".join(f"{section}.{student.task}" for section in absent)
                raise ValueError(f"students.{name} is for task {student.task}, which lacks {listed}")
        return self

    @property
    def tasks(self) -> list[Task]:
        """The tasks that have a student, in the order of `TASKS`."""
        return [task for task in TASKS if any(student.task == task for student in self.students.values())]

    def students_of(self, task: Task) -> list[str]:
        """List the names of a task's students."""
        return [name for name, student in self.students.items() if student.task == task]
