"""What stages share: the digest of their inputs, publishing, one run at a time, one clear error."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import stage as stage_module
from pipeline.errors import PipelineError
from pipeline.stage import Stage, input_digest, run_stage

ROOT = Path(__file__).parents[1]
DVC = """
stages:
  work:
    foreach: ${students}
    do:
      cmd: sh stages/run.sh work ${key}
      deps:
        - code.py
        - data
        - in/${item.task}/${key}
      params:
        - students.${key}
        - student.${item.task}
        - report
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with one stage, and go there."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DVC)
    for name in ("code.py", "data/image.png", "in/detect/micro-s/model"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def digest() -> str:
    return input_digest("work", "micro-s")


def test_input_digest__covers_deps_and_listed_params_only(project: Path) -> None:
    before = digest()
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("score_threshold: 0.001", "score_threshold: 0.5"))
    (project / "other.py").write_text("x")
    assert digest() == before
    for name in ("code.py", "data/image.png", "in/detect/micro-s/model"):
        (project / name).write_text("changed")
        assert digest() != before, name
        (project / name).write_text(name)
    params.write_text(params.read_text().replace("images: 6", "images: 5"))
    assert digest() != before


def test_input_digest__leaves_out_the_other_tasks_params(project: Path) -> None:
    before, params = digest(), project / "params.yaml"
    own, other = params.read_text().split("\nstudent:")[1].split("segment:", maxsplit=1)
    params.write_text(params.read_text().replace(other, other.replace("batch_size: 8", "batch_size: 9", 1)))
    assert digest() == before
    params.write_text(params.read_text().replace(own, own.replace("batch_size: 16", "batch_size: 9", 1)))
    assert digest() != before


def test_input_digest__names_the_items_of_a_stage(project: Path) -> None:
    with pytest.raises(PipelineError, match="work runs for one of micro-s, micro-s-sem, got nano"):
        input_digest("work", "nano")


def test_input_digest__names_a_missing_dep(project: Path) -> None:
    (project / "in/detect/micro-s/model").unlink()
    (project / "in/detect/micro-s").rmdir()
    with pytest.raises(PipelineError, match="missing input in/detect/micro-s"):
        digest()


def run(monkeypatch: pytest.MonkeyPatch, work: object) -> None:
    monkeypatch.setattr(sys, "argv", ["work", "micro-s"])
    run_stage("work", work)  # type: ignore[arg-type]


def test_run_stage__publishes_whole_and_removes_its_state(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(stage: Stage) -> None:
        with stage.publish(Path("out")) as out:
            (out / "file").write_text("done")
            assert not Path("out").exists()

    run(monkeypatch, work)
    assert (project / "out/file").read_text() == "done"
    assert not list((project / ".state").rglob("*lock"))


def test_run_stage__inputs_that_change_meanwhile_publish_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(stage: Stage) -> None:
        with stage.publish(Path("out")) as out:
            (out / "file").write_text("done")
            Path("code.py").write_text("edited while the stage runs")

    with pytest.raises(SystemExit, match="ERROR work: code, params or data changed"):
        run(monkeypatch, work)
    assert not (project / "out").exists()


def test_run_stage__a_users_error_keeps_the_state_and_the_old_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "out").mkdir()

    def work(stage: Stage) -> None:
        (stage.state_dir / "last.pt").write_text("epoch 3")
        with stage.publish(Path("out")):
            raise PipelineError("the disk is full")

    with pytest.raises(SystemExit, match="ERROR work: the disk is full"):
        run(monkeypatch, work)
    assert (project / "out").exists()
    assert [path.read_text() for path in (project / ".state").rglob("last.pt")] == ["epoch 3"]


def test_run_stage__a_file_that_cannot_be_read_is_named_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(_: Stage) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "mine/labels/a.txt")

    with pytest.raises(SystemExit, match=r"^\nERROR work: mine/labels/a\.txt: Permission denied$"):
        run(monkeypatch, work)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_run_stage__an_interrupt_is_one_line_and_keeps_the_state_and_the_old_out(
    project: Path, number: signal.Signals, status: int
) -> None:
    (project / "out").mkdir()
    (project / "out/file").write_text("old")
    code = """if True:
        import time
        from pathlib import Path
        from pipeline.stage import run_stage
        def work(stage):
            (stage.state_dir / "last.pt").write_text("epoch 3")
            with stage.publish(Path("out")) as out:
                (out / "file").write_text("half")
                print("ready", flush=True)
                time.sleep(60)
        run_stage("work", work)"""
    command = [sys.executable, "-c", code, "micro-s"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(number)
        _, message = run.communicate(timeout=30)
    assert run.returncode == status
    assert message == "\nwork: interrupted: run `dvc repro` again; training resumes after its last epoch\n"
    assert (project / "out/file").read_text() == "old"
    assert [path.read_text() for path in (project / ".state").rglob("last.pt")] == ["epoch 3"]


def test_run_stage__a_second_run_of_the_same_stage_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    state = stage_module.STATE / "work-micro-s" / digest()
    state.mkdir(parents=True)
    (state / "lock").write_text("4711")
    with subprocess.Popen(
        [sys.executable, "-c", hold, state / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(SystemExit, match="process 4711 is still at this stage"):
            run(monkeypatch, lambda stage: None)
        other.kill()


def test_run_stage__machine_threads_limit_the_stage_and_are_no_input_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    limits: list[int] = []
    monkeypatch.setattr(stage_module, "limit_threads", limits.append)
    before, params = digest(), project / "params.yaml"
    params.write_text(params.read_text().replace("  threads: 0 # CPU threads of training", "  threads: 3 #"))
    assert digest() == before
    run(monkeypatch, lambda stage: None)
    assert limits == [3]
