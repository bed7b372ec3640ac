"""Train a student under the teacher."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.stage import Stage, run_stage
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.run import train
from pipeline.training.trainer import Job


def work(stage: Stage) -> None:
    """Write artifacts/<student>/distilled/ and results/detect/<student>/distilled/history.csv."""
    params, student = stage.params, str(stage.item)
    job = Job(params.students[student], params.student, params.machine, open_dataset(Path("dataset")), stage.state_dir)
    teacher = TeacherJob(Path("artifacts/teacher"), Path("artifacts/prompts"), params.distill)
    history = Path("results/detect") / student / "distilled/history.csv"
    with stage.publish(Path("artifacts") / student / "distilled") as out:
        train(
            job,
            out,
            history,
            name=student,
            role="distilled",
            made_by=stage.digest,
            trainer=DistillationTrainer,
            teacher_job=teacher,
        )


if __name__ == "__main__":
    run_stage("distill", work)
