"""The gate that every file passes on its way to a device, and what a person needs where one does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.backends import Backend, load
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.parity import compare
from pipeline.params import Evaluate, Export
from pipeline.records import Accuracy, Parity, least_alike
from pipeline.report.scenes import draw_scenes
from pipeline.tasks import main_title


@dataclass(frozen=True)
class Trained:
    """The model that a file has to be.

    Attributes:
        checkpoint: Its folder.
        accuracy: In torch, on the test split.
        dataset: The prepared dataset.
        export: Section `export`, for its budgets.
        evaluate: Section `evaluate`.
        qat: Folder of the same model fine-tuned for INT8, where there is one.

    """

    checkpoint: Path
    accuracy: Accuracy
    dataset: PreparedDataset
    export: Export
    evaluate: Evaluate
    qat: Path | None = None


def measure(trained: Trained, exported: Backend, size_mb: float) -> tuple[Accuracy, Parity]:
    """Measure a file in its runtime: accuracy on the test split, and parity with torch.

    Args:
        trained: What it has to be.
        exported: The file, loaded.
        size_mb: Its size, 10^6 bytes.

    """
    accuracy = evaluate(
        exported, trained.dataset, "test", trained.evaluate, model=trained.accuracy.model, size_mb=round(size_mb, 4)
    )
    parity = compare(
        load(trained.checkpoint), exported, trained.dataset, "test",
        accuracy=(trained.accuracy, accuracy), export=trained.export, evaluate=trained.evaluate,
    )  # fmt: skip
    return accuracy, parity


def check_gate(parities: Sequence[Parity], advice: str = "") -> None:
    """Stop when a file costs more of the main score than its precision may.

    Args:
        parities: Of one model's files.
        advice: What to do, for the message.

    Raises:
        PipelineError: with a table of all the files.

    """
    failed = [parity for parity in parities if parity.verdict == "failed"]
    if not failed:
        return
    model = failed[0].model
    raise PipelineError(
        f"{model.name} ({model.role}): {', '.join(parity.runtime for parity in failed)} is not the model that was "
        f"trained, on the test split (export.max_drop in params.yaml):\n{parity_table(parities)}\n{advice}".rstrip()
    )


def parity_table(parities: Sequence[Parity]) -> str:
    """Lay out what was measured of one model's files, a line each."""
    rows = [(main_title(parities[0].model.task), "torch", "drop", "allowed", "alike", "rel. error", "")]
    rows += [
        (
            f"{parity.score_exported:.4f}",
            f"{parity.score_torch:.4f}",
            f"{parity.drop:+.4f}",
            f"{parity.max_drop:g}",
            "no box" if parity.agreement is None else f"{100 * parity.agreement:.2f} %",
            f"{parity.relative_error:.1e}",
            "FAILED" if parity.verdict == "failed" else parity.verdict,
        )
        for parity in parities
    ]
    names = ["", *(parity.runtime for parity in parities)]
    width = max(map(len, names))
    lines = [
        f"  {name:<{width}}" + "".join(f"{cell:>12}" for cell in row[:-1]) + f"  {row[-1]}".rstrip()
        for name, row in zip(names, rows, strict=True)
    ]
    return "\n".join(lines)


def failure(parity: Parity) -> str:
    """Say in one line what a file that failed gets wrong."""
    title = main_title(parity.model.task)
    if parity.agreement is None:
        return f"relative error {parity.relative_error:.2g} of its outputs, allowed {parity.max_relative_error:g}"
    return (
        f"{title} {parity.score_exported:.4f} where torch has {parity.score_torch:.4f}: a drop of {parity.drop:.4f}, "
        f"allowed {parity.max_drop:g} (export.max_drop.{parity.precision})"
    )


def draw_least_alike(folder: Path, trained: Trained, exported: Backend, parity: Parity) -> str:
    """Draw the images on which a file differs most from torch, and say where."""
    images = [image for name in parity.least_alike for image in trained.dataset.images("test") if image.name == name]
    path = folder / least_alike(parity.runtime)
    columns = {"torch": load(trained.checkpoint), exported.runtime: exported}
    draw_scenes(path, columns, trained.dataset, images, trained.evaluate)
    return f"The images on which {parity.runtime} differs most: {path}"
