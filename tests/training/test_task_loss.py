"""The segmenters' loss on maps is Ultralytics' loss."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from ultralytics.utils.loss import SemanticSegmentationLoss, v8DetectionLoss

from models import build
from pipeline.training.task_loss import SegmentationLossOnMaps, build_task_loss


def model_of(task: Any, classes: int) -> Any:
    """Build a tiny model with the arguments that losses read."""
    model = build("micro-n.yaml" if task == "detect" else "micro-n-sem.yaml", task, [str(i) for i in range(classes)], 0)
    model.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, data="", overlap_mask=False)
    return model


def loss_and_gradients(loss: Any, maps: list[Tensor], masks: Tensor) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Return the total, its parts and the gradients with respect to main and auxiliary logits."""
    leaves = [logits.clone().requires_grad_() for logits in maps]
    total, parts = loss(tuple(leaves), {"semantic_mask": masks})
    return total.detach(), parts, list(torch.autograd.grad(total, leaves))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", ["none", "some", "all"])
def test_equals_ultralytics(weighted: bool, ignored: str) -> None:
    model = model_of("segment", 5)
    if weighted:
        model.class_weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1])
    torch.manual_seed(0)
    maps = [torch.randn(2, 5, 16, 24), torch.randn(2, 5, 8, 12)]
    masks = torch.randint(0, 5, (2, 32, 48), dtype=torch.uint8)
    masks[{"none": (slice(0), ...), "some": (0, slice(9)), "all": ...}[ignored]] = 255

    total, parts, gradients = loss_and_gradients(SegmentationLossOnMaps(model), maps, masks)
    expected = loss_and_gradients(SemanticSegmentationLoss(model), maps, masks)

    torch.testing.assert_close(total, expected[0])
    torch.testing.assert_close(parts, expected[1])
    torch.testing.assert_close(gradients, expected[2])


def test_is_chosen_for_segmenters_of_several_classes() -> None:
    assert isinstance(build_task_loss("segment", model_of("segment", 3)), SegmentationLossOnMaps)
    assert type(build_task_loss("segment", model_of("segment", 1))) is SemanticSegmentationLoss
    assert isinstance(build_task_loss("detect", model_of("detect", 3)), v8DetectionLoss)
