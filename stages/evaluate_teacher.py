"""Accuracy of the teacher on the test split."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.evaluation.checkpoint import evaluate_checkpoint
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write results/detect/teacher/accuracy-torch.json."""
    params, dataset = stage.params, open_dataset(Path("dataset"))
    record = Path("results/detect/teacher/accuracy-torch.json")
    evaluate_checkpoint(Path("artifacts/teacher"), dataset, params.evaluate, params.machine, record)


if __name__ == "__main__":
    run_stage("evaluate_teacher", work)
