"""Train the models of the chain: teacher, control and distilled student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models import load_trained
from pipeline.data.prepared import open_dataset
from pipeline.params import Params
from pipeline.records import Role
from pipeline.tasks import main_score
from pipeline.training.checkpoint import save_checkpoint
from pipeline.training.history import write_history
from pipeline.training.trainer import Job, Trainer, run_trainer, validate


def student_job(params: Params, student: str, dataset: Path, state_dir: Path) -> Job:
    """Say how a student of params.yaml trains, with or without a teacher."""
    task, model = params.students[student].task, params.students[student].model
    return Job(task, model, params.student[task], params.machine, open_dataset(dataset), state_dir)


def adopt(job: Job, out: Path, history: Path, *, made_by: str) -> None:
    """Write a trained `.pt` as the teacher's checkpoint, as it is, and its score on val as the history's only row.

    Args:
        job: Its model is the file; the training is not read.
        out: Gets `model.safetensors` and `model.json`.
        history: The CSV to write, of epoch 0.
        made_by: Digest of the params, data and code.

    Raises:
        PipelineError: if the model's classes are not the dataset's.

    """
    model = load_trained(job.model, job.task, job.classes)
    size = job.dataset.info.image_size_px
    row = validate(job)
    save_checkpoint(
        out, model, task=job.task, name="teacher", role="teacher", image_size_px=size, best_epoch=0, made_by=made_by
    )
    write_history(history, [{"epoch": 0, "val/score": row.pop(f"val/{main_score(job.task)}"), **row}])
    print(f"{job.model}: used as it is (teacher.{job.task}.epochs is 0)")


def train(
    job: Job,
    out: Path,
    history: Path,
    *,
    name: str,
    role: Role,
    made_by: str,
    trainer: type[Trainer] = Trainer,
    **attributes: Any,
) -> None:
    """Train a model and write its checkpoint and history.

    Args:
        job: What to train on what.
        out: Gets `model.safetensors` and `model.json`.
        history: The CSV to write, one row per epoch.
        name: `teacher`, or the student's name in params.yaml.
        role: What it is in the comparison.
        made_by: Digest of the params, data and code.
        trainer: `Trainer`, or a subclass of it.
        attributes: The subclass's own class attributes.

    """
    state = run_trainer(trainer, job, **attributes)
    model = job.build_model()
    model.load_state_dict(state["best"])
    save_checkpoint(
        out,
        model,
        task=job.task,
        name=name,
        role=role,
        image_size_px=job.dataset.info.image_size_px,
        best_epoch=state["best_epoch"],
        made_by=made_by,
    )
    write_history(history, state["history"])
