"""Compose everything under `reports/`, whole or not at all; and the table that `make repro` ends with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.data.prepared import open_dataset
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.report.history import read_head, read_history
from pipeline.report.html import render_html
from pipeline.report.metrics import UNSTABLE, Metrics, build_metrics, build_summary, noise_text
from pipeline.report.pictures import Drawings, draw_pictures
from pipeline.report.results import read_results
from pipeline.tasks import SCORES, TASKS, Task, main_score, main_title
from pipeline.text import PlainConsole

OUTS = ("metrics.json", "summary.json", "plots", "report.html")


def build_report(
    results: Path, dataset: Path, *, params: Params, out: Path, scratch: Path, drawings: Mapping[Task, Drawings]
) -> None:
    """Write metrics.json, summary.json, report.html and the folder of plots into `out`.

    Everything is made in `scratch` first and moved in at the end, so a failure leaves the old report, and other files
    in `out` stay. Earlier commits' numbers come from git, where there is a checkout.

    Args:
        results: the folder of records and histories (`<task>/teacher`, `<task>/<student>/{control,distilled}`).
        dataset: the prepared dataset.
        params: the parameters that were used; their tasks and students are the ones reported.
        out: where to write; `reports` at the repository's root.
        scratch: an existing folder on the same file system, for unfinished work.
        drawings: by task, what its models saw on test images.

    Raises:
        PipelineError: if a record, a history or the dataset is missing or malformed.

    """
    prepared = open_dataset(dataset)
    found = [read_results(results, task, params.students_of(task), prepared.info.source) for task in params.tasks]
    metrics, summary = build_metrics(found), build_summary(found)
    history = read_history(out, params.report.history_commits, metrics, summary)
    made = scratch / "report"
    shutil.rmtree(made, ignore_errors=True)
    (made / "plots").mkdir(parents=True)
    _write_json(made / "metrics.json", metrics)
    _write_json(made / "summary.json", summary)
    pictures = {
        each.task: draw_pictures(
            made / "plots", each, results / each.task, drawings[each.task], earlier=history.snapshots
        )
        for each in found
    }
    page = render_html(found, prepared, params, pictures=pictures, history=history, commit=read_head(out))
    (made / "report.html").write_text(page, encoding="utf-8")
    _publish(made, out)


def show(metrics_path: Path) -> None:
    """Print metrics.json as a table per task, one row per model and runtime.

    Raises:
        PipelineError: if the file is missing or is not what the report stage writes.

    """
    try:
        metrics: Metrics = json.loads(metrics_path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{metrics_path} not found: run `dvc repro` to make it") from None
    except ValueError as error:
        raise PipelineError(f"{metrics_path}: expected JSON, got {error}: run `dvc repro --force report`") from None
    console = PlainConsole()
    try:
        for task in [task for task in TASKS if task in metrics]:
            _show_task(console, metrics_path, task, metrics[task])
    except (AttributeError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{metrics_path}: expected what the report stage writes ({error}): run `dvc repro --force report`"
        ) from None
    console.print(f"All of it: {metrics_path.with_name('report.html')}")


def _show_task(console: PlainConsole, metrics_path: Path, task: Task, entries: Metrics) -> None:
    console.print(_table(task, entries))
    if any(UNSTABLE in values for _, _, values in _rows(entries, main_score(task))):
        console.print("? The latency was not steady: measure again before you compare it.")
    if any("gain" not in entry for name, entry in entries.items() if name != "teacher"):
        console.print("Control switched off (control.enabled in params.yaml): the gain is unknown.\n")
    else:
        console.print(f"One seed each: {noise_text(_noise(metrics_path, task), task)}.\n")


def _noise(metrics_path: Path, task: Task) -> float | None:
    """Read the noise of one seed from the summary beside the metrics; None where it is not known."""
    try:
        noise = json.loads(metrics_path.with_name("summary.json").read_text())[task]["noise"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return None if noise is None else float(noise)


SECOND: Final[dict[Task, str]] = {"detect": "map50", "segment": "pixel_accuracy"}  # score beside the main one
Columns = dict[str, tuple[str, str]]  # heading -> metric and its format


def _columns(task: Task) -> Columns:
    return {
        "params M": ("params_m", ".2f"),
        "size MB": ("size_mb", ".2f"),
        main_title(task): (main_score(task), ".3f"),
        SCORES[task][SECOND[task]]: (SECOND[task], ".3f"),
        "gain": ("gain", "+.3f"),
        "p50 ms": ("p50_ms", ".3g"),
        "p90 ms": ("p90_ms", ".3g"),
    }


def _table(task: Task, entries: Metrics) -> Table:
    table = Table(title=f"{task}, test split, batch 1", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("model", overflow="fold")  # the one to break where 80 columns are too few
    table.add_column("runtime", no_wrap=True)
    columns = _columns(task)
    for heading in columns:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    before = ""
    for name, runtime, values in _rows(entries, main_score(task)):
        cells = [_cell(values, metric, form) for metric, form in columns.values()]
        mark = " (rejected for this device)" if "rejected" in values else ""
        table.add_row(name if name != before else "", runtime + mark, *cells)
        before = name
    return table


def _cell(values: dict[str, float], metric: str, form: str) -> str:
    if metric not in values:
        return ""
    return format(values[metric], form) + ("?" if metric == "p50_ms" and UNSTABLE in values else "")


def _rows(entries: Metrics, score: str) -> Iterator[tuple[str, str, dict[str, float]]]:
    for name, entry in entries.items():
        if name == "teacher":
            yield from ((name, runtime, values) for runtime, values in entry.items())
            continue
        gain = entry.get("gain", {}).get(score)
        for role in ("control", "distilled"):
            for runtime, values in entry.get(role, {}).items():
                is_gained = role == "distilled" and runtime == "torch" and gain is not None
                yield f"{name} {role}", runtime, values | ({"gain": gain} if is_gained else {})


def _publish(made: Path, out: Path) -> None:
    """Move what is finished into place; a folder that stands there goes first, for it cannot be replaced."""
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTS:
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        (made / name).replace(out / name)
    shutil.rmtree(made)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
