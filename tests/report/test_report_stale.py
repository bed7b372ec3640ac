"""Only what no stage makes goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.report.stale import remove_stale_results
from tests.report.conftest import DETECT, SEGMENT


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_remove_stale_results__another_task_and_a_removed_student(make_run: Callable[..., Any]) -> None:
    run = make_run(tasks=DETECT)
    kept = files(run.results)
    make_run(tasks={"detect": ("gone",), **SEGMENT})
    device = run.results / "devices/board/detect-gone.json"
    device.parent.mkdir(parents=True)
    device.write_text("{}")
    removed = remove_stale_results(run.results, run.params)
    assert {str(path.relative_to(run.results)) for path in removed} == {"detect/gone", "segment"}
    left = {name for name in files(run.results) if not name.startswith("latency/")}
    assert left == {name for name in kept if not name.startswith("latency/")} | {"devices/board/detect-gone.json"}
    assert remove_stale_results(run.results, run.params) == []
