"""Compose everything under `reports/`, whole or not at all; and the table that `make repro` ends with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.data.prepared import open_dataset
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.report.drawing import MaskedImage, Scene, draw_masks, draw_predictions
from pipeline.report.history import points, read_head, read_history
from pipeline.report.html import Picture, render_html
from pipeline.report.metrics import NOISE_AP, Metrics, TaskResults, build_metrics, build_summary, read_results
from pipeline.report.plots import Curve, plot_accuracy_latency, plot_prompt_curve, plot_training_curves, read_curve

TASK = "detect"
OUTS = (
    "metrics.json", "summary.json", "accuracy_latency.png", "training_curves.png", "predictions.png", "masks.png",
    "report.html",
)  # fmt: skip


@dataclass(frozen=True)
class Drawings:
    """What the models saw on test images; the stage runs them, the report draws."""

    classes: Sequence[str]
    predictions: Sequence[Scene]
    masks: Sequence[MaskedImage]


def build_report(results: Path, dataset: Path, *, params: Params, out: Path, scratch: Path, drawings: Drawings) -> None:
    """Write metrics.json, summary.json, report.html and the PNG plots into `out`.

    Everything is made in `scratch` first and moved in file by file at the end, so a failure leaves the old report, and
    other files in `out` stay. Earlier commits' numbers come from git, where there is a checkout.

    Args:
        results: the folder of records and histories (`<task>/teacher`, `<task>/<student>/{control,distilled}`).
        dataset: the prepared dataset.
        params: the parameters that were used; its students are the ones reported.
        out: where to write; `reports` at the repository's root.
        scratch: an existing folder on the same file system, for unfinished work.
        drawings: predictions and masks on test images.

    Raises:
        PipelineError: if a record, a history or the dataset is missing or malformed.

    """
    found = read_results(results, TASK, list(params.students))
    prepared = open_dataset(dataset)
    curves = dict(_training_curves(found, results / TASK))
    prompt = read_curve(results / TASK / "teacher" / "prompt_history.csv", PROMPT_COLUMNS)
    metrics, summary = build_metrics(found), build_summary(found)
    history = read_history(out, params.report.history_commits, metrics, summary)
    head = read_head(out)
    made = scratch / "report"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    _write_json(made / "metrics.json", metrics)
    _write_json(made / "summary.json", summary)
    plot_accuracy_latency(made / "accuracy_latency.png", points(metrics, summary, TASK), history.snapshots, TASK)
    plot_training_curves(made / "training_curves.png", curves)
    plot_prompt_curve(made / "prompt_curve.png", prompt)
    draw_predictions(made / "predictions.png", drawings.predictions, drawings.classes)
    draw_masks(made / "masks.png", drawings.masks)
    page = render_html(found, prepared, params, pictures=_pictures(made), history=history, commit=head)
    (made / "report.html").write_text(page, encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTS:
        (made / name).replace(out / name)
    shutil.rmtree(made)


def show(metrics_path: Path) -> None:
    """Print metrics.json as a table, one row per model and runtime.

    Raises:
        PipelineError: if the file is missing or is not JSON.

    """
    try:
        metrics: Metrics = json.loads(metrics_path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{metrics_path} not found: run `dvc repro` to make it") from None
    except ValueError as error:
        raise PipelineError(f"{metrics_path}: expected JSON, got {error}: run `dvc repro --force report`") from None
    console = Console()
    for task, entries in metrics.items():
        console.print(_table(task, entries))
        if any("gain" not in entry for name, entry in entries.items() if name != "teacher"):
            console.print("Control switched off (control.enabled in params.yaml): the gain of distillation is unknown.")
    console.print(
        f"Gains within about ±{NOISE_AP} AP are noise of one seed. All of it: {metrics_path.with_name('report.html')}"
    )


PROMPT_COLUMNS = ("iteration", "task_loss", "overlap")
TRAINING_COLUMNS = ("epoch", "val/map50_95")
TABLE_COLUMNS = {  # heading -> metric and its format
    "params M": ("params_m", ".2f"),
    "size MB": ("size_mb", ".2f"),
    "AP50-95": ("map50_95", ".3f"),
    "AP50": ("map50", ".3f"),
    "gain": ("gain", "+.3f"),
    "p50 ms": ("p50_ms", ".3g"),
    "p99 ms": ("p99_ms", ".3g"),
}


def _table(task: str, entries: Metrics) -> Table:
    table = Table(title=f"{task}, test split, batch 1", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("runtime", no_wrap=True)
    for heading in TABLE_COLUMNS:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    for name, runtime, values in _rows(entries):
        cells = [format(values[m], form) if m in values else "" for m, form in TABLE_COLUMNS.values()]
        table.add_row(name, runtime, *cells)
    return table


def _rows(entries: Metrics) -> Iterator[tuple[str, str, dict[str, float]]]:
    for name, entry in entries.items():
        if name == "teacher":
            yield from ((name, runtime, values) for runtime, values in entry.items())
            continue
        gain = entry.get("gain", {}).get("map50_95")
        for role in ("control", "distilled"):
            for runtime, values in entry.get(role, {}).items():
                is_gained = role == "distilled" and runtime == "torch" and gain is not None
                yield f"{name} {role}", runtime, values | ({"gain": gain} if is_gained else {})


def _training_curves(results: TaskResults, folder: Path) -> Iterator[tuple[str, Curve]]:
    yield "teacher", read_curve(folder / "teacher" / "history.csv", TRAINING_COLUMNS)
    for student in results.students:
        for role in ("control", "distilled"):
            if role == "distilled" or student.control is not None:
                path = folder / student.name / role / "history.csv"
                yield f"{student.name} {role}", read_curve(path, TRAINING_COLUMNS)


def _pictures(folder: Path) -> list[Picture]:
    return [Picture(title, " ".join(caption.split()), folder / name) for name, (title, caption) in CAPTIONS.items()]


CAPTIONS = {  # file -> heading and caption in the report
    "accuracy_latency.png": (
        "Accuracy against latency",
        """Up and to the left is better. An arrow leads from a model in torch to the same model in another runtime.
        The control has the distilled student's architecture and stands at its latency.""",
    ),
    "predictions.png": (
        "Predictions beside ground truth",
        """Test images, boxes with a score of at least 0.25. Found: the right class at IoU 0.5 or more.""",
    ),
    "masks.png": (
        "Where the teacher looks",
        """The prompts' masks of points of interest, averaged over the prompts, per pyramid map (row) and wavelet band
        (column): where they are bright, the student is asked most to match the teacher's band. Level 1 is the finest.
        Each mask is stretched to the range that stands under it: one of 0.50 to 0.52 marks next to nothing.""",
    ),
    "training_curves.png": (
        "Training",
        """Teacher, control and distilled student, the same validation for all. Losses of different architectures are
        not on one scale; control and distilled are. The share is distillation's part of the student's whole loss.""",
    ),
    "prompt_curve.png": (
        "Prompt tuning",
        """The frozen teacher's own loss with its features passed through the masks and without, and how much the masks
        overlap; running means over the single values.""",
    ),
}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
