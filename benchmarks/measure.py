"""Time functions alternately in one process, read their peak memory, and record both with commit and machine."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from pipeline.device import probe
from pipeline.text import PlainConsole

RESULTS = Path(__file__).parent / "results"


def alternately(functions: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3) -> dict[str, list[float]]:
    """Run every function once per round, so that a busy moment of the machine hits all of them.

    Returns:
        Milliseconds per function and round, after the warm-up rounds; a GPU is synchronised before and after.

    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in track(range(warmup + rounds), description="measuring", console=PlainConsole(stderr=True)):
        for name, function in functions.items():
            _synchronise()
            start = time.perf_counter()
            function()
            _synchronise()
            if number >= warmup:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def peak_mb(function: Callable[[], object], device: str) -> float:
    """Measure the most that torch's allocator held during a call above what it held before, in 10^6 bytes."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        function()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def summary(times: list[float]) -> dict[str, float]:
    """Give median, 10th and 90th percentile, rounded."""
    deciles = statistics.quantiles(times, n=10)
    return {
        "p50_ms": round(statistics.median(times), 3),
        "p10_ms": round(deciles[0], 3),
        "p90_ms": round(deciles[-1], 3),
    }


def ratio(times: dict[str, list[float]], slow: str, *fast: str) -> float:
    """Divide round by round and give the median: slow / (the fast ones' sum)."""
    rounds = zip(times[slow], *(times[name] for name in fast), strict=True)
    return round(statistics.median(first / sum(rest) for first, *rest in rounds), 3)


def record(name: str, rows: list[dict[str, Any]], folder: Path = RESULTS) -> None:
    """Print the rows and write <folder>/<name>.json."""
    commit = _commit()
    table = Table(*rows[0], title=f"{name} at {commit}")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    PlainConsole(width=160).print(table)
    content = {
        "command": " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "commit": commit,
        "device": probe().model_dump(),
        "torch_threads": torch.get_num_threads(),
        "rows": rows,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {path}")


def options(description: str | None) -> tuple[list[str], Path]:
    """Read what to measure on, by default all that is here, and the folder of the record."""
    here = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=here, action="append", help="repeatable; without it all that are here")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    asked = parser.parse_args()
    return asked.device or here, asked.out


def _commit() -> str:
    """Name HEAD, with -dirty if anything but records has changed since."""
    git = partial(subprocess.run, capture_output=True, text=True, check=False)
    head = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip()
    changed = git(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){RESULTS}"]).stdout
    return f"{head}-dirty" if changed else head


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
