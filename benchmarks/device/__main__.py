"""Check everything that needs a GPU, in the order of its worth, on a machine that is at hand for minutes only.

    python -m benchmarks.device --out DIR              # on the GPU machine, 14 minutes at most
    python -m benchmarks.device --out DIR --dry        # anywhere: each step runs small, or says what it needs

Each step is a process with a time limit of its own. Its result is written to DIR/<step>.json as soon as it is there,
with everything that it printed in DIR/<step>.log, so that nothing is lost when the machine goes. DIR/summary.md has a
line per step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.device.steps import STEPS, Step
from pipeline.device import probe

ROOT = Path(__file__).parents[2]
DRY_LIMIT_S = 240


def main(
    out: Annotated[Path, typer.Option(help="Folder for results and logs")],
    dry: Annotated[bool, typer.Option("--dry", help="Run small, on the CPU where there is no GPU")] = False,
    budget_s: Annotated[int, typer.Option(help="No step starts later, and none runs longer")] = 840,
    only: Annotated[list[str] | None, typer.Option(help="Name of a step, repeatable; without it all")] = None,
    coco128: Annotated[Path | None, typer.Option(help="Folder with COCO128's data.yaml, for the last step")] = None,
) -> None:
    """Run the steps and write their results."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "machine.json", {"device": probe().model_dump(), "python": sys.version, "dry": dry})
    start, rows = time.monotonic(), []
    for step in STEPS:
        if only and step.name not in only:
            continue
        left = budget_s - (time.monotonic() - start)
        limit = min(left, DRY_LIMIT_S if dry else step.limit_s)
        row = _run(step, out, limit, dry, coco128) if limit > 0 else {"step": step.name, "result": "no time left"}
        rows.append(row)
        print(_line(row), flush=True)
        _write_summary(out / "summary.md", rows)
    if any(row["result"] in {"failed", "timed out"} for row in rows):
        raise typer.Exit(1)


def _run(step: Step, out: Path, limit_s: float, dry: bool, coco128: Path | None) -> dict[str, Any]:
    """Run one step in a process of its own; what it left in its file counts even if it was stopped."""
    arguments = [sys.executable, "-m", "benchmarks.device.steps", step.name, str(out.absolute())]
    arguments += (["--dry"] if dry else []) + (["--coco128", str(coco128.absolute())] if coco128 else [])
    environment = {**os.environ, "YOLO_OFFLINE": "true", "KINETO_LOG_LEVEL": "99"}
    start = time.monotonic()
    with (out / f"{step.name}.log").open("w") as log:
        process = subprocess.Popen(
            arguments, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(limit_s)
            result = {0: "done", 3: "needs a device"}.get(status, "failed")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            result = "timed out"
    seconds = round(time.monotonic() - start, 1)
    found = json.loads((out / f"{step.name}.json").read_text()) if (out / f"{step.name}.json").exists() else {}
    return {"step": step.name, "result": result, "seconds": seconds, "limit_s": round(limit_s), **found}


def _line(row: dict[str, Any]) -> str:
    facts = {key: value for key, value in row.items() if key not in {"step", "result", "seconds", "limit_s"}}
    return f"{row['step']}: {row['result']} after {row.get('seconds', 0)} s {json.dumps(facts)[:400] if facts else ''}"


def _write_summary(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = ["| step | result | seconds |", "|---|---|---:|"]
    lines += [f"| {row['step']} | {row['result']} | {row.get('seconds', '')} |" for row in rows]
    path.write_text("\n".join(lines) + "\n")


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
