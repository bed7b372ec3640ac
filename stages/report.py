"""Records to metrics, plots and one HTML page."""

from pathlib import Path

from pipeline.data.prepared import open_dataset
from pipeline.params import Params
from pipeline.report.build import build_report
from pipeline.report.stale import remove_stale_results
from pipeline.report.views import draw
from pipeline.stage import Stage, run_stage


def tidy(params: Params) -> None:
    """Remove what an earlier params.yaml left in results/."""
    for removed in remove_stale_results(Path("results"), params):
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
    run_stage("report", work, tidy=tidy)
