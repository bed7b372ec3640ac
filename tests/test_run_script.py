"""stages/run.sh: a stage runs with the Python that dvc runs in, or says in one line what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BARE = {"PATH": "/usr/bin:/bin"}  # no environment is active
STAYS = "sh stages/run.sh where a b; exit $?"  # a shell that does not replace itself with its last command
FROM_SHELL = f"sh -c '{STAYS}'; exit $?"  # no Python near above


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a checkout with a stage that prints its interpreter and arguments."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/run.sh").write_text((ROOT / "stages/run.sh").read_text())
    (tmp_path / "stages/where.py").write_text("import sys; print(sys.executable, *sys.argv[1:])")
    return tmp_path


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=BARE | environment, capture_output=True, text=True, check=False)


def give_environment(folder: Path) -> str:
    """Put a .venv into a folder: a script that stands for this Python, and says so."""
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the parent's command is read from /proc")
@pytest.mark.parametrize("command", [["sh", "stages/run.sh", "where", "a", "b"], ["sh", "-c", STAYS]])
def test_run_script__takes_the_python_that_started_it(project: Path, command: list[str]) -> None:
    done = run(command, project)
    assert done.stdout.split() == [sys.executable, "a", "b"], done.stderr


@pytest.mark.parametrize("place", [".", ".dvc/tmp/exps/standalone/tmp1", ".dvc/tmp/exps/tmp1"])
def test_run_script__finds_the_environment_of_the_repository(project: Path, place: str) -> None:
    give_environment(project)
    copy = project / place
    copy.mkdir(parents=True, exist_ok=True)
    if copy != project:
        (copy / "stages").symlink_to(project / "stages")
    done = run(["sh", "-c", FROM_SHELL], copy)
    assert done.stdout.split()[1:] == ["a", "b"], done.stderr


def test_run_script__takes_an_active_environment(project: Path) -> None:
    environment = Path(give_environment(project.parent / "elsewhere")).parent
    done = run(["sh", "-c", FROM_SHELL], project, PATH=f"{environment}:{BARE['PATH']}")
    assert done.stdout.split()[1:] == ["a", "b"], done.stderr


def test_run_script__passes_over_a_python_without_the_packages(project: Path) -> None:
    """Dvc may have an environment of its own, as pipx and system packages give it."""
    give_environment(project)
    bare = project / "bin/python3"
    bare.parent.mkdir()
    bare.symlink_to(os.path.realpath(sys.executable))
    code = "import subprocess, sys; sys.exit(subprocess.call(['sh', 'stages/run.sh', 'where', 'a']))"
    done = run([str(bare), "-I", "-S", "-c", code], project)
    assert done.stdout.split()[1:] == ["a"], done.stderr


def test_run_script__without_any_environment_says_in_one_line_what_to_do(project: Path) -> None:
    done = run(["sh", "-c", FROM_SHELL], project)
    if done.returncode == 0:
        pytest.skip("the system's own Python has the packages")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "ERROR where: no Python with this project's packages: run 'make repro'" in done.stderr
