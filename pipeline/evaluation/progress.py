"""Progress of what takes long, on standard error: a bar on a terminal, elsewhere a line every 10 seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Final, TypeVar

from rich.progress import Progress

from pipeline.text import PlainConsole

REPORT_S: Final = 10.0  # between two lines

Item = TypeVar("Item")


class Reporter:
    """A bar or lines under one label; `with Reporter("latency") as reporter: reporter.update(0.5, "next")`."""

    def __init__(self, label: str) -> None:
        self.label, self.console = label, PlainConsole(stderr=True)
        self.start = self.last = perf_counter()
        self.bar = Progress(console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(label, total=1.0)

    def __enter__(self) -> Reporter:
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the bar where it is."""
        self.bar.stop()

    def update(self, done: float, what: str = "") -> None:
        """Say how much is done, 0 to 1, and what runs next."""
        self.bar.update(self.task, completed=done)
        if not self.console.is_terminal and perf_counter() - self.last >= REPORT_S:
            self.last = perf_counter()
            seconds = self.last - self.start
            after = f", next {what}" if what else ""
            print(f"{self.label}: {done:.0%} after {seconds:.0f} s{after}", file=sys.stderr, flush=True)


def track(items: Sequence[Item], label: str) -> Iterator[Item]:
    """Yield the items, and say how many of them are done."""
    with Reporter(label) as reporter:
        for index, item in enumerate(items):
            reporter.update(index / len(items))
            yield item
        reporter.update(1.0)
