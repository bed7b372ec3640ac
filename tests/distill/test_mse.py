"""The mean squared error of adapted features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.distill.mse import MSE

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def mse(student: list[int] = STUDENT, **options: Any) -> MSE:
    torch.manual_seed(0)
    return MSE(student, TEACHER, **options).double()


def naive(adapt: Any, s: Tensor, t: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    adapted = torch.einsum("oi,nihw->nohw", adapt.weight[:, :, 0, 0], s) + adapt.bias[:, None, None]
    for n in range(len(t)):
        for c in range(t.shape[1]):
            total = total + ((adapted[n, c] - t[n, c]) ** 2).sum()
    return total / t.numel()


def test_mse__equals_the_naive_formula() -> None:
    loss, teacher = mse(), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher)["mse"]
    expected = sum(naive(adapt, s, t) for adapt, s, t in zip(loss.adapters, theirs, teacher, strict=True))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_mse__zero_when_features_equal() -> None:
    assert mse(TEACHER)(maps(2, TEACHER), maps(2, TEACHER))["mse"] == 0


def test_mse__gradient_reaches_student_and_the_adapters_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), mse()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_mse__is_float32_under_autocast() -> None:
    student, teacher, loss = [m.float() for m in maps(1, STUDENT)], [m.float() for m in maps(2, TEACHER)], mse().float()
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
