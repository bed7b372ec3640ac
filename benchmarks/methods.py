"""Compare distillation methods: the same teacher, student, data and budget, several seeds each.

    python -m benchmarks.methods benchmarks/bccd --seeds 0 1

The folder holds `params.yaml` (the chain's, for one dataset) and `rows.yaml` (row -> what it changes in section
`distill`; `control: null` trains without a teacher). Teacher and prompts are trained once; then every row and seed is,
and measured on the validation split, which is what choices are made on. `--test` measures the test split as well: once,
at the end. Everything goes on where it was interrupted; the state lies in .state/benchmarks/, the record is
benchmarks/results/<folder>_methods.json.
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
from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import PreparedDataset, Split, open_dataset
from pipeline.digest import value_digest
from pipeline.evaluation.accuracy import evaluate
from pipeline.params import Distill, Params, load_params
from pipeline.records import Accuracy
from pipeline.training.checkpoint import INFO, load_info
from pipeline.training.devices import backend_device
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.prompts import INFO as PROMPTS_INFO
from pipeline.training.prompts import PromptJob, train_prompts
from pipeline.training.run import train
from pipeline.training.trainer import Job

STATE = Path(".state/benchmarks")


def main(
    folder: Annotated[Path, typer.Argument(help="Where params.yaml and rows.yaml are.")],
    seeds: Annotated[list[int], typer.Option(help="Of the student: initialisation, order and augmentation.")] = [0],  # noqa: B006
    rows: Annotated[list[str], typer.Option(help="Only these rows; nothing is recorded.")] = [],  # noqa: B006
    test: Annotated[bool, typer.Option(help="Measure the test split as well: once, at the end.")] = False,
) -> None:
    """Compare distillation methods on one dataset."""
    params = load_params(folder / "params.yaml")
    table: dict[str, dict[str, Any] | None] = YAML(typ="safe").load((folder / "rows.yaml").read_text())
    state = STATE / folder.name
    dataset = _dataset(params, state / "dataset")
    teacher = _teacher(params, dataset, state)
    found = []
    for seed in seeds:
        for name in rows or table:
            run = _student(params, dataset, teacher, name, table[name], seed, state)
            found.append({"row": name, "seed": seed, **_history(run), **_accuracy(run, dataset, params, test)})
            print(found[-1], flush=True)
    if not rows:
        record(f"{folder.name}_methods", _with_means(found))


def _dataset(params: Params, out: Path) -> PreparedDataset:
    if not (out / "dataset.json").exists():
        prepare_dataset(params.prepare, out)
    return open_dataset(out)


def _teacher(params: Params, dataset: PreparedDataset, state: Path) -> TeacherJob:
    """Train teacher and prompts, once."""
    teacher, prompts = state / "teacher", state / "prompts"
    recipe = params.teacher
    if not (teacher / INFO).exists():
        job = Job(recipe.model, recipe, params.machine, dataset, _made(state / "teacher-state"))
        train(job, teacher, teacher / "history.csv", name="teacher", role="teacher", made_by="benchmark")
    if not (prompts / PROMPTS_INFO).exists():
        work = _made(state / "prompts-state")
        prompt_job = PromptJob(params.prompt, recipe, params.machine, dataset, teacher, work)
        train_prompts(prompt_job, prompts, _made(prompts) / "history.csv")
    return TeacherJob(teacher, prompts, params.distill)


def _student(
    params: Params, dataset: PreparedDataset, teacher: TeacherJob, name: str, row: Any, seed: int, state: Path
) -> Path:
    """Train one row with one seed, if that has not been done; a row that changes is trained anew."""
    distill = Distill.model_validate({**params.distill.model_dump(), **(row or {})})
    digest = value_digest({"distill": row and distill.model_dump(), "student": params.student.model_dump()})[:8]
    out = state / f"{name}-{seed}-{digest}"
    if (out / "wall_s").exists():
        return out
    (model,) = params.students.values()
    training = params.student.model_copy(update={"seed": seed})
    job = Job(model, training, params.machine, dataset, _made(out / "state"))
    start = time.perf_counter()
    if row is None:
        train(job, out, out / "history.csv", name=name, role="control", made_by="benchmark")
    else:
        job_teacher = replace(teacher, distill=distill)
        train(
            job, out, out / "history.csv", name=name, role="distilled", made_by="benchmark",
            trainer=DistillationTrainer, teacher_job=job_teacher,
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
        found |= {f"{split}_map50_95": round(accuracy.map50_95, 4), f"{split}_map50": round(accuracy.map50, 4)}
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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    typer.run(main)
