"""What takes long says how far it is, also where there is no terminal."""

import pytest

from pipeline.evaluation import progress
from pipeline.evaluation.progress import track


def test_track__yields_all_and_prints_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "REPORT_S", 0.0)
    assert list(track(["a", "b"], "toy torch")) == ["a", "b"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" after ")[0] for line in lines] == [f"toy torch: {share}%" for share in (0, 50, 100)]


def test_track__a_short_one_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "toy")) == [1, 2]
    assert list(track([], "toy")) == []
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
