"""What the lint found, for people and for CI."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.records import Record
from pipeline.text import PlainConsole, printable

Severity = Literal["error", "warning"]
COLOURS: dict[Severity, str] = {"error": "red", "warning": "yellow"}


class Finding(Record):
    """One rule broken in one way, at one or many places."""

    rule: str
    severity: Severity
    found: str
    where: list[str]  # nodes, tensors or the file, by the model's own names
    fix: str
    tensorrt: list[str]  # the versions it holds for


class Report(Record):
    """What is known about one file."""

    file: str
    tensorrt: list[str]
    findings: list[Finding]  # errors first
    quantised: int  # Conv, ConvTranspose, Gemm and MatMul whose data and weights both come from DequantizeLinear
    quantisable: int  # all of these
    sibling: str | None = None  # the file beside it that this pipeline makes for TensorRT

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ready(self) -> bool:
        """Whether no version has an error."""
        return not self.refused_by

    @property
    def refused_by(self) -> list[str]:
        """The versions that have an error."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        return [version for version in self.tensorrt if any(version in finding.tensorrt for finding in errors)]


def show(report: Report, console: PlainConsole) -> None:
    """Print the findings as a table, then the verdict on a line of its own."""
    if report.findings:
        console.print(_table(report))
    if report.quantised:
        console.print(f"INT8: {report.quantised} of {report.quantisable} Conv, ConvTranspose, Gemm and MatMul")
    console.print(_verdict(report), style="bold")
    if report.sibling:
        console.print(
            f"This file is for ONNX Runtime and OpenVINO: TensorRT takes {report.sibling} of the same export."
        )
    console.print("This predicts parsing, not building: missing kernels and memory show only on the device.")


def _table(report: Report) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("rule", "TensorRT", "finding"):
        table.add_column(title, overflow="fold")
    for finding in report.findings:
        rule = Text.assemble((finding.severity, COLOURS[finding.severity]), "\n", finding.rule)
        lines = "\n".join(map(printable, _lines(finding)))  # each on its own: a name may hold a line break
        table.add_row(rule, "\n".join(finding.tensorrt), f"{lines}\n")
    return table


def _lines(finding: Finding) -> list[str]:
    return [f"{_count(finding)}{finding.found}", f"at {_places(finding.where)}", f"-> {finding.fix}"]


def _count(finding: Finding) -> str:
    return f"{len(finding.where)} x " if len(finding.where) > 1 else ""


def _places(where: list[str]) -> str:
    return where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more"


def _verdict(report: Report) -> str:
    errors = sum(finding.severity == "error" for finding in report.findings)
    counts = f"{_plural(errors, 'error')}, {_plural(len(report.findings) - errors, 'warning')}"
    if report.ready:
        return f"READY for TensorRT {' and '.join(report.tensorrt)}: {counts}"
    taken_by = [version for version in report.tensorrt if version not in report.refused_by]
    other = f", ready for {' and '.join(taken_by)}" if taken_by else ""
    return f"NOT READY for TensorRT {' and '.join(report.refused_by)}{other}: {counts}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
