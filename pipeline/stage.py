"""What every stage script shares: parameters, a digest of its inputs, a place for its state, one clear error.

DVC hashes a stage's inputs after its command has run. So the digest is taken here at the start, from the deps and
params that dvc.yaml lists, and a stage refuses to finish if they changed while it ran.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML

from pipeline.device import limit_threads
from pipeline.digest import tree_digest, value_digest
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.params_file import load_params, read_params
from pipeline.tasks import Task
from pipeline.text import LAYOUT, printable
from pipeline.yaml_file import plain

STATE = Path(".state")


@dataclass(frozen=True)
class Stage:
    """One run of a stage.

    Attributes:
        name: As in dvc.yaml.
        item: What a foreach stage runs for: a task, or a student; else None.
        params: All of params.yaml; a stage reads the sections that dvc.yaml lists for it.
        digest: Of its deps and params, at the start.
        state_dir: Exists while the stage runs, outlives a kill, is removed at the end.

    """

    name: str
    item: str | None
    params: Params
    digest: str
    state_dir: Path

    @property
    def task(self) -> Task:
        """The task that this run is for."""
        item = str(self.item)
        return self.params.students[item].task if item in self.params.students else cast("Task", item)

    @contextmanager
    def publish(self, out: Path) -> Iterator[Path]:
        """Hand out a folder to write to, and put it in the place of `out` if all goes well."""
        partial = self.state_dir / "out" / out
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        self.check_inputs()
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(partial, out)

    def check_inputs(self) -> None:
        """Refuse to finish if the stage's inputs are no longer those that it started with.

        Raises:
            PipelineError: naming the stage; nothing is published.

        """
        if input_digest(self.name, self.item) != self.digest:
            raise PipelineError(
                "code, params or data changed while the stage ran, so DVC would record its result under the wrong "
                "version. Nothing was published; run `dvc repro` again"
            )


def run_stage(name: str, work: Callable[[Stage], None]) -> None:
    """Run a stage script's work, in the repository's root; `sys.argv[1]` is a foreach stage's task or student.

    Exits with one message: with status 1 on a user's error, 130 on Ctrl-C, 143 on SIGTERM.
    """
    item = sys.argv[1] if len(sys.argv) > 1 else None
    signal.signal(signal.SIGTERM, _terminate)
    try:
        digest = input_digest(name, item)
        state_dir = STATE / "-".join(filter(None, [name, item])) / digest
        params = load_params()
        limit_threads(params.machine.threads)
        stage = Stage(name, item, params, digest, state_dir)
        with _only_run(state_dir):
            work(stage)
            stage.check_inputs()
        shutil.rmtree(state_dir.parent)
    except PipelineError as error:
        sys.exit(f"\nERROR {name}: {printable(error, keep=LAYOUT)}")
    except OSError as error:
        if error.filename is None:  # no file's: a fault of the program
            raise
        sys.exit(f"\nERROR {name}: {printable(f'{error.filename}: {error.strerror}')}")
    except KeyboardInterrupt as interrupt:
        print(f"\n{name}: interrupted: run `dvc repro` again; training resumes after its last epoch", file=sys.stderr)
        sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))


def _terminate(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def input_digest(name: str, item: str | None) -> str:
    """Digest the deps and params that dvc.yaml lists for a stage.

    Args:
        name: Stage name, without the item.
        item: Task or student, where the stage is a foreach.

    Raises:
        PipelineError: if dvc.yaml has no such stage, or a dep is missing.

    """
    raw_params = plain(read_params(Path("params.yaml")))
    stage = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"].get(name)
    if stage is None:
        raise PipelineError(f"dvc.yaml has no stage {name}")
    resolved = {"key": str(item)}
    if "foreach" in stage:
        items = raw_params[stage["foreach"].strip("${}")]
        if item not in items:
            raise PipelineError(f"{name} runs for one of {', '.join(items)}, got {item}")
        resolved |= {f"item.{key}": str(value) for key, value in items[item].items()}
        stage = stage["do"]
    deps = [Path(_resolve(dep, resolved)) for dep in stage.get("deps", [])]
    if missing := [str(dep) for dep in deps if not dep.exists()]:
        raise PipelineError(f"missing input {', '.join(missing)}: run `dvc repro`, which makes what a stage needs")
    params = {key: _lookup(raw_params, _resolve(key, resolved)) for key in stage.get("params", [])}
    return value_digest([tree_digest(_summary(dep) for dep in deps), params])


def _summary(dep: Path) -> Path:
    """Let a prepared dataset's `dataset.json`, which has its content's digest, stand for the whole folder."""
    summary = dep / "dataset.json"
    return summary if summary.exists() else dep


def _resolve(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"${{{key}}}", value)
    return text


def _lookup(params: Any, key: str) -> Any:
    for part in key.split("."):
        if part not in params:
            raise PipelineError(f"params.yaml has no key {key}, which dvc.yaml lists")
        params = params[part]
    return params


@contextmanager
def _only_run(state_dir: Path) -> Iterator[None]:
    """Hold the state folder, so that a killed `dvc repro` whose stage lives on is not joined by a second."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise PipelineError(f"process {lock.read()} is still at this stage: wait for it, or stop it") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
