"""Train a task's teacher, or take a trained one."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.stage import Stage, run_stage
from pipeline.training.run import adopt, train
from pipeline.training.trainer import Job


def work(stage: Stage) -> None:
    """Write artifacts/<task>/teacher/ and results/<task>/teacher/history.csv."""
    params, task, recipe = stage.params, stage.task, stage.params.teacher[stage.task]
    job = Job(task, recipe.model, recipe, params.machine, open_dataset(Path("dataset")), stage.state_dir)
    history = Path("results") / task / "teacher/history.csv"
    with stage.publish(Path("artifacts") / task / "teacher") as out:
        if recipe.epochs:
            train(job, out, history, name="teacher", role="teacher", made_by=stage.digest)
        else:
            adopt(job, out, history, made_by=stage.digest)


if __name__ == "__main__":
    run_stage("teacher", work)
