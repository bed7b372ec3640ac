"""Checkpoints as Ultralytics `.pt` files, for tools that want them. Nothing in the chain reads these."""

from __future__ import annotations

from pathlib import Path

import torch
from ultralytics import __version__

from pipeline.errors import PipelineError
from pipeline.training.checkpoint import load_checkpoint


def export_ultralytics(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint as a `.pt` that stock Ultralytics predicts, validates and trains on with.

    Args:
        checkpoint: Folder with `model.safetensors` and `model.json`.
        out: The file to write; its name ends in `.pt`.

    Raises:
        PipelineError: if `out` has another ending, or the folder is not a checkpoint.

    """
    if out.suffix != ".pt":
        raise PipelineError(f"{out}: Ultralytics recognises its checkpoints by the ending .pt")
    model, info = load_checkpoint(checkpoint)
    arguments = {"task": info.task, "imgsz": info.image_size_px, "model": info.name}
    model.args, model.task = arguments, info.task
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model, "ema": None, "epoch": -1, "train_args": arguments, "version": __version__}, out)
