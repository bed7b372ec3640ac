"""Say what this device is. Runs every time; what follows re-runs only if the answer changed."""

from pathlib import Path

from pipeline.device import probe
from pipeline.records import write_record
from pipeline.stage import Stage, run_stage


def work(_stage: Stage) -> None:
    """Write results/device.json."""
    write_record(Path("results/device.json"), probe())


if __name__ == "__main__":
    run_stage("probe", work)
