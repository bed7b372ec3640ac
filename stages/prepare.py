"""Read the dataset, check it, and write the one layout that every later stage reads."""

from pathlib import Path

from pipeline.data.fingerprint import require_unchanged
from pipeline.data.prepare import prepare_dataset
from pipeline.stage import Stage, run_stage


def work(stage: Stage) -> None:
    """Write dataset/."""
    with stage.publish(Path("dataset")) as out:
        prepare_dataset(stage.params.prepare, out)
        require_unchanged(stage.params.prepare.path, Path("results/source.json"))


if __name__ == "__main__":
    run_stage("prepare", work)
