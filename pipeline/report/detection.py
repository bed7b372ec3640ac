"""A detector's precision against recall, and what it takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.records import DetectionDetails
from pipeline.report.results import TaskResults
from pipeline.report.style import GREY, new_figure, run_look

NAMED_CLASSES: Final = 10  # curves of more classes are drawn without their names
WRITTEN_CLASSES: Final = 20  # counts of more classes are not written into the cells
BACKGROUND: Final = "background"

Detailed = list[tuple[str, DetectionDetails]]  # a model's label, and what stands behind its scores


def detailed(results: TaskResults) -> Detailed:
    """List the models whose records have details, teacher first; empty for other tasks and for older records."""
    records = [(model.label, model.accuracy["torch"].details) for model in results.models()]
    return [(label, details) for label, details in records if details is not None]


def plot_precision_recall(path: Path, models: Detailed) -> None:
    """Draw the mean curve of every model, and the last one's curve of each class."""
    with new_figure(path, (12.6, 4.6)) as figure:
        means, by_class = figure.subplots(1, 2, sharey=True)
        labels = [label for label, _ in models]
        for label, details in models:
            curve = np.mean(list(details.precision_at_recall.values()), axis=0)  # (101,)
            means.plot(_recalls(curve), curve, **run_look(label, labels), label=f"{label}: {curve.mean():.3f}")
        label, details = models[-1]
        named = len(details.precision_at_recall) <= NAMED_CLASSES
        for name, values in details.precision_at_recall.items():
            look: dict[str, Any] = (
                {"label": f"{name}: {np.mean(values):.3f}"} if named else {"color": GREY, "alpha": 0.5}
            )
            by_class.plot(_recalls(values), values, linewidth=1.4, **look)
        for axes, title in ((means, "Mean over the classes"), (by_class, f"{label}, by class")):
            axes.set(title=title, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
            if axes.get_legend_handles_labels()[0]:
                axes.legend(title="area (AP50)", fontsize=9, loc="lower left")
        means.set_ylabel("precision")


def plot_confusions(path: Path, models: Detailed, classes: Sequence[str]) -> None:
    """Draw, for the last model, the share of each true class (column) that is detected as each class (row)."""
    label, details = models[-1]
    names = [*classes, BACKGROUND]
    counts = _matrix(details, classes)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    side = min(12.0, 3.2 + 0.42 * len(names))
    with new_figure(path, (side + 1.2, side)) as figure:
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(names)) if len(names) <= WRITTEN_CLASSES + 1 else range(0, len(names), 5)
        axes.set_xticks(ticks, [names[index] for index in ticks], rotation=60, ha="right")
        axes.set_yticks(ticks, [names[index] for index in ticks])
        axes.set(title=label, xlabel="true class", ylabel="detected as")
        axes.grid(visible=False)
        if len(classes) <= WRITTEN_CLASSES:
            for row, column in zip(*np.nonzero(counts), strict=True):
                ink = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize=8)
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")


def _recalls(curve: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.linspace(0, 1, len(curve))


def _matrix(details: DetectionDetails, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Lay the counts out as (detected, true), the background last."""
    place = {**{name: index for index, name in enumerate(classes)}, "": len(classes)}
    counts = np.zeros((len(place), len(place)), dtype=np.int64)
    for true, row in details.confusions.items():
        for detected, count in row.items():
            counts[place[detected], place[true]] = count
    return counts
