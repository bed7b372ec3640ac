"""Checkpoints as Ultralytics `.pt` files, for tools that want them. Nothing in the chain reads these."""

from __future__ import annotations

from pathlib import Path

import torch
from ultralytics import __version__

from models.yolo import KINDS
from pipeline.errors import PipelineError
from pipeline.files import replacing
from pipeline.tasks import ULTRALYTICS_TASK
from pipeline.training.checkpoint import load_checkpoint


def export_ultralytics(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint as a `.pt` that stock Ultralytics predicts, validates and trains on with.

    Args:
        checkpoint: Folder with `model.safetensors` and `model.json`.
        out: The file to write, atomically; its name ends in `.pt`.

    Raises:
        PipelineError: if `out` has another ending, or the folder is not a checkpoint of a model of Ultralytics'.

    """
    if out.suffix != ".pt":
        raise PipelineError(f"{out}: Ultralytics recognises its checkpoints by the ending .pt")
    model, info = load_checkpoint(checkpoint)
    if not isinstance(model, KINDS[info.task]):
        architecture = info.model_info().architecture
        raise PipelineError(f"{checkpoint} is a {architecture}, which stock Ultralytics lacks: take its ONNX file")
    task = ULTRALYTICS_TASK[info.task]
    arguments = {"task": task, "imgsz": info.image_size_px, "model": info.name}
    model.args, model.task = arguments, task
    content = {"model": model, "ema": None, "epoch": -1, "train_args": arguments, "version": __version__}
    with replacing(out) as partial:
        torch.save(content, partial)
