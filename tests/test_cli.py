"""`python -m pipeline`: help that helps, one message for a user's error."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import app

ROOT = Path(__file__).parents[1]


def test_cli__help_lists_every_command_with_what_it_does() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    commands = (
        "show",
        "check-data",
        "export-pt",
        "lint",
        "compare-latency",
        "bundle",
        "unpack",
        "import-records",
        "predict",
    )
    for command in commands:
        assert command in text


def test_cli__show_without_metrics_says_what_makes_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["show", str(tmp_path / "metrics.json")])
    assert done.exit_code != 0
    assert "dvc repro" in str(done.exception)


def test_cli__export_pt_wants_a_checkpoint_and_the_right_ending(tmp_path: Path) -> None:
    for arguments, message in (
        (["x", "student.onnx"], "ending .pt"),
        ([str(tmp_path), "student.pt"], "not a checkpoint"),
    ):
        done = CliRunner().invoke(app, ["export-pt", *arguments])
        assert done.exit_code != 0
        assert message in str(done.exception)


def test_cli__check_data_names_a_missing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(
        params.read_text().replace("source: scenes", "source: voc").replace("pipeline/data/scenes.py", "nowhere")
    )
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["check-data"])
    assert done.exit_code != 0
    assert "nowhere is no folder" in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]


def test_cli__check_data_names_left_over_sections_and_wrong_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/labels").mkdir()
    (tmp_path / "data/data.yaml").write_text("train: images\nnames: [thing]\n")
    for index in range(8):
        cv2.imwrite(str(tmp_path / f"data/images/{index}.png"), np.full((40, 60, 3), 20 * index, np.uint8))
        (tmp_path / f"data/labels/{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    params = (ROOT / "params.yaml").read_text().replace("source: scenes", "source: yolo")
    params = params.replace("pipeline/data/scenes.py", "data").replace("_fraction: 0.15", "_fraction: 0.3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(params)
    done = CliRunner().invoke(app, ["check-data"])
    assert done.exit_code == 0, done.output
    assert "Before `dvc repro`:\nparams.yaml: teacher.segment: prepare.source yolo has no masks" in done.output
    (tmp_path / "params.yaml").write_text(params.replace("model: micro-s.yaml", "model: micro-z.yaml"))
    done = CliRunner().invoke(app, ["check-data"])
    assert done.exit_code != 0
    assert "students.micro-s.model: model micro-z.yaml: unknown scale" in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml"]


def test_cli__an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.report.build.show", interrupted)
    done = CliRunner().invoke(app, ["show"])
    assert (done.exit_code, done.output) == (130, "\ninterrupted\n")


def test_cli__bundle_names_the_students_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, ["bundle", "nobody", "--out", "a.zip"])
    assert done.exit_code != 0
    assert "params.yaml has no student nobody; it has micro-s, micro-s-sem" in str(done.exception)


def test_cli__bundle_without_an_export_says_what_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["bundle", "micro-s", "--out", "a.zip"])
    assert done.exit_code != 0
    assert "artifacts/detect/micro-s/export/fp32.onnx not found: run `dvc repro export`" in str(done.exception)
    assert not (tmp_path / "a.zip").exists()


def test_cli__unpack_and_import_records_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["unpack", "none.zip", "device"], "none.zip not found"),
        (["import-records", "device"], "device/records has no record"),
    ):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code != 0
        assert message in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_cli__a_reader_that_has_seen_enough_is_no_error() -> None:
    script = """
from pipeline.cli import app, command

@command
def many() -> None:
    for _ in range(100_000):
        print("a line")

app(["many"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141
