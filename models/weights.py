"""A user's own `.pt`, read without running what is pickled in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.tasks import BaseModel, torch_safe_load

from pipeline.errors import PipelineError


def load_weights(path: Path, kind: type[BaseModel]) -> BaseModel:
    """Load an Ultralytics checkpoint of a kind of model through its restricted unpickler (known classes only).

    Returns:
        The EMA model if the file has one, fp32.

    Raises:
        PipelineError: if the file is damaged, holds anything but known classes, or another kind of model.

    """
    try:
        checkpoint, _ = torch_safe_load(path, safe_only=True)
    except Exception as error:
        raise PipelineError(f"{path} is not a readable Ultralytics checkpoint: {error}") from error
    model: Any = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if type(model) is not kind:
        raise PipelineError(f"{path}: expected a {kind.__name__}, found {type(model).__name__}")
    if not isinstance(getattr(model, "yaml", None), dict):
        raise PipelineError(f"{path}: expected a model with its architecture (model.yaml), found none")
    names = getattr(model, "names", None)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise PipelineError(f"{path}: expected a model with the names of its classes, found none")
    try:
        if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
            raise PipelineError(f"{path} has non-finite weights")
        return model.float()
    except (AttributeError, NotImplementedError, RuntimeError) as error:  # no layers; weights that are sparse or absent
        raise PipelineError(f"{path}: expected a model with dense weights: {error}") from error
