"""Export the distilled student to ONNX and check that it is still the model that was trained."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.export.student import export_student
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/export/ and the records of the ONNX file."""
    place = Path(stage.task) / str(stage.item)
    with stage.publish(Path("artifacts") / place / "export") as out:
        export_student(
            Path("artifacts") / place / "distilled",
            out,
            Path("results") / place / "distilled",
            dataset=open_dataset(Path("dataset")),
            export=stage.params.export,
            evaluation=stage.params.evaluate,
        )


if __name__ == "__main__":
    run_stage("export", work)
