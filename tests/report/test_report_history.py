"""Earlier commits are read through git, and compared only under equal conditions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.history import comparable, points, read_head, read_history, same_device
from pipeline.report.metrics import build_summary
from tests.report.conftest import DETECT, SEGMENT

Commit = Callable[[str], str]

HERE = {"fingerprint": "cpu-a", "threads": 2, "batch_size": 1}
OLD = {  # as reports/ was committed when detection was the only task
    "metrics.json": json.dumps(
        {
            "detect": {
                "teacher": {"torch": {"map50_95": 0.7137, "map50": 0.8876, "size_mb": 3.741, "p50_ms": 6.8}},
                "nano": {
                    "control": {"torch": {"map50_95": 0.3057, "size_mb": 0.4512}},
                    "distilled": {"torch": {"map50_95": 0.3591, "size_mb": 0.4512, "p50_ms": 3.07}},
                    "gain": {"map50_95": 0.0534},
                },
            }
        }
    ),
    "summary.json": json.dumps(
        {
            "detect": {
                "dataset": "5e7d1c0a9b42",
                "split": "test",
                "images": 200,
                "device": {"teacher": HERE, "nano": HERE},
            }
        }
    ),
}


def test_history__comparable_only_with_an_equal_fingerprint(make_run: Callable[..., Any], commit: Commit) -> None:
    make_run(fingerprint="cpu-a", level=0.55).write_numbers()
    same = commit("On this machine")
    make_run(fingerprint="cpu-b", level=0.58).write_numbers()
    other = commit("On another machine")
    run = make_run(fingerprint="cpu-a", level=0.6)
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
    assert older[0].score == 0.55


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
    assert history.note == "No earlier commit has a report of this test set."


@pytest.mark.parametrize(("limit", "subjects"), [(0, []), (1, ["2"]), (9, ["2", "1", "0"])])
def test_history__at_most_limit_commits(
    make_run: Callable[..., Any], commit: Commit, limit: int, subjects: list[str]
) -> None:
    for number in range(3):
        make_run(level=0.5 + number / 100).write_numbers()
        commit(str(number))
    run = make_run()
    summary = build_summary(run.read())
    assert [s.subject for s in read_history(run.out, limit, {}, summary).snapshots] == subjects


def test_history__unreadable_report_is_left_out_and_named(make_run: Callable[..., Any], commit: Commit) -> None:
    run = make_run()
    metrics, summary = run.write_numbers()
    (run.out / "metrics.json").write_text("<<<<<<< merge")
    broken = commit("Broken")
    history = read_history(run.out, 10, metrics, summary)
    assert history.snapshots == []
    assert history.note is not None
    assert history.note.endswith(f"Left out, no readable report: {broken}.")


def test_history__commits_of_other_data_are_counted_and_left_out(make_run: Callable[..., Any], commit: Commit) -> None:
    run = make_run()
    metrics, summary = run.write_numbers()
    theirs = {"detect": summary["detect"] | {"dataset": "theirs"}}
    for number in range(2):
        (run.out / "metrics.json").write_text(json.dumps({"detect": {"number": number}}))
        (run.out / "summary.json").write_text(json.dumps(theirs))
        commit("Somebody else's data")
    history = read_history(run.out, 10, metrics, summary)
    assert history.snapshots == []
    assert str(history.note).endswith("Left out, another test set: 2 commits.")


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
    assert control.score < distilled.score


def test_points__main_score_of_each_task(make_run: Callable[..., Any]) -> None:
    metrics, summary = make_run(tasks=DETECT | SEGMENT).write_numbers()
    assert metrics["segment"]["teacher"]["torch"]["miou"] == points(metrics, summary, "segment")[0].score
    assert {point.model for point in points(metrics, summary, "segment")} == {"teacher", "nano-sem"}
    assert {point.model for point in points(metrics, summary, "detect")} == {"teacher", "nano"}


def test_history__commits_from_before_there_was_another_task_still_compare(
    make_run: Callable[..., Any], commit: Commit
) -> None:
    run = make_run(level=0.55)
    run.out.mkdir()
    for name, text in OLD.items():
        (run.out / name).write_text(text)
    commit("Detection only")
    now, conditions = make_run(tasks=DETECT | SEGMENT).write_numbers()
    (old,) = read_history(run.out, 10, now, conditions).snapshots
    assert old.points("segment") == []
    then = old.points("detect")
    assert [point.key for point in then] == [
        ("teacher", "teacher", "torch"),
        ("nano", "control", "torch"),
        ("nano", "distilled", "torch"),
    ]
    assert all(comparable(point, points(now, conditions, "detect")) for point in then)
