"""Records to metrics, plots and one HTML page."""

from contextlib import suppress
from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.errors import PipelineError
from pipeline.params_file import load_params
from pipeline.report.build import build_report
from pipeline.report.stale import remove_stale_results
from pipeline.report.views import draw
from pipeline.stage import Stage, run_stage


def tidy() -> None:
    """Remove what an earlier params.yaml left in results/, before `run_stage` digests the inputs."""
    with suppress(PipelineError):  # of params.yaml: `run_stage` reads it again, and says what is wrong
        for removed in remove_stale_results(Path("results"), load_params()):
            print(f"removed {removed}: params.yaml has no such task or student", flush=True)


def work(stage: Stage) -> None:
    """Write reports/."""
    artifacts, dataset = Path("artifacts"), Path("dataset")
    drawings = draw(artifacts, open_dataset(dataset), stage.params)
    build_report(
        Path("results"),
        dataset,
        params=stage.params,
        out=Path("reports"),
        scratch=stage.state_dir,
        drawings=drawings,
    )


if __name__ == "__main__":
    tidy()
    run_stage("report", work)
