"""Latency against accuracy: this commit, and beside it every earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from pipeline.report.history import Point, Snapshot, comparable
from pipeline.report.style import COLOURS, GREY, INK, marker_of, new_figure
from pipeline.tasks import Task, main_title

LATENCY = "median latency, ms (log scale, batch 1)"


def plot_accuracy_latency(
    path: Path, now: Sequence[Point], earlier: Sequence[Snapshot], task: Task, noise: float | None
) -> None:
    """Draw the main score against the median latency: this commit, and beside it every earlier one.

    Earlier points taken on another device, thread count or test set than the same point now are hollow and grey.
    `noise` is drawn at the control, where it is known.
    """
    before = [(snapshot, snapshot.points(task)) for snapshot in earlier]
    before = [(snapshot, found) for snapshot, found in before if found]
    with new_figure(path, (11.5 if before else 8.0, 4.9)) as figure:
        panels = figure.subplots(1, 2 if before else 1, sharey=bool(before), squeeze=False)[0]
        labels, arrows = _draw_now(panels[0], now, task, noise)
        if before:
            _draw_history(panels[1], now, before)
        everything = [*now, *(point for _, found in before for point in found)]
        handles = _legend(everything, task, noise, hollow=bool(before))
        figure.legend(handles=handles, loc="outside lower center", ncols=5 if before else 3, fontsize=9)
        _place_labels(panels[0], labels, arrows)


def _draw_now(
    axes: Any, now: Sequence[Point], task: Task, noise: float | None
) -> tuple[list[tuple[Point, str]], list[tuple[Point, Point]]]:
    """Draw points and arrows; return the labels to place and what the arrows link."""
    axes.set(title="This commit", xlabel=LATENCY, ylabel=f"{main_title(task)} on test")
    _log_axis(axes, [point.p50_ms for point in now])
    axes.margins(y=0.18)
    by_key = {point.key: point for point in now}
    labels, arrows = [], []
    for point in now:
        axes.plot(point.p50_ms, point.score, **_look(point), markersize=9, zorder=3)
        in_torch = by_key.get((point.model, point.role, "torch"), point)
        control = by_key.get((point.model, "control", "torch"))
        text = f"{point.score:.3f}"
        if point is in_torch:
            text = f"{point.model if point.role == 'teacher' else f'{point.model} {point.role}'}  {text}"
        else:
            arrows.append((in_torch, point, COLOURS[point.role]))
        if control is not None and point is in_torch and point.role == "distilled":
            arrows.append((control, point, INK))
            text += f"  ({point.score - control.score:+.3f})"
        if point.role == "control" and noise is not None:
            bar: dict[str, Any] = {"color": COLOURS["control"], "capsize": 5, "linewidth": 1.2, "alpha": 0.7}
            axes.errorbar(point.p50_ms, point.score, yerr=noise, **bar)
        labels.append((point, f"{text} (latency unstable)" if point.unstable else text))
    for start, end, colour in arrows:
        look = {"arrowstyle": "->", "color": colour, "linewidth": 1.2, "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", (end.p50_ms, end.score), (start.p50_ms, start.score), arrowprops=look)
    return labels, [(start, end) for start, end, _ in arrows]


def _draw_history(axes: Any, now: Sequence[Point], before: Sequence[tuple[Snapshot, list[Point]]]) -> None:
    axes.set(title="With earlier commits", xlabel=LATENCY)
    axes.tick_params(labelleft=False)
    _log_axis(axes, [*(p.p50_ms for p in now), *(p.p50_ms for _, found in before for p in found)])
    trails = {point.key: [point] for point in now}
    for age, (_, found) in enumerate(before):
        for point in found:
            if not comparable(point, now):
                axes.plot(point.p50_ms, point.score, **(_look(point) | HOLLOW), markersize=6, zorder=2)
                continue
            trails.setdefault(point.key, []).append(point)
            alpha = max(0.25, 0.75 * 0.85**age)
            axes.plot(point.p50_ms, point.score, **_look(point), markersize=6, alpha=alpha, zorder=2)
    for trail in trails.values():
        xs, ys = [point.p50_ms for point in trail], [point.score for point in trail]
        axes.plot(xs, ys, color=COLOURS[trail[0].role], linewidth=1, alpha=0.45, zorder=1)
    for point in now:
        axes.plot(point.p50_ms, point.score, **_look(point), markersize=9, zorder=3)


HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": GREY}


def _look(point: Point) -> dict[str, Any]:
    return {
        "marker": marker_of(point.runtime),
        "linestyle": "none",
        "markerfacecolor": COLOURS[point.role],
        "markeredgecolor": "white",
        "markeredgewidth": 1.0,
    }


def _legend(shown: Sequence[Point], task: Task, noise: float | None, *, hollow: bool) -> list[Any]:
    roles = [role for role in COLOURS if any(point.role == role for point in shown)]
    runtimes = list(dict.fromkeys(sorted((p.runtime for p in shown), key=lambda name: (name != "torch", name))))
    handles = [Line2D([], [], color=COLOURS[role], linewidth=5, label=role) for role in roles]
    look: dict[str, Any] = {"color": INK, "linestyle": "none"}
    handles += [Line2D([], [], **look, marker=marker_of(runtime), label=runtime) for runtime in runtimes]
    if "control" in roles and noise is not None:
        bar: dict[str, Any] = {"color": COLOURS["control"], "marker": "_", "markersize": 9, "linestyle": "none"}
        handles.append(Line2D([], [], **bar, label=f"±{noise} {main_title(task)}: noise of one seed"))
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
    """Put each label where it covers the fewest points, arrows and earlier labels, inside the axes.

    A label of another runtime than torch that would cover something is left out: the table has its number.
    """
    axes.figure.draw_without_rendering()  # settles the layout: pixels are final from here on
    axes.figure.set_layout_engine("none")
    pixel = {point.key: axes.transData.transform((point.p50_ms, point.score)) for point, _ in labels}
    taken = [_around(centre, 9) for centre in pixel.values()]
    for start, end in arrows:
        taken += [_around(centre, 3) for centre in np.linspace(pixel[start.key], pixel[end.key], 25)]
    for point, text in labels:
        tried: list[tuple[int, int, Any, Any]] = []
        for dx, dy, align in LABEL_PLACES:
            at = {"xytext": (dx, dy), "textcoords": "offset points", "ha": align, "va": "center", "fontsize": 9}
            label = axes.annotate(text, (point.p50_ms, point.score), **at)
            label.set(in_layout=False, path_effects=[withStroke(linewidth=3, foreground="white")])
            box = label.get_window_extent()
            outside = not (axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1)
            tried.append((outside * 100 + box.count_overlaps(taken), len(tried), label, box))
        covers, _, best, box = min(tried)
        is_drawn = point.runtime == "torch" or not covers
        for _, _, label, _ in tried:
            if label is not best or not is_drawn:
                label.remove()
        taken += [box] if is_drawn else []


LABEL_PLACES = (  # offsets in points, and alignment
    (10, 0, "left"), (-10, 0, "right"), (0, 13, "center"), (0, -13, "center"), (8, 12, "left"), (8, -12, "left"),
    (-8, 12, "right"), (-8, -12, "right"), (0, 24, "center"), (0, -24, "center"),
)  # fmt: skip


def _around(centre: Sequence[float], half_px: float) -> Bbox:
    return Bbox([[centre[0] - half_px, centre[1] - half_px], [centre[0] + half_px, centre[1] + half_px]])
