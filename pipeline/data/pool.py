"""Run a function over many files in threads, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(console: Console, what: str, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call `function` for every item on all cores; results in the items' order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(function, items)
        return list(track(results, f"prepare: {what}", len(items), console=console, disable=not console.is_terminal))
