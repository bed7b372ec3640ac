"""Accuracy on corrupted images: against the severity, and per corruption."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from pipeline.records import Robustness
from pipeline.report.results import TaskResults
from pipeline.report.style import marker_of, new_figure, run_look
from pipeline.tasks import Task, main_title

Measured = list[tuple[str, Robustness]]  # a model's label, and its record


def measured(results: TaskResults) -> Measured:
    """List the records of a task, teacher first; empty where robustness is switched off."""
    return [(model.label, record) for model in results.models() for record in model.robustness.values()]


def severities(records: Iterable[Robustness]) -> list[str]:
    """List the severities that any corruption was measured at, mildest first."""
    return sorted({level for record in records for scores in record.corrupted.values() for level in scores}, key=int)


def at_severity(record: Robustness, severity: str) -> float | None:
    """Average the corruptions at one severity; None where none was measured."""
    scores = [levels[severity] for levels in record.corrupted.values() if severity in levels]
    return float(np.mean(scores)) if scores else None


def plot_robustness(path: Path, found: Measured, task: Task) -> None:
    """Draw the main score against the severity, mean of all corruptions, and per corruption, mean of all severities.

    Corruptions stand in the order of what they cost the first model, which is the teacher: the worst at the bottom.
    """
    levels, corruptions = severities(record for _, record in found), _by_damage(found[0][1])
    names = [label for label, _ in found]
    with new_figure(path, (12.6, max(4.2, 1.5 + 0.26 * len(corruptions)))) as figure:
        severity, corruption = figure.subplots(1, 2)
        score = f"{main_title(task)} on test"
        severity.set(title="By severity, mean of all corruptions", xlabel="severity", ylabel=score)
        corruption.set(title="By corruption, mean of all severities", xlabel=score)
        steps = [0, *map(int, levels)]  # 0: clean
        severity.set_xticks(steps, ["clean", *levels])
        corruption.set_yticks(range(len(corruptions)), [name.replace("_", " ") for name in corruptions])
        corruption.set_ylim(len(corruptions) - 0.5, -0.5)  # the first on top
        handles = []
        for label, record in found:
            look = run_look(label, names) | _marker(record)
            by_severity = [record.clean, *(at_severity(record, level) for level in levels)]
            severity.plot(steps, by_severity, **look)
            by_corruption = [_of_corruption(record, name) for name in corruptions]
            corruption.plot(by_corruption, range(len(by_corruption)), **look | {"linestyle": "none"})
            handles.append(Line2D([], [], **look, label=f"{label}, {record.runtime}"))
        severity.set_ylim(bottom=0)
        corruption.set_xlim(left=0)
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9, handlelength=3.2)


def _by_damage(record: Robustness) -> list[str]:
    return sorted(record.corrupted, key=lambda name: -(_of_corruption(record, name) or 0.0))


def _of_corruption(record: Robustness, name: str) -> float | None:
    return float(np.mean(list(record.corrupted[name].values()))) if record.corrupted.get(name) else None


def _marker(record: Robustness) -> dict[str, Any]:
    """Leave other runtimes' markers hollow: torch's, at almost the same place, shows through."""
    if record.runtime == "torch":
        return {"marker": marker_of("torch"), "markersize": 5}
    return {"marker": marker_of(record.runtime), "markersize": 9, "markerfacecolor": "none"}
