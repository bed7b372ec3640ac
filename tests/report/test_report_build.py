"""A report is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.report.build import OUTS, show
from pipeline.tasks import Task
from tests.report.conftest import DETECT, SEGMENT

PICTURES = {"accuracy_latency", "predictions", "masks", "robustness", "training_curves", "prompt_curve"}
DETECTION = {"precision_recall", "confusions"}


def pictures_of(task: Task) -> set[str]:
    return {f"{task}-{name}" for name in PICTURES | (DETECTION if task == "detect" else set())}


def test_build__every_out_and_nothing_else(built: Any) -> None:
    assert {path.name for path in built.out.iterdir()} == set(OUTS)
    assert list((built.out.parent / "scratch").iterdir()) == []
    metrics = json.loads((built.out / "metrics.json").read_text())
    assert metrics["detect"]["pico"]["gain"]["map50_95"] == metrics["segment"]["nano-sem"]["gain"]["miou"] == 0.053
    plots = list((built.out / "plots").iterdir())
    assert {path.stem for path in plots} == pictures_of("detect") | pictures_of("segment")
    for path in plots:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize(("tasks", "corrupted"), [(DETECT, "absent"), (SEGMENT, "skipped"), (SEGMENT, "measured")])
def test_build__only_the_tasks_that_have_a_student(
    make_run: Callable[..., Any], tasks: dict[Task, tuple[str, ...]], corrupted: str
) -> None:
    run = make_run(tasks=tasks, corrupted=corrupted)
    run.build()
    (task,) = tasks
    expected = pictures_of(task) - ({f"{task}-robustness"} if corrupted != "measured" else set())
    assert {path.stem for path in (run.out / "plots").iterdir()} == expected
    assert list(json.loads((run.out / "metrics.json").read_text())) == [task]


def test_build__without_prompts_and_with_a_teacher_that_was_not_trained_here(make_run: Callable[..., Any]) -> None:
    run = make_run(tasks=DETECT)
    histories = run.results / "detect/teacher"
    (histories / "prompt_history.csv").write_text("iteration,task_loss,overlap\n")
    (histories / "history.csv").write_text("epoch,val/score,val/map50\n0,0.4,0.5\n")
    run.drawings["detect"] = replace(run.drawings["detect"], masks=[])
    run.build()
    drawn = {path.stem for path in (run.out / "plots").iterdir()}
    assert drawn == {f"detect-{name}" for name in (PICTURES | DETECTION) - {"masks", "prompt_curve"}}


def test_build__equal_records_give_equal_bytes(make_run: Callable[..., Any]) -> None:
    run = make_run()

    def written() -> dict[str, bytes]:
        run.build()
        return {str(path.relative_to(run.out)): path.read_bytes() for path in run.out.rglob("*") if path.is_file()}

    assert written() == written()


def test_build__failure_leaves_the_old_report(make_run: Callable[..., Any]) -> None:
    run = make_run(tasks=DETECT | SEGMENT)
    (run.out / "plots").mkdir(parents=True)
    (run.out / "plots/old.png").write_text("old")
    (run.out / "report.html").write_text("old")
    (run.out / ".gitignore").write_text("/report.html\n")
    (run.results / "segment/nano-sem/distilled/history.csv").unlink()
    with pytest.raises(PipelineError, match=r"nano-sem/distilled/history\.csv not found"):
        run.build()
    assert {path.name for path in run.out.rglob("*")} == {"report.html", ".gitignore", "plots", "old.png"}
    assert (run.out / "report.html").read_text() == "old"


def test_build__no_picture_of_an_earlier_report_stays(make_run: Callable[..., Any]) -> None:
    run = make_run(corrupted="absent")
    (run.out / "plots").mkdir(parents=True)
    (run.out / "plots/segment-masks.png").write_text("old")
    (run.out / ".gitignore").write_text("/plots\n")
    run.build()
    assert not (run.out / "plots/segment-masks.png").exists()
    assert (run.out / ".gitignore").exists()


def test_show__a_row_per_model_and_runtime_of_each_task(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show(built.out / "metrics.json")
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "nano distilled" in line and "torch" in line)
    assert row.split() == ["nano", "distilled", "torch", "0.31", "1.31", "0.505", "0.697", "+0.053", "5.11", "5.88"]
    assert sum("onnxruntime-fp32" in line for line in lines) == 3
    text = "\n".join(lines)
    detect, segment = text[: text.index("segment, test split")], text[text.index("segment, test split") :]
    assert "AP50-95" in detect
    assert "mIoU" in segment
    assert "AP" not in segment


def test_show__fits_80_columns_and_cuts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"params_m": 2.59, "size_mb": 100.4, "p50_ms": 0.885, "p90_ms": 29.8, "latency_unstable": 1}
    entries = {
        "detect": {"map50_95": 0.5, "map50": 0.612},
        "segment": {"miou": 0.5, "pixel_accuracy": 0.612, "boundary_f": 0.4},
    }
    student = {
        task: {"distilled": {"onnxruntime-fp32": numbers | scores}, "gain": {}} for task, scores in entries.items()
    }
    metrics = {task: {"a-student-of-long-name": entry} for task, entry in student.items()}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(metrics))
    show(path)
    shown = capsys.readouterr().out
    assert "…" not in shown
    table = shown[: shown.index("All of it")]
    assert max(map(len, table.splitlines())) <= 80
    for cell in ("onnxruntime-fp32", "0.612", "0.885?", "100.40", "distilled"):
        assert table.count(cell) == 2
    assert table.count("? The latency was not steady: measure again before you compare it.") == 2


def test_show__the_noise_of_one_seed_only_where_it_was_measured(
    make_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    run.write_numbers()
    show(run.out / "metrics.json")
    assert "±0.07 AP50-95 is noise" in " ".join(capsys.readouterr().out.split())
    summary = json.loads((run.out / "summary.json").read_text())
    summary["detect"]["noise"] = None
    (run.out / "summary.json").write_text(json.dumps(summary))
    show(run.out / "metrics.json")
    shown = " ".join(capsys.readouterr().out.split())
    assert "was not measured" in shown
    assert "±" not in shown


def test_show__says_that_the_control_was_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"detect": {"teacher": {}, "nano": {"distilled": {"torch": {"map50_95": 0.5}}}}}))
    show(path)
    assert "Control switched off" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "message"), [(None, "not found: run `dvc repro`"), ("{", "expected JSON")])
def test_show__says_what_to_do(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PipelineError, match=message):
        show(path)
