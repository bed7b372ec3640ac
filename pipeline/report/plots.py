"""Latency against accuracy, training curves and the prompt's curve, as PNG files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from pipeline.errors import PipelineError
from pipeline.report.history import Point, Snapshot, comparable
from pipeline.report.metrics import NOISE_AP

Curve = dict[str, list[float]]  # one training run: column -> one value per row, NaN where the cell is empty

SHARE = "train/distill_share"

# Okabe and Ito's palette: told apart by colour-blind readers, and in print.
COLOURS = {"teacher": "#0072B2", "control": "#E69F00", "distilled": "#007A5A"}
GREY, INK = "#9A9A9A", "#222222"
MARKERS = {"torch": "o", "onnxruntime": "s", "tensorrt": "^", "openvino": "D"}
STYLE = {
    "figure.dpi": 144,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "text.color": INK,
}


def plot_accuracy_latency(path: Path, now: Sequence[Point], earlier: Sequence[Snapshot], task: str) -> None:
    """Draw AP50-95 against the median latency: this commit, and beside it every earlier one.

    Earlier points taken on another device, thread count or test set than the same point now are hollow and grey.
    """
    before = [(snapshot, snapshot.points(task)) for snapshot in earlier]
    before = [(snapshot, found) for snapshot, found in before if found]
    with _figure(path, (11.5 if before else 8.0, 4.9)) as figure:
        panels = figure.subplots(1, 2 if before else 1, sharey=bool(before), squeeze=False)[0]
        labels, arrows = _draw_now(panels[0], now)
        if before:
            _draw_history(panels[1], now, before)
        everything = [*now, *(point for _, found in before for point in found)]
        handles = _legend(everything, hollow=bool(before))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7), fontsize=9)
        _place_labels(panels[0], labels, arrows)


def plot_training_curves(path: Path, runs: dict[str, Curve]) -> None:
    """Draw AP50-95 on val, the training loss, and distillation's share of it.

    Args:
        path: the PNG to write.
        runs: `teacher`, `<student> control` and `<student> distilled`, each with the columns of its history.csv. Losses
            that a distilled run has beyond its control's (or the teacher's) are left out of the sum: the rest compares.

    """
    count = 3 if any(SHARE in curve for curve in runs.values()) else 2
    with _figure(path, (4.2 * count, 3.9)) as figure:
        panels = figure.subplots(1, count)
        titles = ("AP50-95 on val", "Training loss without distillation", "Distillation's share of the loss")
        for axes, title in zip(panels, titles, strict=False):
            axes.set(title=title, xlabel="epoch")
        for name, curve in runs.items():
            look = _run_look(name, runs)
            panels[0].plot(curve["epoch"], curve["val/map50_95"], **look, label=name)
            losses = [curve[column] for column in _task_losses(name, runs)]
            panels[1].plot(curve["epoch"], np.sum(losses, axis=0), **look)
            if SHARE in curve:
                panels[2].plot(curve["epoch"], curve[SHARE], **look)
        panels[0].set_ylim(bottom=0)
        if count == 3:
            panels[2].set_ylim(bottom=0)
        panels[1].set_yscale("log" if _spans_decades(panels[1]) else "linear")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)


def plot_prompt_curve(path: Path, curve: Curve) -> None:
    """Draw the teacher's task loss with and without the prompts, and the overlap of their masks, over iterations."""
    with _figure(path, (12.6, 3.5)) as figure:
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


