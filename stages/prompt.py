"""Learn frequency prompts in a task's frozen teacher, where its distillation reads them."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.stage import Stage, run_stage
from pipeline.training.prompts import PromptJob, skip_prompts, train_prompts


def work(stage: Stage) -> None:
    """Write artifacts/<task>/prompts/ and results/<task>/teacher/prompt_history.csv."""
    params, task, dataset = stage.params, stage.task, open_dataset(Path("dataset"))
    folder, teacher = Path("artifacts") / task, params.teacher[task]
    job = PromptJob(task, params.prompt, teacher, params.machine, dataset, folder / "teacher", stage.state_dir)
    history = Path("results") / task / "teacher/prompt_history.csv"
    with stage.publish(folder / "prompts") as out:
        if params.distill.reads_prompts(task):
            train_prompts(job, out, history)
        else:
            print("skipped: distill.method and its mask read no prompts")
            skip_prompts(out, history)


if __name__ == "__main__":
    run_stage("prompt", work)
