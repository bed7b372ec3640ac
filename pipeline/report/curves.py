"""Histories of training runs and of the prompts: read from CSV, drawn as curves."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.report.style import COLOURS, new_figure, run_look
from pipeline.tasks import Task, main_title

Curve = dict[str, list[float]]  # one training run: column -> one value per row, NaN where the cell is empty

SHARE = "train/distill_share"


def plot_training_curves(path: Path, runs: dict[str, Curve], task: Task) -> None:
    """Draw the main score on val, the training loss, and distillation's share of it.

    Args:
        path: the PNG to write.
        runs: `teacher`, `<student> control` and `<student> distilled`, each with the columns of its history.csv. Losses
            that a distilled run has beyond its control's (or the teacher's) are left out of the sum: the rest compares.
        task: names the main score.

    """
    count = 3 if any(SHARE in curve for curve in runs.values()) else 2
    with new_figure(path, (4.2 * count, 3.9)) as figure:
        panels = figure.subplots(1, count)
        score = f"{main_title(task)} on val"
        titles = (score, "Training loss without distillation", "Distillation's share of the loss")
        for axes, title in zip(panels, titles, strict=False):
            axes.set(title=title, xlabel="epoch")
        for name, curve in runs.items():
            look = run_look(name, runs)
            single = {"marker": "o"} if len(curve["epoch"]) == 1 else {}  # a line needs two points
            panels[0].plot(curve["epoch"], curve["val/score"], **look, **single, label=name)
            if losses := [curve[column] for column in _task_losses(name, runs)]:  # none of a teacher used as it is
                panels[1].plot(curve["epoch"], np.sum(losses, axis=0), **look, **single)
            if SHARE in curve:
                panels[2].plot(curve["epoch"], curve[SHARE], **look)
        panels[0].set_ylim(bottom=0)
        if count == 3:
            panels[2].set_ylim(bottom=0)
        panels[1].set_yscale("log" if _spans_decades(panels[1]) else "linear")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)


def plot_prompt_curve(path: Path, curve: Curve) -> None:
    """Draw the teacher's task loss with and without the prompts, and the overlap of their masks, over iterations."""
    with new_figure(path, (12.6, 3.5)) as figure:
        losses, overlap = figure.subplots(1, 2)
        losses.set(title="Teacher's task loss", xlabel="iteration")
        overlap.set(title="Overlap of the masks", xlabel="iteration")
        if "task_loss_plain" in curve:
            _running_mean(losses, curve, "task_loss_plain", color="#666666", label="without prompts")
        _running_mean(losses, curve, "task_loss", color=COLOURS["teacher"], label="with prompts")
        _running_mean(overlap, curve, "overlap", color=COLOURS["teacher"])
        losses.legend(fontsize=9)


def read_curve(path: Path, required: Sequence[str]) -> Curve:
    """Read a history.csv into columns of floats; an empty cell is NaN.

    Raises:
        PipelineError: if the file is missing, lacks a required column or holds something that is not a number.

    """
    try:
        with path.open(newline="") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: run `dvc repro` to make it") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if missing := [name for name in required if name not in header]:
        raise PipelineError(f"{path}:1: expected a column {', '.join(missing)}, got {', '.join(header) or 'nothing'}")
    curve: Curve = {name: [] for name in header}
    for line, row in enumerate(rows[1:], start=2):
        try:
            for name, cell in zip(header, row, strict=True):
                curve[name].append(float(cell) if cell.strip() else math.nan)
        except ValueError:
            raise PipelineError(
                f"{path}:{line}: expected {len(header)} numbers, got {','.join(row)!r}: "
                "delete the file and run `dvc repro` to train again"
            ) from None
    return curve


def _running_mean(axes: Any, curve: Curve, column: str, **look: Any) -> None:
    """Draw every value faint and the centred mean over a twentieth of them strong."""
    values = np.asarray(curve[column])
    window = max(1, len(values) // 20)
    first = (window - 1) // 2
    mean = np.convolve(values, np.ones(window) / window, mode="valid")
    axes.plot(curve["iteration"], values, color=look["color"], alpha=0.2, linewidth=0.8)
    axes.plot(curve["iteration"][first : first + len(mean)], mean, linewidth=1.8, **look)


def _task_losses(name: str, runs: dict[str, Curve]) -> list[str]:
    """Name the losses of a run that are not distillation's: those that the same run without a teacher has too."""
    losses = [column for column in runs[name] if column.startswith("train/") and column != SHARE]
    plain = runs.get(name.removesuffix("distilled") + "control", runs.get("teacher", {}))
    return [column for column in losses if column in plain] or losses if name.endswith(" distilled") else losses


def _spans_decades(axes: Any) -> bool:
    values = np.concatenate([line.get_ydata() for line in axes.lines]) if axes.lines else np.ones(1)
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > 20)
