"""A task's teacher's accuracy under corrupted images."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.evaluation.robustness import record_robustness
from pipeline.stage import Stage, run_stage
from pipeline.training.devices import backend_device


def work(stage: Stage) -> None:
    """Write results/<task>/teacher/robustness-torch.json."""
    params = stage.params
    record_robustness(
        Path("artifacts") / stage.task / "teacher",
        Path("results") / stage.task / "teacher",
        dataset=open_dataset(Path("dataset")),
        params=params.robustness,
        evaluate=params.evaluate,
        device=backend_device(params.machine.device),
    )


if __name__ == "__main__":
    run_stage("robustness_teacher", work)
