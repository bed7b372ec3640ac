"""The pictures of one task: which there are, what they show, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.records import least_alike
from pipeline.report.accuracy_latency import plot_accuracy_latency
from pipeline.report.boxes import undrawn
from pipeline.report.curves import Curve, plot_prompt_curve, plot_training_curves, read_curve
from pipeline.report.detection import detailed, plot_confusions, plot_precision_recall
from pipeline.report.history import Snapshot, points
from pipeline.report.metrics import build_metrics, build_summary
from pipeline.report.prompt_masks import MaskedImage, draw_masks
from pipeline.report.results import TaskResults
from pipeline.report.robustness import measured, plot_robustness
from pipeline.report.scenes import DRAW
from pipeline.report.sheet import Scene
from pipeline.tasks import Task

TRAINING_COLUMNS, PROMPT_COLUMNS = ("epoch", "val/score"), ("iteration", "task_loss", "overlap")


@dataclass(frozen=True)
class Drawings:
    """What a task's models saw on test images, boxes or class maps; the stage runs them, the report draws."""

    classes: Sequence[str]
    predictions: Sequence[Scene[Any]]
    masks: Sequence[MaskedImage]


@dataclass(frozen=True)
class Picture:
    """A PNG file with its heading and what it shows."""

    name: str
    title: str
    caption: str
    path: Path


def draw_pictures(
    folder: Path, results: TaskResults, histories: Path, drawings: Drawings, earlier: Sequence[Snapshot]
) -> list[Picture]:
    """Draw a task's pictures as `<folder>/<task>-<name>.png`.

    Args:
        folder: exists.
        results: the task's records.
        histories: `results/<task>`, for the CSV files of the trainings.
        drawings: what the models saw.
        earlier: earlier commits.

    Returns:
        The pictures, in the order of `CAPTIONS`, of what was measured.

    Raises:
        PipelineError: if a history is missing or malformed, or there is no image to draw.

    """
    task = results.task
    files = {name: folder / f"{task}-{name}.png" for name in CAPTIONS}
    now = points(build_metrics([results]), build_summary([results]), task)
    plot_accuracy_latency(files["accuracy_latency"], now, earlier, task, results.noise)
    DRAW[task](files["predictions"], drawings.predictions, drawings.classes)
    if drawings.masks:
        draw_masks(files["masks"], drawings.masks)
        plot_prompt_curve(files["prompt_curve"], read_curve(histories / "teacher/prompt_history.csv", PROMPT_COLUMNS))
    if corrupted := measured(results):
        plot_robustness(files["robustness"], corrupted, task)
    if details := detailed(results):
        plot_precision_recall(files["precision_recall"], details)
        plot_confusions(files["confusions"], details, drawings.classes)
    plot_training_curves(files["training_curves"], dict(_training_curves(results, histories)), task)
    seen = {"seen": SEEN[task], "undrawn": UNDRAWN[task](drawings.predictions)}
    return [
        Picture(name, title, " ".join(caption.format(**seen).split()), files[name])
        for name, (title, caption) in CAPTIONS.items()
        if files[name].exists()
    ] + _rejected(histories, results)


def _rejected(histories: Path, results: TaskResults) -> list[Picture]:
    """List what the engine stage drew of each runtime that computes something else on this device."""
    return [
        Picture(
            f"rejected-{student.name}-{runtime}", f"Rejected for this device: {student.name} in {runtime}",
            "The test images on which this runtime differs most from torch.", picture,
        )
        for student in results.students
        for runtime in sorted(student.distilled.rejected)
        if (picture := histories / student.name / "engine" / least_alike(runtime)).exists()
    ]  # fmt: skip


def _training_curves(results: TaskResults, histories: Path) -> Iterator[tuple[str, Curve]]:
    for model in results.models():
        place = Path(model.name) if model.role == "teacher" else Path(model.name) / model.role
        yield model.label, read_curve(histories / place / "history.csv", TRAINING_COLUMNS)


SEEN: Final[dict[Task, str]] = {
    "detect": "boxes with a score of at least 0.25. Found: the right class at IoU 0.5 or more.",
    "segment": """class maps over the grey image; the background has no color, and hatched pixels have no label.
        mIoU is that of the one image, over the classes that its ground truth has.""",
}
UNDRAWN: Final[dict[Task, Callable[[Sequence[Scene[Any]]], str]]] = {"detect": undrawn, "segment": lambda _: ""}
CAPTIONS: Final = {  # name -> heading and caption in the report
    "accuracy_latency": (
        "Accuracy against latency",
        """Up and to the left is better. An arrow leads from a model in torch to the same model in another runtime.
        The control has the distilled student's architecture and stands at its latency.""",
    ),
    "predictions": ("Predictions beside ground truth", "Test images, {seen} {undrawn}"),
    "precision_recall": (
        "Precision and recall",
        """In torch, at IoU 0.5. The area under a curve is that class's AP50.""",
    ),
    "confusions": (
        "Confusions",
        """Of the distilled student in torch: detections with a score of at least 0.25 at IoU 0.45. The last column is
        what it detects where nothing is, the last row what it misses.""",
    ),
    "robustness": (
        "Corrupted images",
        """The first test images as they are and corrupted. Left: the mean of all corruptions; right: each, averaged
        over its severities, in the order of what it costs the teacher.""",
    ),
    "masks": (
        "Where the teacher looks",
        """The prompts' masks of points of interest, averaged over the prompts, per map (row) and wavelet band
        (column): where they are bright, the student is asked most to match the teacher's band. Level 1 is the finest.
        Each mask is stretched to the range that stands under it: one of 0.50 to 0.52 marks next to nothing.
        The mask prompt*score also weighs by the teacher's confidence, which is not drawn.""",
    ),
    "training_curves": (
        "Training",
        """Teacher, control and distilled student, the same validation for all. Losses of different architectures are
        not on one scale; control and distilled are. The share is distillation's part of the student's whole loss.""",
    ),
    "prompt_curve": (
        "Prompt tuning",
        """The frozen teacher's own loss with its features passed through the masks and without, and how much the masks
        overlap; running means over the single values.""",
    ),
}
