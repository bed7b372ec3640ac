"""Tiny untrained models whose answers depend on the image, and their checkpoints."""

from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.tasks import BaseModel

from models import build, build_from_architecture
from pipeline.params import Export, Int8
from pipeline.tasks import Task
from pipeline.training.checkpoint import save_checkpoint

CLASSES = ["circle", "square", "star"]
SIZE_PX = 64


def awake(name: str, task: Task = "detect", classes: list[str] = CLASSES, end2end: bool | None = None) -> BaseModel:
    """Build a model with BatchNorm statistics that fit its random weights, and in a detector scores near 1/2."""
    torch.manual_seed(0)
    model = build(name, task, classes, seed=0)
    if end2end is not None:
        model = build_from_architecture({**model.yaml, "end2end": end2end}, task, classes)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # one batch settles its statistics
    with torch.no_grad():
        model(torch.rand(4, 3, SIZE_PX, SIZE_PX))
        if task == "detect":
            _calm(model.model[-1])
    return model.eval()


def _calm(head: Any) -> None:
    branches = [(head.cv2, head.cv3)]
    if hasattr(head, "one2one_cv2"):
        branches.append((head.one2one_cv2, head.one2one_cv3))
    for boxes, labels in branches:
        for level in [*boxes, *labels]:
            level[-1].weight.mul_(0.3)
        for level in labels:
            level[-1].bias.zero_()


def save(folder: Path, model: BaseModel, task: Task = "detect", name: str = "toy", size_px: int = SIZE_PX) -> Path:
    """Write a model as a checkpoint, and return its folder."""
    save_checkpoint(
        folder, model, task=task, name=name, role="teacher", image_size_px=size_px, best_epoch=1, made_by="test"
    )
    return folder


def export_params_of(**changes: Any) -> Export:
    """Return a section `export` that makes the fp32 file alone."""
    int8 = Int8(quantizer="onnxruntime", calibration="minmax", percentile=99.99, float_layers=[])
    drops = {"fp32": 0.002, "fp16": 0.002, "int8": 0.01}
    values = {"opset": 17, "dynamic_batch": True, "precisions": ["fp32"], "max_drop": drops}
    values |= {"enforce_max_drop": True, "parity_images": 4}
    return Export(**{**values, "int8": int8, **changes})
