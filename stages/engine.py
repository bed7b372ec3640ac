"""Build what this device's backends need from the ONNX files; a backend that is not here is recorded as skipped."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.export.engine import EngineJob, build_engines
from pipeline.export.gate import Trained
from pipeline.records import Accuracy, DeviceInfo, read_record
from pipeline.stage import STATE, Stage, run_stage


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/engine/ and results/<task>/<student>/engine/."""
    place = Path(stage.task) / str(stage.item)
    artifacts, results = Path("artifacts") / place, Path("results") / place
    trained = Trained(
        artifacts / "distilled",
        read_record(results / "distilled/accuracy-torch.json", Accuracy),
        open_dataset(Path("dataset")),
        stage.params.export,
        stage.params.evaluate,
    )
    device = read_record(Path("results/device.json"), DeviceInfo)
    with stage.publish(artifacts / "engine") as out, stage.publish(results / "engine") as records:
        job = EngineJob(artifacts / "export", stage.params.engine, device, out, STATE / "timing-caches")
        build_engines(trained, job, records, stage.state_dir)


if __name__ == "__main__":
    run_stage("engine", work)
