"""Training curves as CSV, for `dvc plots`, also of a model that is not asked for."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.checkpoint_info import SKIPPED
from pipeline.files import write_text
from pipeline.records import Skipped, write_record


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Write one row per epoch or iteration, 6 significant digits; equal runs give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)


def skip(out: Path, history: Path, reason: str, columns: str = "epoch,val/score") -> None:
    """Leave a note where a model would be, and an empty history: DVC wants every out to be there."""
    write_record(out / SKIPPED, Skipped(skipped=reason))
    write_text(history, f"{columns}\n")
