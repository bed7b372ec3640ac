"""Foreground, background, attention and context."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.distill.fgd import FGD

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def fgd(student: list[int] = STUDENT, **options: Any) -> FGD:
    torch.manual_seed(0)
    return FGD(student, TEACHER, **options).double()


PARTS = ["foreground", "background", "attention", "relation"]
OBJECTS = torch.tensor(
    [[0, 0.1, 0.2, 0.45, 0.9], [0, 0.3, 0.35, 0.6, 0.5], [0, 0.8, 0.8, 1.0, 1.0]], dtype=torch.float64
)  # none in the second image


def object_mask(image: int, height: int, width: int) -> list[list[float]]:
    mask = [[0.0] * width for _ in range(height)]
    for index, x1, y1, x2, y2 in OBJECTS.tolist():
        left, right = math.floor(x1 * width), math.ceil(x2 * width)
        top, bottom = math.floor(y1 * height), math.ceil(y2 * height)
        for i in range(top, min(bottom, height - 1) + 1):
            for j in range(left, min(right, width - 1) + 1):
                if index == image:
                    mask[i][j] = max(mask[i][j], 1 / ((bottom - top + 1) * (right - left + 1)))
    return mask


def attention(x: Tensor) -> tuple[Tensor, Tensor]:
    c, h, w = x.shape
    space, channel = (x.abs().sum(dim=0) / c / 0.5).exp(), (x.abs().sum(dim=(1, 2)) / (h * w) / 0.5).exp()
    return h * w * space / space.sum(), c * channel / channel.sum()


def context(block: Any, x: Tensor) -> Tensor:
    h, w = x.shape[1:]
    first, norm, _, last = block.transform
    logits = [
        [(block.mask.weight[0, :, 0, 0] * x[:, i, j]).sum() + block.mask.bias[0] for j in range(w)] for i in range(h)
    ]
    weights = torch.stack([torch.stack(row) for row in logits]).exp()
    pooled = (x * weights / weights.sum()).sum(dim=(1, 2))
    hidden = first.weight[:, :, 0, 0] @ pooled + first.bias
    hidden = (hidden - hidden.mean()) / (hidden.var(unbiased=False) + 1e-5).sqrt()
    hidden = (hidden * norm.weight[:, 0, 0] + norm.bias[:, 0, 0]).clamp(min=0)
    return x + (last.weight[:, :, 0, 0] @ hidden + last.bias)[:, None, None]


def naive(loss: FGD, index: int, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    parts = {name: torch.zeros((), dtype=torch.float64) for name in PARTS}
    for image, (s, t) in enumerate(zip(loss.adapters[index](student), teacher, strict=True)):
        (s_space, s_channel), (t_space, t_channel) = attention(s), attention(t)
        mask = torch.tensor(object_mask(image, *t.shape[1:]), dtype=torch.float64)
        outside = (mask == 0).double() / (mask == 0).sum()
        for c in range(len(t)):
            error = t_channel[c] * t_space * (s[c] - t[c]) ** 2
            parts["foreground"] = parts["foreground"] + (mask * error).sum()
            parts["background"] = parts["background"] + (outside * error).sum()
        difference = (s_channel - t_channel).abs().sum() + (s_space - t_space).abs().sum()
        parts["attention"] = parts["attention"] + difference
        blocks = loss.student_context[index], loss.teacher_context[index]
        parts["relation"] = parts["relation"] + ((context(blocks[0], s) - context(blocks[1], t)) ** 2).sum()
    return {name: value / len(teacher) for name, value in parts.items()}


def trained() -> FGD:
    """Make a loss whose context blocks, which start as the identity, say something."""
    loss = fgd()
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return loss


@pytest.mark.parametrize("part", PARTS)
def test_fgd__equals_the_naive_formula(part: str) -> None:
    loss, teacher = trained(), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher, objects=OBJECTS)[part]
    expected = sum(naive(loss, i, s, t)[part] for i, (s, t) in enumerate(zip(theirs, teacher, strict=True)))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_fgd__zero_when_features_equal() -> None:
    parts = fgd(TEACHER)(maps(2, TEACHER), maps(2, TEACHER), objects=OBJECTS)
    assert set(parts) == set(PARTS)
    assert all(value == 0 for value in parts.values())


@pytest.mark.parametrize("objects", [None, OBJECTS[:0]])
def test_fgd__without_objects_everything_is_background(objects: Tensor | None) -> None:
    parts = fgd()(maps(1, STUDENT), maps(2, TEACHER), objects=objects)
    assert parts["foreground"] == 0
    assert parts["background"] > 0


def test_fgd__an_object_that_fills_the_image_leaves_no_background() -> None:
    objects = torch.tensor([[0, 0, 0, 1, 1], [1, 0, 0, 1, 1]])
    parts = fgd()(maps(1, STUDENT), maps(2, TEACHER), objects=objects)
    assert parts["background"] == 0
    assert parts["foreground"] > 0


def test_fgd__errors_outside_objects_do_not_reach_the_foreground() -> None:
    student, teacher = maps(2, TEACHER), maps(2, TEACHER)
    for s in student:
        s[0, :, :, 0] += 1  # only the first object reaches so far to the left
    right = OBJECTS[1:]
    assert fgd(TEACHER)(student, teacher, objects=right)["foreground"] == 0
    assert fgd(TEACHER)(student, teacher, objects=OBJECTS)["foreground"] > 0


def test_fgd__leaves_out_parts_without_weight() -> None:
    loss = fgd(relation=0.0, background=0.0)
    assert loss.weights == {"foreground": 1e-3, "attention": 5e-4}
    assert set(loss(maps(1, STUDENT), maps(2, TEACHER), objects=OBJECTS)) == {"foreground", "attention"}


def test_fgd__gradient_reaches_student_and_the_trained_layers_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), fgd()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher], objects=OBJECTS).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_fgd__is_float32_under_autocast() -> None:
    student, teacher, loss = [m.float() for m in maps(1, STUDENT)], [m.float() for m in maps(2, TEACHER)], fgd().float()
    expected = loss(student, teacher, objects=OBJECTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher, objects=OBJECTS)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
