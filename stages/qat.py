"""Fine-tune the distilled student for INT8, where that is switched on."""

from pathlib import Path

from pipeline.stage import Stage, run_stage
from pipeline.training.distillation import TeacherJob
from pipeline.training.history import skip
from pipeline.training.quantization import fine_tune
from pipeline.training.run import student_job


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/qat/ and results/<task>/<student>/qat/history.csv."""
    params, student, task = stage.params, str(stage.item), stage.task
    folder, place = Path("artifacts") / task, Path(task) / student / "qat"
    distill, prompts = params.distill, folder / "prompts"
    teacher = TeacherJob(folder / "teacher", prompts, distill.method, distill.recipe(task), params.prompt)
    history = Path("results") / place / "history.csv"
    with stage.publish(Path("artifacts") / place) as out:
        if params.qat.enabled:
            job = student_job(params, student, Path("dataset"), stage.state_dir)
            distilled = folder / student / "distilled"
            fine_tune(job, params.qat, teacher, distilled, out, history, name=student, made_by=stage.digest)
        else:
            print("skipped: qat.enabled is false")
            skip(out, history, reason="qat.enabled is false in params.yaml")


if __name__ == "__main__":
    run_stage("qat", work)
