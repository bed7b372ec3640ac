"""Ultralytics' validators, with boxes clipped to the image as evaluation does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.semantic import SemanticSegmentationValidator

from pipeline.tasks import Task


class ClippingValidator(DetectionValidator):
    """Clip what was found to the image, without its padding."""

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: dict[str, Any]) -> None:
        """Score a batch; `bboxes` are (n, 4) xyxy in pixels of the square."""
        for found, (height, width), ((rows, columns), (left, top)) in zip(
            preds, batch["ori_shape"], batch["ratio_pad"], strict=True
        ):
            low = torch.tensor([left, top] * 2).to(found["bboxes"])
            extent = torch.tensor([round(width * columns), round(height * rows)] * 2).to(low)
            found["bboxes"] = torch.minimum(torch.maximum(found["bboxes"], low), low + extent)
        super().update_metrics(preds, batch)


VALIDATORS: dict[Task, type[DetectionValidator]] = {
    "detect": ClippingValidator,
    "segment": SemanticSegmentationValidator,
}
