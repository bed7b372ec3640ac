"""What a rule is: how bad, what finds it, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.lint.graph import Graph
from pipeline.lint.report import Severity


class Target(NamedTuple):
    """What the file is checked for."""

    version: tuple[int, int]  # TensorRT's major and minor
    dla: bool


class Place(NamedTuple):
    """Where a rule is broken, in the model's own names, and what was found there; equal `found` are grouped."""

    where: str
    found: str


class Rule(NamedTuple):
    """One line of a table of rules."""

    severity: Severity
    check: Callable[[Graph, Target], Iterator[Place]]
    fix: str
