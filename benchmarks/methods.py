"""Compare distillation methods: the same teacher, student, data and budget, several seeds each.

    python -m benchmarks.methods benchmarks/bccd --seeds 0 --seeds 1

The folder holds `rows.yaml` (row -> what it changes in section `distill`: `method`, and keys of the task's recipe;
`control: null` trains without a teacher) and `params.yaml`, unless the chain's own serve. Teacher and prompts are
trained once; then every row and seed is, and measured on the validation split, which is what choices are made on.
`--test` measures the test split as well: once, at the end. Everything goes on where it was interrupted; the state lies
in .state/benchmarks/, the record is benchmarks/results/<folder>_methods.json, or <folder>_<student>_methods.json where
the folder has several students.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from benchmarks.measure import record
from pipeline.backends import load
from pipeline.checkpoint_info import INFO, load_info
from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import PreparedDataset, Split, open_dataset
from pipeline.digest import value_digest
from pipeline.evaluation.accuracy import evaluate
from pipeline.params import DistillRecipe, Params
from pipeline.params_file import load_params
from pipeline.records import Accuracy
from pipeline.tasks import SCORES, Task
from pipeline.training.devices import backend_device
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.prompts import INFO as PROMPTS_INFO
from pipeline.training.prompts import PromptJob, train_prompts
from pipeline.training.run import student_job, train
from pipeline.training.trainer import Job

STATE = Path(".state/benchmarks")


def main(
    folder: Annotated[Path, typer.Argument(help="Where rows.yaml is, and params.yaml if not the chain's.")],
    student: Annotated[str | None, typer.Option(help="Its name in params.yaml; by default the first.")] = None,
    seeds: Annotated[list[int], typer.Option(help="Of the student: initialisation, order and augmentation.")] = [0],  # noqa: B006
    rows: Annotated[list[str], typer.Option(help="Only these rows; nothing is recorded.")] = [],  # noqa: B006
    test: Annotated[bool, typer.Option(help="Measure the test split as well: once, at the end.")] = False,
) -> None:
    """Compare distillation methods on one dataset."""
    own = folder / "params.yaml"
    params = load_params(own if own.exists() else "params.yaml")
    name_of = student or next(iter(params.students))
    task = params.students[name_of].task
    table: dict[str, dict[str, Any] | None] = YAML(typ="safe").load((folder / "rows.yaml").read_text())
    state = STATE / folder.name
    dataset = prepared(params, state / "dataset")
    teacher = _teacher(params, task, dataset, state / task)
    found = [
        {
            "row": "teacher",
            "seed": params.teacher[task].seed,
            "share_at_the_end": 0.0,
            **_accuracy(teacher.teacher_dir, dataset, params, test),
        }
    ]
    for seed in seeds:
        for name in rows or table:
            job = student_job(params, name_of, state / "dataset", state)
            run = _student(job, teacher, name, table[name], seed, state / name_of)
            found.append({"row": name, "seed": seed, **_history(run), **_accuracy(run, dataset, params, test)})
            print(found[-1], flush=True)
    if not rows:
        single = len(params.students) == 1
        record(f"{folder.name}_methods" if single else f"{folder.name}_{name_of}_methods", _with_means(found))


def prepared(params: Params, out: Path) -> PreparedDataset:
    """Prepare the dataset, once."""
    if not (out / "dataset.json").exists():
        prepare_dataset(params.prepare, out)
    return open_dataset(out)


def _teacher(params: Params, task: Task, dataset: PreparedDataset, state: Path) -> TeacherJob:
    """Train teacher and prompts, once."""
    teacher, prompts = state / "teacher", state / "prompts"
    recipe = params.teacher[task]
    if not (teacher / INFO).exists():
        job = Job(task, recipe.model, recipe, params.machine, dataset, made(state / "teacher-state"))
        train(job, teacher, teacher / "history.csv", name="teacher", role="teacher", made_by="benchmark")
    if not (prompts / PROMPTS_INFO).exists():
        work = made(state / "prompts-state")
        prompt_job = PromptJob(task, params.prompt, recipe, params.machine, dataset, teacher, work)
        train_prompts(prompt_job, prompts, made(prompts) / "history.csv")
    return TeacherJob(teacher, prompts, params.distill.method, params.distill.recipe(task), params.prompt)


def _student(job: Job, teacher: TeacherJob, name: str, row: Any, seed: int, state: Path) -> Path:
    """Train one row with one seed, if that has not been done; a row that changes is trained anew."""
    changes = dict(row or {})
    method = changes.pop("method", teacher.method)
    recipe = DistillRecipe.model_validate({**teacher.recipe.model_dump(), **changes})
    training = job.training.model_copy(update={"seed": seed})
    what = {"method": method, "recipe": recipe.model_dump()} if row is not None else None
    out = state / f"{name}-{seed}-{value_digest([what, job.model, job.training.model_dump()])[:8]}"
    if (out / "wall_s").exists():
        return out
    job = replace(job, training=training, state_dir=made(out / "state"))
    start = time.perf_counter()
    if row is None:
        train(job, out, out / "history.csv", name=name, role="control", made_by="benchmark")
    else:
        train(
            job, out, out / "history.csv", name=name, role="distilled", made_by="benchmark",
            trainer=DistillationTrainer, teacher_job=replace(teacher, method=method, recipe=recipe),
        )  # fmt: skip
    (out / "wall_s").write_text(f"{time.perf_counter() - start:.0f}")
    return out


def _history(run: Path) -> dict[str, Any]:
    header, *lines = (run / "history.csv").read_text().splitlines()
    last = dict(zip(header.split(","), lines[-1].split(","), strict=True))
    return {"share_at_the_end": round(float(last.get("train/distill_share", 0)), 2)}


def _accuracy(run: Path, dataset: PreparedDataset, params: Params, test: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    splits: list[Split] = ["val", "test"] if test else ["val"]
    for split in splits:
        path = run / f"accuracy-{split}.json"
        if not path.exists():
            info = load_info(run).model_info()
            backend = load(run, backend_device(params.machine.device))
            path.write_text(
                evaluate(backend, dataset, split, params.evaluate, model=info, size_mb=0.0).model_dump_json()
            )
        accuracy = Accuracy.model_validate_json(path.read_text())
        shown = list(SCORES[accuracy.model.task])[:2]
        found |= {f"{split}_{name}": round(accuracy.scores[name] or 0.0, 4) for name in shown}
    return found


def _with_means(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Append one row per method with the means over its seeds."""
    names = dict.fromkeys(row["row"] for row in found)
    means = []
    for name in names:
        own = [row for row in found if row["row"] == name]
        columns = [column for column in own[0] if column not in {"row", "seed"}]
        means.append({"row": name, "seed": "mean"} | {c: round(statistics.mean(r[c] for r in own), 4) for c in columns})
    return found + means


def made(folder: Path) -> Path:
    """Return a folder that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    typer.run(main)
