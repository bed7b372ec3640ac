"""A student's accuracy under corrupted images, trained with and without the teacher, in torch and as ONNX."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.evaluation.robustness import record_robustness
from pipeline.stage import Stage, run_stage
from pipeline.training.devices import backend_device


def work(stage: Stage) -> None:
    """Write results/<task>/<student>/{control,distilled}/robustness-<runtime>.json."""
    params, dataset = stage.params, open_dataset(Path("dataset"))
    place = Path(stage.task) / str(stage.item)
    for role in ("control", "distilled"):
        record_robustness(
            Path("artifacts") / place / role,
            Path("results") / place / role,
            dataset=dataset,
            params=params.robustness,
            evaluate=params.evaluate,
            device=backend_device(params.machine.device),
            exported=Path("artifacts") / place / "export/fp32.onnx" if role == "distilled" else None,
        )


if __name__ == "__main__":
    run_stage("robustness", work)
