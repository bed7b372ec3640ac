"""Train a student under its task's teacher."""

from pathlib import Path

from pipeline.stage import Stage, run_stage
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.run import student_job, train


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/distilled/ and results/<task>/<student>/distilled/history.csv."""
    params, student, task = stage.params, str(stage.item), stage.task
    folder, place = Path("artifacts") / task, Path(task) / student / "distilled"
    distill, prompts = params.distill, folder / "prompts"
    teacher = TeacherJob(folder / "teacher", prompts, distill.method, distill.recipe(task), params.prompt)
    with stage.publish(Path("artifacts") / place) as out:
        train(
            student_job(params, student, Path("dataset"), stage.state_dir),
            out,
            Path("results") / place / "history.csv",
            name=student,
            role="distilled",
            made_by=stage.digest,
            trainer=DistillationTrainer,
            teacher_job=teacher,
        )


if __name__ == "__main__":
    run_stage("distill", work)
