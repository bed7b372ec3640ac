"""Accuracy of a student on the test split, trained with and without the teacher."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.evaluation.checkpoint import evaluate_checkpoint
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write results/<task>/<student>/{control,distilled}/accuracy-torch.json."""
    params, dataset = stage.params, open_dataset(Path("dataset"))
    for role in ("control", "distilled"):
        place = Path(stage.task) / str(stage.item) / role
        record = Path("results") / place / "accuracy-torch.json"
        evaluate_checkpoint(Path("artifacts") / place, dataset, params.evaluate, params.machine, record)


if __name__ == "__main__":
    run_stage("evaluate", work)
