"""Ultralytics' squared differences, weighted by the teacher's confidence."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distill.ultralytics import Ultralytics

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def ultralytics(student: list[int] = STUDENT, **options: Any) -> Ultralytics:
    torch.manual_seed(0)
    return Ultralytics(student, TEACHER, **options).double()


def confidences() -> list[Tensor]:
    return [m[:, :1].sigmoid() for m in maps(5, TEACHER)]


def naive(project: Any, s: Tensor, t: Tensor, c: Tensor) -> Tensor:
    first, _, last = project
    hidden = (torch.einsum("oi,nihw->nohw", first.weight[:, :, 0, 0], s) + first.bias[:, None, None]).clamp(min=0)
    projected = torch.einsum("oi,nihw->nohw", last.weight[:, :, 0, 0], hidden) + last.bias[:, None, None]
    total = torch.zeros((), dtype=torch.float64)
    for channel in range(t.shape[1]):
        total = total + (c[:, 0] * (projected[:, channel] - t[:, channel]) ** 2).sum()
    return total / (t.shape[1] * c.sum())


def test_ultralytics__equals_the_naive_formula() -> None:
    loss, teacher = ultralytics(), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher, confidence=confidences())["l2"]
    expected = sum(naive(*row) for row in zip(loss.projectors, theirs, teacher, confidences(), strict=True))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_ultralytics__without_confidence_is_the_mean_squared_error() -> None:
    loss, student, teacher = ultralytics(), maps(1, STUDENT), maps(2, TEACHER)
    expected = sum(F.mse_loss(p(s), t) for p, s, t in zip(loss.projectors, student, teacher, strict=True))
    torch.testing.assert_close(loss(student, teacher)["l2"], expected, rtol=1e-9, atol=0)


def test_ultralytics__positions_without_confidence_do_not_count() -> None:
    loss, student, teacher, confidence = ultralytics(), maps(1, STUDENT), maps(2, TEACHER), confidences()
    for c in confidence:
        c[..., 0] = 0
    expected = loss(student, teacher, confidence=confidence)["l2"]
    for s in student:
        s[..., 0] = 100.0
    torch.testing.assert_close(loss(student, teacher, confidence=confidence)["l2"], expected)


def test_ultralytics__zero_when_the_projection_meets_the_teacher() -> None:
    loss, student = ultralytics(), maps(1, STUDENT)
    teacher = [project(s).detach() for project, s in zip(loss.projectors, student, strict=True)]
    assert loss(student, teacher, confidence=confidences())["l2"] == 0


def test_ultralytics__gradient_reaches_student_and_the_projectors_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), ultralytics()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_ultralytics__is_float32_under_autocast() -> None:
    student, teacher, loss = (
        [m.float() for m in maps(1, STUDENT)],
        [m.float() for m in maps(2, TEACHER)],
        ultralytics().float(),
    )
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
