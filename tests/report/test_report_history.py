"""Earlier commits are read through git, and compared only under equal conditions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.history import comparable, points, read_head, read_history, same_device

Commit = Callable[[str], str]


def test_history__comparable_only_with_an_equal_fingerprint(make_run: Callable[..., Any], commit: Commit) -> None:
    make_run(fingerprint="cpu-a", ap=0.55).write_numbers()
    same = commit("On this machine")
    make_run(fingerprint="cpu-b", ap=0.58).write_numbers()
    other = commit("On another machine")
    run = make_run(fingerprint="cpu-a", ap=0.6)
    metrics, summary = run.write_numbers()

    history = read_history(run.out, 10, metrics, summary)
    assert [(s.commit, s.subject) for s in history.snapshots] == [
        (other, "On another machine"),
        (same, "On this machine"),
    ]
    now = points(metrics, summary, "detect")
    assert len(now) == 4  # teacher, control, distilled, its ONNX
    newer, older = (snapshot.points("detect") for snapshot in history.snapshots)
    assert not any(comparable(point, now) or same_device(point, now) for point in newer)
    assert all(comparable(point, now) for point in older)
    assert older[0].map50_95 == 0.55


def test_history__another_test_set_is_not_comparable(make_run: Callable[..., Any]) -> None:
    metrics, summary = make_run().write_numbers()
    changed = {"detect": summary["detect"] | {"dataset": "another"}}
    now, then = points(metrics, summary, "detect"), points(metrics, changed, "detect")
    assert all(same_device(point, now) and not comparable(point, now) for point in then)


def test_history__the_commit_of_these_numbers_is_not_an_earlier_one(
    make_run: Callable[..., Any], commit: Commit
) -> None:
    run = make_run()
    metrics, summary = run.write_numbers()
    commit("These numbers")
    history = read_history(run.out, 10, metrics, summary)
    assert history.snapshots == []
    assert history.note == "No earlier commit has a report."


@pytest.mark.parametrize(("limit", "subjects"), [(0, []), (1, ["2"]), (9, ["2", "1", "0"])])
def test_history__at_most_limit_commits(
    make_run: Callable[..., Any], commit: Commit, limit: int, subjects: list[str]
) -> None:
    for number in range(3):
        make_run(ap=0.5 + number / 100).write_numbers()
        commit(str(number))
    run = make_run()
    assert [s.subject for s in read_history(run.out, limit, {}, {}).snapshots] == subjects


def test_history__unreadable_report_is_left_out_and_named(make_run: Callable[..., Any], commit: Commit) -> None:
    run = make_run()
    metrics, summary = run.write_numbers()
    (run.out / "metrics.json").write_text("<<<<<<< merge")
    broken = commit("Broken")
    history = read_history(run.out, 10, metrics, summary)
    assert history.snapshots == []
    assert history.note == f"Left out, no readable report: {broken}."


def test_history__empty_outside_git(tmp_path: Path) -> None:
    history = read_history(tmp_path / "reports", 10, {}, {})
    assert history.snapshots == []
    assert history.note is not None
    assert "not a git repository" in history.note
    assert read_head(tmp_path / "reports") is None


def test_head__dirty_by_parameters_not_by_what_a_run_writes(make_run: Callable[..., Any], commit: Commit) -> None:
    run = make_run()
    short = commit("First")
    run.write_numbers()
    head = read_head(run.out)
    assert head is not None
    assert (head.commit, head.subject, head.dirty) == (short, "First", False)
    (run.out.parent / "params.yaml").touch()
    changed = read_head(run.out)
    assert changed is not None
    assert changed.dirty


def test_points__control_stands_at_the_students_latency(make_run: Callable[..., Any]) -> None:
    metrics, summary = make_run().write_numbers()
    found = {point.key: point for point in points(metrics, summary, "detect")}
    control, distilled = found["nano", "control", "torch"], found["nano", "distilled", "torch"]
    assert control.p50_ms == distilled.p50_ms
    assert control.map50_95 < distilled.map50_95
