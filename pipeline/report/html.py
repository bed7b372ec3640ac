"""One self-contained HTML page: tables out of records, pictures inside, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruamel.yaml import YAML

from pipeline.data.prepared import SPLITS, PreparedDataset
from pipeline.params import Params
from pipeline.records import DeviceInfo
from pipeline.report.history import Commit, History, points, same_device
from pipeline.report.metrics import (
    NOISE_AP,
    Model,
    Student,
    TaskResults,
    build_metrics,
    build_summary,
    same_conditions,
)

Row = dict[str, Any]
DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Picture:
    """A PNG file with its heading and what it shows."""

    title: str
    caption: str
    path: Path


def render_html(
    results: TaskResults,
    dataset: PreparedDataset,
    params: Params,
    *,
    pictures: Sequence[Picture],
    history: History,
    commit: Commit | None,
) -> str:
    """Render the whole report; equal inputs give equal text."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"ap": _ap, "signed": _signed, "short": _short, "percent": _percent, "times": _times}
    return environment.get_template("template.html.j2").render(
        task=results.task,
        dash=DASH,
        commit=commit,
        noise=NOISE_AP,
        cards=[_card(student, results.teacher) for student in results.students],
        skipped=_skipped(results),
        models=[row for model in results.models() for row in _model_rows(model, results)],
        pictures=[(picture, _data_uri(picture.path)) for picture in pictures],
        latency=[(m, m.latency, timing) for m in results.models() if m.latency for timing in m.latency.runtimes],
        per_class=_per_class(results, dataset),
        parity=[(model, parity) for model in results.models() for parity in model.parity],
        builds=[(model, build) for model in results.models() if model.engine for build in model.engine.builds],
        devices=_devices(results),
        history=_history_rows(results, history),
        history_note=history.note,
        dataset=dataset.info,
        splits=[(split, dataset.info.splits[split]) for split in SPLITS if split in dataset.info.splits],
        calibration=len(dataset.calibration_images),
        tested=results.teacher.accuracy["torch"],
        params_yaml=params_yaml(params),
    )


def params_yaml(params: Params) -> str:
    """Write the parameters that were used as YAML."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(params.model_dump(mode="json"), stream)
    return stream.getvalue()


def _skipped(results: TaskResults) -> dict[str, list[str]]:
    """List the students without a control under the reason."""
    found: dict[str, list[str]] = {}
    for student in results.students:
        if student.control_skipped is not None:
            found.setdefault(student.control_skipped, []).append(student.name)
    return found


def _card(student: Student, teacher: Model) -> Row:
    """Sum up a student in the runtime one would ship: the fastest whose accuracy was measured."""
    distilled, large = student.distilled, teacher.accuracy["torch"]
    timed = {name: timing.total.p50_ms for name, timing in distilled.timings.items() if name in distilled.accuracy}
    runtime = min(timed, key=lambda name: timed[name]) if timed else "torch"
    small = distilled.accuracy[runtime]
    return {
        "name": student.name,
        "architecture": small.model.architecture,
        "image_size_px": small.model.image_size_px,
        "runtime": runtime,
        "map50_95": small.map50_95,
        "kept": small.map50_95 / large.map50_95 if large.map50_95 else None,
        "teacher_map50_95": large.map50_95,
        "gain": student.gain,
        "verdict": _verdict(student),
        "size_mb": small.size_mb,
        "smaller": large.size_mb / small.size_mb,
        "p50_ms": timed.get(runtime),
        "speedup": _speedup(distilled, runtime, teacher),
    }


def _verdict(student: Student) -> str:
    gain = student.gain
    if gain is None:
        return "control switched off: gain unknown"
    if abs(gain) < NOISE_AP:
        return f"within the noise of one seed (±{NOISE_AP})"
    return f"{'beyond' if gain > 0 else 'worse than the control, beyond'} the noise of one seed (±{NOISE_AP})"


def _model_rows(model: Model, results: TaskResults) -> list[Row]:
    gains = {student.name: student.gain for student in results.students if model.role == "distilled"}
    rows: list[Row] = []
    for runtime in model.runtimes:
        timing = model.timings.get(runtime)
        rows.append(
            {
                "model": model,
                "runtime": runtime,
                "accuracy": model.accuracy.get(runtime),
                "gain": gains.get(model.name) if runtime == "torch" else None,
                "p50_ms": timing.total.p50_ms if timing else None,
                "p99_ms": timing.total.p99_ms if timing else None,
                "speedup": _speedup(model, runtime, results.teacher),
            }
        )
    return rows


def _speedup(model: Model, runtime: str, teacher: Model) -> float | None:
    """Divide the teacher's median in torch by this one; None where conditions differ or one is missing."""
    ours, theirs = model.timings.get(runtime), teacher.timings.get("torch")
    if ours is None or theirs is None or not same_conditions(model.latency, teacher.latency):
        return None
    return theirs.total.p50_ms / ours.total.p50_ms


