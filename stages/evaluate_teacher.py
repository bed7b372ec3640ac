"""Accuracy of a task's teacher on the test split, plain and with its features masked by the prompts."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.evaluation.checkpoint import evaluate_checkpoint
from pipeline.evaluation.prompted import evaluate_prompted
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write results/<task>/teacher/accuracy-torch{,-prompted}.json."""
    params, dataset = stage.params, open_dataset(Path("dataset"))
    folder, records = Path("artifacts") / stage.task, Path("results") / stage.task / "teacher"
    teacher = folder / "teacher"
    evaluate_checkpoint(teacher, dataset, params.evaluate, params.machine, records / "accuracy-torch.json")
    record = records / "accuracy-torch-prompted.json"
    evaluate_prompted(teacher, folder / "prompts", dataset, params.evaluate, params.machine, record)


if __name__ == "__main__":
    run_stage("evaluate_teacher", work)
