"""Training curves as CSV, for `dvc plots`."""

from __future__ import annotations

import csv
from pathlib import Path


def write_history(path: Path, rows: list[dict[str, float]]) -> None:
    """Write one row per epoch or iteration, 6 significant digits; equal runs give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
