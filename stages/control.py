"""Train a student without a teacher: what distillation is measured against."""

from pathlib import Path

from pipeline.stage import Stage, run_stage
from pipeline.training.history import skip
from pipeline.training.run import student_job, train


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/control/ and results/<task>/<student>/control/history.csv."""
    student, place = str(stage.item), Path(stage.task) / str(stage.item) / "control"
    history = Path("results") / place / "history.csv"
    with stage.publish(Path("artifacts") / place) as out:
        if stage.params.control.enabled:
            job = student_job(stage.params, student, Path("dataset"), stage.state_dir)
            train(job, out, history, name=student, role="control", made_by=stage.digest)
        else:
            skip(out, history, reason="control.enabled is false in params.yaml")


if __name__ == "__main__":
    run_stage("control", work)
