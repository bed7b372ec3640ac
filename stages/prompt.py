"""Learn frequency prompts in the frozen teacher."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.stage import Stage, run_stage
from pipeline.training.prompts import PromptJob, train_prompts


def work(stage: Stage) -> None:
    """Write artifacts/prompts/ and results/detect/teacher/prompt_history.csv."""
    params, dataset, teacher = stage.params, open_dataset(Path("dataset")), Path("artifacts/teacher")
    job = PromptJob(params.prompt, params.teacher, params.machine, dataset, teacher, stage.state_dir)
    with stage.publish(Path("artifacts/prompts")) as out:
        train_prompts(job, out, history=Path("results/detect/teacher/prompt_history.csv"))


if __name__ == "__main__":
    run_stage("prompt", work)
