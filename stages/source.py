"""Check params.yaml and fingerprint the data that it names. Runs every time; `prepare` re-runs if they changed."""

from pathlib import Path

from pipeline.data.fingerprint import fingerprint
from pipeline.preflight import preflight
from pipeline.records import write_record
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write results/source.json."""
    preflight(stage.params)
    write_record(Path("results/source.json"), fingerprint(stage.params.prepare.path))


if __name__ == "__main__":
    run_stage("source", work)
