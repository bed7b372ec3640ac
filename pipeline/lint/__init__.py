"""Say on a machine without TensorRT whether its ONNX parser would take a file."""

from pipeline.lint.check import lint
from pipeline.lint.report import Finding, Report

__all__ = ["Finding", "Report", "lint"]