@contextmanager
def _figure(path: Path, size_in: tuple[float, float]) -> Iterator[Any]:
    """Give an empty figure in the common style and save it; no pyplot, so no global state and no display."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size_in, layout=ConstrainedLayoutEngine(wspace=0.05, w_pad=0.08, h_pad=0.08))
        yield figure
        figure.savefig(path, format="png", metadata={"Software": None})


def _draw_now(axes: Any, now: Sequence[Point]) -> tuple[list[tuple[Point, str]], list[tuple[Point, Point]]]:
    """Draw points and arrows; return the labels to place and what the arrows link."""
    axes.set(title="This commit", xlabel="median latency, ms (log scale, batch 1)", ylabel="AP50-95 on test")
    _log_axis(axes, [point.p50_ms for point in now])
    axes.margins(y=0.18)
    by_key = {point.key: point for point in now}
    labels, arrows = [], []
    for point in now:
        axes.plot(point.p50_ms, point.map50_95, **_look(point), markersize=9, zorder=3)
        in_torch = by_key.get((point.model, point.role, "torch"), point)
        control = by_key.get((point.model, "control", "torch"))
        text = f"{point.map50_95:.3f}"
        if point is in_torch:
            text = f"{point.model if point.role == 'teacher' else f'{point.model} {point.role}'}  {text}"
        else:
            arrows.append((in_torch, point, COLOURS[point.role]))
        if control is not None and point is in_torch and point.role == "distilled":
            arrows.append((control, point, INK))
            text += f"  ({point.map50_95 - control.map50_95:+.3f})"
        if point.role == "control":
            bar: dict[str, Any] = {"color": COLOURS["control"], "capsize": 5, "linewidth": 1.2, "alpha": 0.7}
            axes.errorbar(point.p50_ms, point.map50_95, yerr=NOISE_AP, **bar)
        labels.append((point, text))
    for start, end, colour in arrows:
        look = {"arrowstyle": "->", "color": colour, "linewidth": 1.2, "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", (end.p50_ms, end.map50_95), (start.p50_ms, start.map50_95), arrowprops=look)
    return labels, [(start, end) for start, end, _ in arrows]


def _draw_history(axes: Any, now: Sequence[Point], before: Sequence[tuple[Snapshot, list[Point]]]) -> None:
    axes.set(title="With earlier commits", xlabel="median latency, ms (log scale, batch 1)")
    axes.tick_params(labelleft=False)
    _log_axis(axes, [*(p.p50_ms for p in now), *(p.p50_ms for _, found in before for p in found)])
    trails = {point.key: [point] for point in now}
    for age, (_, found) in enumerate(before):
        for point in found:
            if not comparable(point, now):
                axes.plot(point.p50_ms, point.map50_95, **(_look(point) | HOLLOW), markersize=6, zorder=2)
                continue
            trails.setdefault(point.key, []).append(point)
            alpha = max(0.25, 0.75 * 0.85**age)
            axes.plot(point.p50_ms, point.map50_95, **_look(point), markersize=6, alpha=alpha, zorder=2)
    for trail in trails.values():
        xs, ys = [point.p50_ms for point in trail], [point.map50_95 for point in trail]
        axes.plot(xs, ys, color=COLOURS[trail[0].role], linewidth=1, alpha=0.45, zorder=1)
    for point in now:
        axes.plot(point.p50_ms, point.map50_95, **_look(point), markersize=9, zorder=3)


HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": GREY}


def _look(point: Point) -> dict[str, Any]:
    marker = MARKERS.get(point.runtime.split("-")[0], "P")
    return {
        "marker": marker,
        "linestyle": "none",
        "markerfacecolor": COLOURS[point.role],
        "markeredgecolor": "white",
        "markeredgewidth": 1.0,
    }


def _legend(shown: Sequence[Point], *, hollow: bool) -> list[Any]:
    roles = [role for role in COLOURS if any(point.role == role for point in shown)]
    runtimes = list(dict.fromkeys(sorted((p.runtime for p in shown), key=lambda name: (name != "torch", name))))
    handles = [Line2D([], [], color=COLOURS[role], linewidth=5, label=role) for role in roles]
    for runtime in runtimes:
        marker = MARKERS.get(runtime.split("-")[0], "P")
        handles.append(Line2D([], [], color=INK, marker=marker, linestyle="none", label=runtime))
    if "control" in roles:
        bar: dict[str, Any] = {"color": COLOURS["control"], "marker": "_", "markersize": 9, "linestyle": "none"}
        handles.append(Line2D([], [], **bar, label=f"±{NOISE_AP} AP: noise of one seed"))
    if hollow:
        label = "another device or test set: not comparable"
        handles.append(Line2D([], [], marker="o", linestyle="none", **HOLLOW, label=label))
    return handles


def _log_axis(axes: Any, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    if values:
        axes.set_xlim(min(values) / 1.6, max(values) * 1.9)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _place_labels(axes: Any, labels: Sequence[tuple[Point, str]], arrows: Sequence[tuple[Point, Point]]) -> None:
    """Put each label where it covers the fewest points, arrows and earlier labels, inside the axes."""
    axes.figure.draw_without_rendering()  # settles the layout: pixels are final from here on
    axes.figure.set_layout_engine("none")
    pixel = {point.key: axes.transData.transform((point.p50_ms, point.map50_95)) for point, _ in labels}
    taken = [_around(centre, 9) for centre in pixel.values()]
    for start, end in arrows:
        taken += [_around(centre, 3) for centre in np.linspace(pixel[start.key], pixel[end.key], 25)]
    for point, text in labels:
        tried: list[tuple[int, int, Any, Any]] = []
        for dx, dy, align in LABEL_PLACES:
            at = {"xytext": (dx, dy), "textcoords": "offset points", "ha": align, "va": "center", "fontsize": 9}
            label = axes.annotate(text, (point.p50_ms, point.map50_95), **at)
            label.set(in_layout=False, path_effects=[withStroke(linewidth=3, foreground="white")])
            box = label.get_window_extent()
            outside = not (axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1)
            tried.append((outside * 100 + box.count_overlaps(taken), len(tried), label, box))
        best = min(tried)
        for _, _, label, _ in tried:
            if label is not best[2]:
                label.remove()
        taken.append(best[3])


LABEL_PLACES = (  # offsets in points, and alignment
    (10, 0, "left"), (-10, 0, "right"), (0, 13, "center"), (0, -13, "center"), (8, 12, "left"), (8, -12, "left"),
    (-8, 12, "right"), (-8, -12, "right"), (0, 24, "center"), (0, -24, "center"),
)  # fmt: skip


def _around(centre: Sequence[float], half_px: float) -> Bbox:
    return Bbox([[centre[0] - half_px, centre[1] - half_px], [centre[0] + half_px, centre[1] + half_px]])


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


def _run_look(name: str, names: Iterable[str]) -> dict[str, Any]:
    """Colour by role, line style by student."""
    role = name.rsplit(maxsplit=1)[-1]
    peers = [other for other in names if other.endswith(role)]
    return {"color": COLOURS[role], "linewidth": 1.8, "linestyle": ("-", "--", ":", "-.")[peers.index(name) % 4]}


def _spans_decades(axes: Any) -> bool:
    values = np.concatenate([line.get_ydata() for line in axes.lines]) if axes.lines else np.ones(1)
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > 20)
