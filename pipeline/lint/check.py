"""All rules over one file, for one or several versions of TensorRT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pipeline.errors import PipelineError
from pipeline.export.graph import PRODUCER
from pipeline.lint import (
    control_flow,
    convolution,
    numbers,
    operators,
    platform,
    quantisation,
    restrictions,
    shapes,
    structure,
)
from pipeline.lint.graph import Graph, read_graph
from pipeline.lint.report import Finding, Report
from pipeline.lint.rule import Rule, Target

ENDS: Final = ("10.3", "11.4")  # JetPack 6 as shipped, and the newest version that is supported
MAX_BYTES: Final = 2**31 - 1  # protobuf's limit of one message
RULES: Final[dict[str, Rule]] = {
    **structure.RULES,
    **operators.RULES,
    **restrictions.RULES,
    **convolution.RULES,
    **shapes.RULES,
    **control_flow.RULES,
    **quantisation.RULES,
    **numbers.RULES,
    **platform.RULES,
}


def lint(path: Path, tensorrt: str | Sequence[str] = ENDS, dla: bool = False) -> Report:
    """Predict whether TensorRT's ONNX parser would take a file. It cannot tell whether the builder would.

    Args:
        path: The `.onnx` file; its weights may be in files beside it.
        tensorrt: One version or several, such as `10.3`; supported are 10.3 to 11.4.
        dla: Say as well what a DLA would leave to the GPU.

    Raises:
        PipelineError: if the file is missing or is no ONNX, or a version is not supported.

    """
    versions = [tensorrt] if isinstance(tensorrt, str) else list(tensorrt)
    targets = {version: Target(_version(version), dla) for version in versions}
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        return Report(file=str(path), tensorrt=versions, findings=[_oversized(versions)], quantised=0, quantisable=0)
    graph = read_graph(path)
    found: dict[tuple[str, str], Finding] = {}
    for version, target in targets.items():
        for finding in _check(graph, target):
            known = found.setdefault((finding.rule, finding.found), finding)
            known.tensorrt.append(version)
    findings = sorted(found.values(), key=lambda finding: finding.severity != "error")
    quantised, quantisable = quantisation.count_quantised(graph)
    report = Report(file=str(path), tensorrt=versions, findings=findings, quantised=quantised, quantisable=quantisable)
    unsigned = any(finding.rule == "uint8-quantiser" for finding in findings)
    return report.model_copy(update={"sibling": _sibling(graph)}) if unsigned or not report.ready else report


def _sibling(graph: Graph) -> str | None:
    """Name the file that this pipeline exports for TensorRT beside its INT8 file for other runtimes."""
    properties = {entry.key: entry.value for entry in graph.model.metadata_props}
    ours = graph.model.producer_name == PRODUCER and properties.get("precision") == '"int8"'
    return "int8-tensorrt.onnx" if ours else None


def _check(graph: Graph, target: Target) -> Iterator[Finding]:
    """Yield what each rule finds, equal findings as one."""
    for name, rule in RULES.items():
        places: dict[str, list[str]] = {}
        for place in rule.check(graph, target):
            places.setdefault(place.found, []).append(place.where)
        for found, where in places.items():
            yield Finding(rule=name, severity=rule.severity, found=found, where=where, fix=rule.fix, tensorrt=[])


def _version(text: str) -> tuple[int, int]:
    try:
        version = operators.parse_version(text)
    except ValueError:
        version = (0, 0)
    oldest, newest = (operators.parse_version(end) for end in ENDS)
    if not oldest <= version <= newest:
        raise PipelineError(f"--tensorrt: expected a version from {ENDS[0]} to {ENDS[1]}, got {text!r}")
    return version


def _oversized(versions: list[str]) -> Finding:
    return Finding(
        rule="file-size",
        severity="error",
        found="2 GB or more in one file, which protobuf cannot read",
        where=["the file"],
        fix="save the weights as external data (onnx.save(..., save_as_external_data=True))",
        tensorrt=versions,
    )
