"""`python -m pipeline`: help that helps, one message for a user's error."""

import shutil
from pathlib import Path

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
