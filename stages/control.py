"""Train a student without a teacher: what distillation is measured against."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.stage import Stage, run_stage
from pipeline.training.run import skip, train
from pipeline.training.trainer import Job


def work(stage: Stage) -> None:
    """Write artifacts/<student>/control/ and results/detect/<student>/control/history.csv."""
    params, student = stage.params, str(stage.item)
    job = Job(params.students[student], params.student, params.machine, open_dataset(Path("dataset")), stage.state_dir)
    history = Path("results/detect") / student / "control/history.csv"
    with stage.publish(Path("artifacts") / student / "control") as out:
        if params.control.enabled:
            train(job, out, history, name=student, role="control", made_by=stage.digest)
        else:
            skip(out, history, reason="control.enabled is false in params.yaml")


if __name__ == "__main__":
    run_stage("control", work)
