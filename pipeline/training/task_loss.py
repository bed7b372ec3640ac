"""The tasks' own losses: Ultralytics', with the segmenters' cross-entropy at a fifth of its time on CPUs."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils.loss import SemanticSegmentationLoss

from pipeline.tasks import Task


def build_task_loss(task: Task, model: Any) -> Any:
    """Build the loss that a model of Ultralytics' interface learns its task with.

    Args:
        task: What the model learns.
        model: Detector or segmenter, on its device, with Ultralytics' arguments as `args`.

    Returns:
        A callable: (predictions, batch) to the loss times the batch size, and a dict of its detached parts.

    """
    if task == "segment" and model.model[-1].nc > 1 and next(model.parameters()).device.type == "cpu":
        return SegmentationLossOnMaps(model)
    return model.init_criterion()


class SegmentationLossOnMaps(SemanticSegmentationLoss):
    """Ultralytics' loss to rounding, without turning maps into rows of pixels.

    Ultralytics does that for CUDA; torch's CPU kernel over rows as short as the classes are is five times slower.
    """

    ce: nn.CrossEntropyLoss

    def _ce_loss(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        weight, target = self.ce.weight, masks.long()
        total = F.cross_entropy(logits, target, weight, ignore_index=self.ce.ignore_index, reduction="sum")
        counted = valid.sum() if weight is None else weight[target.reshape(-1)[valid]].sum()
        return total / counted.clamp_min(1)
