"""Train the models of the chain: teacher, control and distilled student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.checkpoint_info import SKIPPED
from pipeline.data.prepared import open_dataset
from pipeline.params import Params
from pipeline.records import Role, Skipped, write_record
from pipeline.training.checkpoint import save_checkpoint
from pipeline.training.history import write_history
from pipeline.training.trainer import Job, Trainer, run_trainer


def student_job(params: Params, student: str, dataset: Path, state_dir: Path) -> Job:
    """Say how a student of params.yaml trains, with or without a teacher."""
    task, model = params.students[student].task, params.students[student].model
    return Job(task, model, params.student[task], params.machine, open_dataset(dataset), state_dir)


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


def skip(out: Path, history: Path, reason: str) -> None:
    """Leave a note where a model would be, and an empty history: DVC wants every out to be there."""
    write_record(out / SKIPPED, Skipped(skipped=reason))
    history.parent.mkdir(parents=True, exist_ok=True)
    history.write_text("epoch,val/score\n")
