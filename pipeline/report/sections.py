"""One task's records as the rows of the page's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from pipeline.data.prepared import SPLITS, PreparedDataset, Split
from pipeline.evaluation.conditions import doubts_of
from pipeline.evaluation.latency_comparison import same_setting, setting_of
from pipeline.records import DeviceInfo
from pipeline.report.detection import detailed
from pipeline.report.history import History, Point, points, same_device
from pipeline.report.metrics import build_metrics, build_summary, noise_text
from pipeline.report.results import Model, Student, TaskResults
from pipeline.report.robustness import at_severity, measured, severities
from pipeline.tasks import Task, main_score, main_title
from pipeline.teacher_doubts import architecture_doubt, score_doubt

Row = dict[str, Any]

COUNTED_MASKS = 200  # per split: enough for the shares of the classes, and soon read


def card(student: Student, results: TaskResults) -> Row:
    """Sum up a student in the runtime one would ship: the fastest whose accuracy was measured."""
    distilled, large = student.distilled, results.teacher.accuracy["torch"]
    timed = {name: timing for name, timing in distilled.timings.items() if name in distilled.accuracy}
    steady = {name: timing for name, timing in timed.items() if not doubts_of(timing)} or timed
    runtime = min(steady, key=lambda name: steady[name].total.p50_ms) if steady else "torch"
    small = distilled.accuracy[runtime]
    return {
        "name": student.name,
        "architecture": small.model.architecture,
        "image_size_px": small.model.image_size_px,
        "runtime": runtime,
        "score": small.main,
        "kept": small.main / large.main if large.main else None,
        "teacher_score": large.main,
        "gain": student.gain,
        "verdict": _verdict(student.gain, results.noise),
        "size_mb": small.size_mb,
        "smaller": large.size_mb / small.size_mb,
        "p50_ms": timed[runtime].total.p50_ms if runtime in timed else None,
        "unstable": bool(runtime in timed and doubts_of(timed[runtime])),
        "speedup": _speedup(distilled, runtime, results.teacher),
        "speedup_in_torch": _speedup(distilled, "torch", results.teacher),
    }


def _verdict(gain: float | None, noise: float | None) -> str:
    if gain is None:
        return "control switched off: gain unknown"
    if noise is None:
        return "one seed: not a finding"
    if abs(gain) < noise:
        return f"within the noise of one seed (±{noise})"
    return f"{'beyond' if gain > 0 else 'worse than the control, beyond'} the noise of one seed (±{noise})"


def model_rows(results: TaskResults) -> list[Row]:
    """List every model in each of its runtimes."""
    gains = {student.distilled.label: student.gain for student in results.students}
    rows: list[Row] = []
    for model in results.models():
        for runtime in model.runtimes:
            timing = model.timings.get(runtime)
            rows.append(
                {
                    "model": model,
                    "runtime": runtime,
                    "accuracy": model.accuracy.get(runtime),
                    "gain": gains.get(model.label) if runtime == "torch" else None,
                    "p50_ms": timing.total.p50_ms if timing else None,
                    "p90_ms": timing.total.p90_ms if timing else None,
                    "unstable": bool(timing and doubts_of(timing)),
                    "speedup": _speedup(model, runtime, results.teacher),
                }
            )
    return rows


def _speedup(model: Model, runtime: str, teacher: Model) -> float | None:
    """Divide the teacher's median in torch by this one; None where conditions differ, or one is missing or unsteady."""
    ours, theirs = model.timings.get(runtime), teacher.timings.get("torch")
    if ours is None or theirs is None or model.latency is None or teacher.latency is None:
        return None
    if doubts_of(ours) or doubts_of(theirs) or not ours.total.p50_ms:
        return None
    if not same_setting(setting_of(model.latency), setting_of(teacher.latency)):
        return None
    return theirs.total.p50_ms / ours.total.p50_ms


def per_class(results: TaskResults, dataset: PreparedDataset) -> Row:
    """Give each class's score per model in torch, and how much of it each split has: little of it, shaky score."""
    models, details_of = list(results.models()), detailed(results)
    amount, amounts_of = AMOUNTS[results.task]
    splits = [split for split in SPLITS if split in dataset.info.splits]
    amounts = {split: amounts_of(dataset, split) for split in splits}
    rows = [
        {
            "name": name,
            "amounts": [amounts[split][index] for split in splits],
            "scores": [model.accuracy["torch"].per_class.get(name) for model in models],
            "points": [details.operating_points.get(name) for _, details in details_of],
        }
        for index, name in enumerate(dataset.task_classes(results.task))
    ]
    return {
        "models": models,
        "details": details_of,
        "splits": splits,
        "amount": amount,
        "title": CLASS_TITLES[results.task],
        "rows": rows,
    }


def _objects(dataset: PreparedDataset, split: Split) -> list[str]:
    counts: Counter[int] = Counter()
    for image in dataset.images(split):
        counts.update(dataset.boxes(image)[0].tolist())
    return [str(counts[index]) for index in range(len(dataset.info.classes))]


def _pixels(dataset: PreparedDataset, split: Split) -> list[str]:
    """Share the labelled pixels of a split's first masks among the classes."""
    classes = len(dataset.info.mask_classes)
    counts = np.zeros(classes, dtype=np.int64)
    for image in dataset.images(split)[:COUNTED_MASKS]:
        counts += np.bincount(dataset.mask(image).ravel(), minlength=256)[:classes]
    return [f"{100 * share:.1f} %" for share in counts / max(counts.sum(), 1)]


