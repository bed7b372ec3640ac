"""A teacher that has nothing to teach is said to be one."""

from pathlib import Path

import pytest

from pipeline.teacher_doubts import architecture_doubt, best_score, score_doubt


def test_architecture_doubt__is_about_equal_ones_alone() -> None:
    assert architecture_doubt("micro-l", "micro-s") is None
    assert "micro-s: it has little to teach" in str(architecture_doubt("micro-s", "micro-s"))


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({}, None),
        ({"the control's": 0.3}, None),
        ({"the control's": 0.4}, "is 0.400, not above the control's 0.400:"),
        ({"the control's": 0.3, "the distilled student's": 0.5}, "AP50-95 is 0.400, not above the distilled student's"),
        ({"the control's": 0.41, "the distilled student's": 0.5}, "the control's 0.410 and the distilled student's"),
    ],
)
def test_score_doubt__names_who_is_not_worse(others: dict[str, float], expected: str | None) -> None:
    doubt = score_doubt("detect", 0.4, others)
    assert doubt is None if expected is None else expected in str(doubt)


def test_best_score__of_a_history(tmp_path: Path) -> None:
    history = tmp_path / "history.csv"
    assert best_score(history) is None
    history.write_text("epoch,val/score\n")
    assert best_score(history) is None
    history.write_text("epoch,train/box_loss,val/score\n1,3,0.25\n2,2,0.5\n3,2,0.375\n")
    assert best_score(history) == 0.5
