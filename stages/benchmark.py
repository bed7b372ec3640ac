"""Latency of the teachers and of every student on this device, all measured alternately in one process."""

from pathlib import Path

from pipeline.backends.built import load_built
from pipeline.data.prepared import open_dataset
from pipeline.evaluation.latency import contenders, measure
from pipeline.records import DeviceInfo, read_record, write_record
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write results/latency/<task>/<model>.json."""
    params, artifacts = stage.params, Path("artifacts")
    deployed = {
        name: list(load_built(artifacts / student.task / name, params.benchmark.threads))
        for name, student in params.students.items()
    }
    records = measure(
        contenders(artifacts, params, deployed),
        open_dataset(Path("dataset")).images("test"),
        params.benchmark,
        device=read_record(Path("results/device.json"), DeviceInfo),
        evaluate=params.evaluate,
    )
    with stage.publish(Path("results/latency")) as out:
        for record in records:
            write_record(out / record.model.task / f"{record.model.name}.json", record)


if __name__ == "__main__":
    run_stage("benchmark", work)
