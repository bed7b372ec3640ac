"""Architectures by name: Ultralytics' families, local files, and the project's own `micro` family."""

from models.detector import build, build_from_architecture

__all__ = ["build", "build_from_architecture"]
