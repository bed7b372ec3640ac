"""`python -m pipeline`: help that helps, one message for a user's error."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app

ROOT = Path(__file__).parents[1]


def test_cli__help_lists_every_command_with_what_it_does() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for command in ("show", "check-data", "export-pt", "lint", "compare-latency"):
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
