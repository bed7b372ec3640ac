"""Small ONNX files, written as ONNX text."""

from pathlib import Path

import onnx

from pipeline.lint import Report, lint


def write(folder: Path, inputs: str, outputs: str, body: str, constants: str = "", opset: int = 17) -> Path:
    """Write a graph of named nodes, `[name] y = Relu(x)`."""
    text = f'<ir_version: 10, opset_import: ["" : {opset}, "trt" : 1, "mine" : 1]> g ({inputs}) => ({outputs})'
    model = onnx.parser.parse_model(f"{text} <{constants}> {{ {body} }}")
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def broken(report: Report) -> set[str]:
    """Name the rules that a report finds broken."""
    return {finding.rule for finding in report.findings}


def errors(path: Path) -> set[str]:
    """Name the rules of severity error that a file breaks."""
    return {finding.rule for finding in lint(path).findings if finding.severity == "error"}
