"""Architectures by name: Ultralytics' families, local files, segmentation_models_pytorch, the own `micro` families."""

import pipeline  # noqa: F401  sets what Ultralytics reads when it is imported
from models.build import build, build_from_architecture, load_trained

__all__ = ["build", "build_from_architecture", "load_trained"]
