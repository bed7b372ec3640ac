"""The device check: what each step leaves, however it ends, and the wheels that travel."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.device import __main__ as check
from benchmarks.device import wheels
from benchmarks.device.steps import STEPS, Step

SCRIPT = """
import json, pathlib, sys, time
name, out = sys.argv[3], pathlib.Path(sys.argv[4])
(out / f"{name}.json").write_text(json.dumps({"found": name}))
if name == "slow":
    time.sleep(60)
sys.exit({"good": 0, "cpu": 3, "bad": 1}[name])
"""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Replace the steps by processes that end in every way."""
    script = tmp_path / "step.py"
    script.write_text(SCRIPT)
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec {check.sys.executable} {script} $1 $2 $3 $4\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(check.sys, "executable", str(tmp_path / "python"))
    limits = {"good": 30, "cpu": 30, "slow": 1, "bad": 30}
    monkeypatch.setattr(check, "STEPS", [Step(name, limit, lambda _: {}) for name, limit in limits.items()])


def run(out: Path, **changes: Any) -> None:
    check.main(out, **{"dry": False, "budget_s": 600, "only": None, "coco128": None, **changes})


def test_device_check__a_step_that_fails_or_hangs_stops_none_after_it(steps: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(typer.Exit):
        run(out)
    summary = (out / "summary.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in summary.splitlines()[2:]]
    assert rows == [["good", "done"], ["cpu", "needs a device"], ["slow", "timed out"], ["bad", "failed"]]
    assert json.loads((out / "slow.json").read_text()) == {"found": "slow"}  # written before it hung


def test_device_check__no_step_starts_after_the_budget(steps: None, tmp_path: Path) -> None:
    run(tmp_path / "out", budget_s=0)
    assert "no time left" in (tmp_path / "out/summary.md").read_text()
    assert not (tmp_path / "out/good.json").exists()


def test_device_check__all_steps_together_fit_the_limit() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)
    assert STEPS[0].name == "train"


def test_wheels__parts_stay_below_the_limit_and_pieces_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MAX_BYTES", 100)
    contents = {"a.whl": b"a" * 60, "b.whl": b"b" * 250, "c.whl": b"c" * 30}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    parts = wheels._parts([tmp_path / name for name in contents])
    assert all(sum(file.stat().st_size for file in part) <= 100 for part in parts)
    files = [file for part in parts for file in part]
    assert b"".join(file.read_bytes() for file in files if file.name.startswith("b.whl.")) == contents["b.whl"]
    assert not (tmp_path / "b.whl").exists()


@pytest.mark.slow
def test_device_check__its_first_steps_run_small_on_a_cpu(tmp_path: Path) -> None:
    run(tmp_path / "out", dry=True, only=["train", "resume"])
    assert json.loads((tmp_path / "out/resume.json").read_text())["equal_bytes"]