CLASS_TITLES: Final[dict[Task, str]] = {"detect": "AP50-95", "segment": "IoU"}
AMOUNTS: Final[dict[Task, tuple[str, Callable[[PreparedDataset, Split], list[str]]]]] = {
    "detect": ("Objects", _objects),
    "segment": ("Pixels", _pixels),
}


def robustness(results: TaskResults) -> Row:
    """List clean and corrupted scores per model and runtime, or why there are none."""
    models = [(model, record) for model in results.models() for record in model.robustness.values()]
    levels = severities(record for _, record in measured(results))
    rows = [
        {"model": model, "record": record, "scores": [at_severity(record, level) for level in levels]}
        for model, record in models
    ]
    return {"levels": levels, "rows": rows, "reason": results.teacher.robustness_skipped}


def devices(found: Sequence[TaskResults]) -> list[tuple[DeviceInfo, list[str]]]:
    """List each device once, with what was measured or built on it."""
    listed: dict[str, tuple[DeviceInfo, list[str]]] = {}
    for results in found:
        for model in results.models():
            for what, record in (("latency", model.latency), ("engines", model.engine)):
                if record is not None:
                    used = listed.setdefault(record.device.fingerprint, (record.device, []))[1]
                    used.append(f"{what} of {results.task} {model.name}")
    return list(listed.values())


def history_rows(results: TaskResults, history: History) -> list[Row]:
    """List this commit and earlier ones, one row per student, and say what can be compared with this commit's."""
    task, metrics, summary = results.task, build_metrics([results]), build_summary([results])
    now = points(metrics, summary, task)
    versions = [("this report", "", "", metrics, summary)]
    versions += [(s.commit, s.date, s.subject, s.metrics, s.summary) for s in history.snapshots]
    rows: list[Row] = []
    for name, date, subject, numbers, conditions in versions:
        entries = numbers.get(task, {})
        found = points(numbers, conditions, task)
        for student, entry in entries.items():
            if student != "teacher":
                mine = [point for point in found if point.model == student and point.role == "distilled"]
                rows.append(
                    {
                        "commit": name,
                        "date": date,
                        "subject": subject,
                        "student": student,
                        "teacher": _in_torch(entries.get("teacher"), task),
                        "control": _in_torch(entry.get("control"), task),
                        "distilled": _in_torch(entry.get("distilled"), task),
                        "gain": entry.get("gain", {}).get(main_score(task)),
                        "latency": [(_named(point), point.p50_ms) for point in mine],
                        "comparable_accuracy": conditions.get(task, {}).get("dataset") == summary[task]["dataset"],
                        "comparable_latency": bool(mine) and all(same_device(point, now) for point in mine),
                    }
                )
    return rows


def _named(point: Point) -> str:
    return f"{point.runtime} (unstable)" if point.unstable else point.runtime


def _in_torch(entry: dict[str, Any] | None, task: Task) -> float | None:
    return (entry or {}).get("torch", {}).get(main_score(task))


def section(results: TaskResults, dataset: PreparedDataset, history: History) -> Row:
    """Gather all that the page says of one task."""
    models = list(results.models())
    return {
        "task": results.task,
        "title": TITLES[results.task],
        "main": main_title(results.task),
        "noise": noise_text(results.noise, results.task),
        "tested": results.teacher.accuracy["torch"],
        "cards": [card(student, results) for student in results.students],
        "skipped": _skipped(results),
        "doubts": _doubts(results),
        "models": model_rows(results),
        "answer": ANSWERS[results.task],
        "per_class": per_class(results, dataset),
        "robustness": robustness(results),
        "agreement": AGREEMENT[results.task],
        "parity": [(model, parity) for model in models for parity in model.parity],
        "builds": [(model, build) for model in models if model.engine for build in model.engine.builds],
        "elsewhere": _elsewhere(results),
        "history": history_rows(results, history),
    }


TITLES: Final[dict[Task, str]] = {"detect": "Detection", "segment": "Semantic segmentation"}
ANSWERS: Final[dict[Task, str]] = {"detect": "boxes", "segment": "the class map"}  # where latency ends
AGREEMENT: Final[dict[Task, str]] = {"detect": "Boxes matched", "segment": "Pixels equal"}


def _elsewhere(results: TaskResults) -> list[Row]:
    """List what bundles measured on devices, and whether it was this checkpoint."""
    digests = {student.name: student.distilled.accuracy["torch"].model.digest for student in results.students}
    return [
        {
            "record": record,
            "timing": timing,
            "doubts": doubts_of(timing),
            "current": record.checkpoint_digest == digests[record.student],
        }
        for record in results.elsewhere
        for timing in record.timings
    ]


def _skipped(results: TaskResults) -> dict[str, list[str]]:
    """List the students without a control under the reason."""
    found: dict[str, list[str]] = {}
    for student in results.students:
        if student.control_skipped is not None:
            found.setdefault(student.control_skipped, []).append(student.name)
    return found


def _doubts(results: TaskResults) -> list[str]:
    """Say, per student, why its teacher has little to teach it, if so."""
    teacher = results.teacher.accuracy["torch"]
    doubts = []
    for student in results.students:
        distilled = student.distilled.accuracy["torch"]
        trained = {} if student.control is None else {"the control's": student.control.accuracy["torch"].main}
        trained["the distilled student's"] = distilled.main
        found = (
            architecture_doubt(teacher.model.architecture, distilled.model.architecture),
            score_doubt(results.task, teacher.main, trained),
        )
        doubts += [f"{student.name}: {doubt}" for doubt in found if doubt]
    return doubts
