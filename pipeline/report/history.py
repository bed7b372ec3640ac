"""Earlier commits' metrics, read through git, and the points that latency-against-accuracy plots are made of."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pipeline.evaluation.latency_comparison import same_setting
from pipeline.records import Role
from pipeline.report.metrics import UNSTABLE, Metrics, Summary
from pipeline.tasks import Task, main_score

ROLES: tuple[Role, ...] = ("control", "distilled")
FIELD = "\x1f"  # cannot stand in a commit's subject


@dataclass(frozen=True)
class Point:
    """One model in one runtime: main score 0 to 1, median milliseconds, and the conditions of both."""

    model: str
    role: Role
    runtime: str
    score: float
    p50_ms: float
    device: Mapping[str, Any]
    dataset: str
    unstable: bool = False  # the median was not steady

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two commits' points the same thing measured twice."""
        return self.model, self.role, self.runtime


@dataclass(frozen=True)
class Snapshot:
    """What one commit measured."""

    commit: str
    date: str
    subject: str
    metrics: Metrics
    summary: Summary

    def points(self, task: Task) -> list[Point]:
        """List the points of a task."""
        return points(self.metrics, self.summary, task)


@dataclass(frozen=True)
class History:
    """Earlier commits, newest first; `note` says why there are none, or which could not be read."""

    snapshots: list[Snapshot] = field(default_factory=list)
    note: str | None = None


@dataclass(frozen=True)
class Commit:
    """The commit that is checked out, and whether files differ from it."""

    commit: str
    date: str
    subject: str
    dirty: bool


def points(metrics: Metrics, summary: Summary, task: Task) -> list[Point]:
    """Turn metrics into points; a model without accuracy or latency gives none.

    The control is not benchmarked: it is the distilled student's architecture, so it stands at that latency.
    """
    found: list[Point] = []
    main = main_score(task)
    numbers, conditions = metrics.get(task, {}), summary.get(task, {})
    for name, entry in numbers.items():
        roles: dict[Role, Any] = {"teacher": entry} if name == "teacher" else {r: entry[r] for r in ROLES if r in entry}
        device = conditions.get("device", {}).get(name, {})
        for role, runtimes in roles.items():
            for runtime, values in runtimes.items():
                timed = entry.get("distilled", {}).get(runtime, {}) if role == "control" else values
                if main in values and "p50_ms" in timed:
                    dataset = str(conditions.get("dataset"))
                    median, unstable = timed["p50_ms"], UNSTABLE in timed
                    found.append(Point(name, role, runtime, values[main], median, device, dataset, unstable))
    return found


def same_device(point: Point, now: Sequence[Point]) -> bool:
    """Tell whether an earlier latency was taken as this commit's: same fingerprint, threads and batch size."""
    return any(same_setting(point.device, other.device) for other in _counterparts(point, now))


def comparable(point: Point, now: Sequence[Point]) -> bool:
    """Tell whether an earlier point may stand beside this commit's: same device, and the same test images."""
    counterparts = [other for other in _counterparts(point, now) if other.dataset == point.dataset]
    return any(same_setting(point.device, other.device) for other in counterparts)


def read_history(reports: Path, limit: int, metrics: Metrics, summary: Summary) -> History:
    """Read `metrics.json` and `summary.json` of the last `limit` commits that changed the metrics.

    A newest commit that holds exactly the current metrics and summary is this report, not an earlier one. Commits that
    measured none of the current test sets, such as those of another project's data, are counted in the note alone.
    Outside a git checkout, or before the first commit of a report, the history is empty and its note says why.
    """
    root, name = reports.resolve().parent, reports.name
    form = FIELD.join(["%H", "%h", "%cs", "%s"])
    try:
        log = _git(root, "log", f"--max-count={limit + 1}", f"--format={form}", "--", f"{name}/metrics.json")
    except GitError as error:
        return History(note=f"No earlier commits: {error}.")
    snapshots, unread = [], []
    for line in log.splitlines():
        full, commit, date, subject = line.split(FIELD)
        try:
            then = [_json_at(root, full, f"{name}/{file}.json") for file in ("metrics", "summary")]
        except (GitError, ValueError):
            unread.append(commit)
            continue
        snapshots.append(Snapshot(commit, date, subject, then[0], then[1]))
    if snapshots and (snapshots[0].metrics, snapshots[0].summary) == (metrics, summary):
        snapshots = snapshots[1:]
    same_data = [snapshot for snapshot in snapshots if _share_a_test_set(snapshot.summary, summary)]
    return History(same_data[:limit], _note(same_data, len(snapshots) - len(same_data), unread))


def _share_a_test_set(then: Summary, now: Summary) -> bool:
    return any(task in then and then[task].get("dataset") == now[task]["dataset"] for task in now)


def _note(kept: Sequence[Snapshot], others: int, unread: Sequence[str]) -> str | None:
    parts = [] if kept else ["No earlier commit has a report of this test set."]
    if others:
        parts.append(f"Left out, another test set: {others} commit{'' if others == 1 else 's'}.")
    if unread:
        parts.append(f"Left out, no readable report: {', '.join(unread)}.")
    return " ".join(parts) or None


def read_head(reports: Path) -> Commit | None:
    """Read which commit is checked out; None outside a git checkout or before the first commit.

    What a run itself writes (records, reports, dvc.lock) does not make it dirty: code, parameters and data do.
    """
    root = reports.resolve().parent
    written = [f":(exclude){name}" for name in ("results", reports.name, "dvc.lock")]
    try:
        line = _git(root, "log", "--max-count=1", f"--format={FIELD.join(['%h', '%cs', '%s'])}")
        dirty = bool(_git(root, "status", "--porcelain", "--", ".", *written).strip())
    except GitError:
        return None
    commit, date, subject = line.rstrip("\n").split(FIELD)
    return Commit(commit, date, subject, dirty)


class GitError(Exception):
    """Git is missing, or refused; the message is its last line."""


def _counterparts(point: Point, now: Sequence[Point]) -> Sequence[Point]:
    """Find the same model and runtime now; where it is gone, whatever is measured now."""
    return [other for other in now if other.key == point.key] or now


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitError("git did not answer within 60 s") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "git failed").strip().splitlines()
        raise GitError(lines[0].removeprefix("fatal: ").rstrip(".")) from None
    return done.stdout


def _json_at(root: Path, commit: str, path: str) -> dict[str, Any]:
    value = json.loads(_git(root, "show", f"{commit}:./{path}"))
    if not isinstance(value, dict):
        raise ValueError(f"{path} at {commit} is not an object")
    return cast("dict[str, Any]", value)
