"""Build what this device's backends need from the ONNX file; a backend that is not here is recorded as skipped."""

from pathlib import Path

from pipeline.checkpoint_info import load_info
from pipeline.export.engine import build_engines
from pipeline.records import DeviceInfo, read_record, write_record
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write artifacts/<task>/<student>/engine/ and results/<task>/<student>/distilled/engine.json."""
    place = Path(stage.task) / str(stage.item)
    artifacts = Path("artifacts") / place
    device = read_record(Path("results/device.json"), DeviceInfo)
    model = load_info(artifacts / "distilled").model_info()
    with stage.publish(artifacts / "engine") as out:
        record = build_engines(artifacts / "export/fp32.onnx", stage.params.engine, device, out, model)
        write_record(Path("results") / place / "distilled/engine.json", record)


if __name__ == "__main__":
    run_stage("engine", work)
