"""Train a student under its task's teacher."""

from pathlib import Path

from pipeline.checkpoint_info import load_info
from pipeline.stage import Stage, run_stage
from pipeline.teacher_doubts import architecture_doubt, best_score, score_doubt
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.run import student_job, train


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/distilled/ and results/<task>/<student>/distilled/history.csv."""
    params, student, task = stage.params, str(stage.item), stage.task
    folder, place = Path("artifacts") / task, Path(task) / student / "distilled"
    distill, prompts = params.distill, folder / "prompts"
    teacher = TeacherJob(folder / "teacher", prompts, distill.method, distill.recipe(task), params.prompt)
    architecture = load_info(teacher.teacher_dir).model_info().architecture
    warn(architecture_doubt(architecture, Path(params.students[student].model).stem))
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
    models = {role: Path("results") / task / student / role for role in ("control", "distilled")}
    scores = {f"the {role} student's": best_score(model / "history.csv") for role, model in models.items()}
    if score := best_score(Path("results") / task / "teacher/history.csv"):
        warn(score_doubt(task, score, {name: value for name, value in scores.items() if value is not None}))


def warn(doubt: str | None) -> None:
    """Print a doubt, if there is one."""
    if doubt:
        print(f"WARNING distill: {doubt}", flush=True)


if __name__ == "__main__":
    run_stage("distill", work)