def _per_class(results: TaskResults, dataset: PreparedDataset) -> Row:
    """Give AP per class and model in torch, and how many objects each split has: few objects, shaky AP."""
    models = list(results.models())
    objects = {split: _objects(dataset, split) for split in dataset.info.splits}
    rows = [
        {
            "name": name,
            "objects": [objects[split][index] for split in SPLITS if split in objects],
            "ap": [model.accuracy["torch"].per_class.get(name) for model in models],
        }
        for index, name in enumerate(dataset.info.classes)
    ]
    return {"models": models, "splits": [split for split in SPLITS if split in objects], "rows": rows}


def _objects(dataset: PreparedDataset, split: Any) -> Counter[int]:
    counts: Counter[int] = Counter()
    for image in dataset.images(split):
        counts.update(dataset.boxes(image)[0].tolist())
    return counts


def _devices(results: TaskResults) -> list[tuple[DeviceInfo, list[str]]]:
    """List each device once, with what was measured or built on it."""
    found: dict[str, tuple[DeviceInfo, list[str]]] = {}
    for model in results.models():
        for what, record in (("latency", model.latency), ("engines", model.engine)):
            if record is not None:
                found.setdefault(record.device.fingerprint, (record.device, []))[1].append(f"{what} of {model.name}")
    return list(found.values())


def _history_rows(results: TaskResults, history: History) -> list[Row]:
    """List this commit and earlier ones, one row per student, and say what can be compared with this commit's."""
    metrics, summary = build_metrics(results), build_summary(results)
    now = points(metrics, summary, results.task)
    dataset = summary[results.task]["dataset"]
    versions = [("this report", "", "", metrics, summary)]
    versions += [(s.commit, s.date, s.subject, s.metrics, s.summary) for s in history.snapshots]
    rows: list[Row] = []
    for name, date, subject, numbers, conditions in versions:
        entries = numbers.get(results.task, {})
        found = points(numbers, conditions, results.task)
        same_data = conditions.get(results.task, {}).get("dataset") == dataset
        for student, entry in entries.items():
            if student != "teacher":
                mine = [point for point in found if point.model == student and point.role == "distilled"]
                rows.append(
                    {
                        "commit": name,
                        "date": date,
                        "subject": subject,
                        "student": student,
                        "teacher": _torch_ap(entries.get("teacher")),
                        "control": _torch_ap(entry.get("control")),
                        "distilled": _torch_ap(entry.get("distilled")),
                        "gain": entry.get("gain", {}).get("map50_95"),
                        "latency": ", ".join(f"{point.runtime} {_short(point.p50_ms)}" for point in mine),
                        "comparable_accuracy": same_data,
                        "comparable_latency": bool(mine) and all(same_device(point, now) for point in mine),
                    }
                )
    return rows


def _torch_ap(entry: dict[str, Any] | None) -> float | None:
    return (entry or {}).get("torch", {}).get("map50_95")


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _ap(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.3f}".replace("-", MINUS)


def _short(value: float | None) -> str:
    """Write 3 significant digits without an exponent."""
    if value is None:
        return DASH
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.0f} %"


def _times(value: float | None) -> str:
    return DASH if value is None else f"{_short(value)}{TIMES}"
