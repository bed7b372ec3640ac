"""Export the distilled student in every precision and check that each file is still the model that was trained."""

from pathlib import Path

from pipeline.checkpoint_info import SKIPPED
from pipeline.data.prepared import open_dataset
from pipeline.export.gate import Trained
from pipeline.export.student import export_student
from pipeline.records import Accuracy, read_record
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/export/, and the records of its files to results/<task>/<student>/export/."""
    place = Path(stage.task) / str(stage.item)
    artifacts, results = Path("artifacts") / place, Path("results") / place
    qat = artifacts / "qat"
    trained = Trained(
        artifacts / "distilled",
        read_record(results / "distilled/accuracy-torch.json", Accuracy),
        open_dataset(Path("dataset")),
        stage.params.export,
        stage.params.evaluate,
        qat=None if (qat / SKIPPED).exists() else qat,
    )
    with stage.publish(artifacts / "export") as out, stage.publish(results / "export") as records:
        export_student(trained, out, records, stage.state_dir, stage.params.machine.modelopt_python)


if __name__ == "__main__":
    run_stage("export", work)
