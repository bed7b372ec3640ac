"""Train the teacher."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.stage import Stage, run_stage
from pipeline.training.run import train
from pipeline.training.trainer import Job


def work(stage: Stage) -> None:
    """Write artifacts/teacher/ and results/detect/teacher/history.csv."""
    params = stage.params
    job = Job(params.teacher.model, params.teacher, params.machine, open_dataset(Path("dataset")), stage.state_dir)
    with stage.publish(Path("artifacts/teacher")) as out:
        train(
            job, out, Path("results/detect/teacher/history.csv"), name="teacher", role="teacher", made_by=stage.digest
        )


if __name__ == "__main__":
    run_stage("teacher", work)
