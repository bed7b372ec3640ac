"""Imitation up to the scale and offset of every channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.distill.pkd import PKD

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def pkd(student: list[int] = STUDENT, **options: Any) -> PKD:
    torch.manual_seed(0)
    return PKD(student, TEACHER, **options).double()


def naive(adapt: Any, s: Tensor, t: Tensor) -> Tensor:
    s, n = adapt(s), t[:, 0].numel()
    total = torch.zeros((), dtype=torch.float64)
    for c in range(t.shape[1]):
        a, b = s[:, c].flatten(), t[:, c].flatten()
        a, b = a - a.sum() / n, b - b.sum() / n
        a, b = ((x / ((x**2).sum() / (n - 1)).sqrt().add(1e-6)) for x in (a, b))
        total = total + 0.5 * ((a - b) ** 2).sum() / n
    return total / t.shape[1]


def test_pkd__equals_the_naive_formula() -> None:
    loss, teacher = pkd(), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher)["pkd"]
    expected = sum(naive(adapt, s, t) for adapt, s, t in zip(loss.adapters, theirs, teacher, strict=True))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_pkd__is_one_minus_the_correlation_up_to_the_unbiased_variance() -> None:
    student, teacher = maps(1, TEACHER), maps(2, TEACHER)
    expected = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        n = t[:, 0].numel()
        r = torch.stack(
            [torch.corrcoef(torch.stack([s[:, c].flatten(), t[:, c].flatten()]))[0, 1] for c in range(t.shape[1])]
        )
        expected = expected + (1 - r.mean()) * (n - 1) / n
    torch.testing.assert_close(pkd(TEACHER)(student, teacher)["pkd"], expected, rtol=1e-5, atol=0)


def test_pkd__ignores_scale_and_offset_of_channels() -> None:
    loss, student = pkd(TEACHER), maps(1, TEACHER)
    assert not list(loss.parameters())  # equal channels: no adapter
    value = loss([3 * s + 5 for s in student], student)["pkd"]
    torch.testing.assert_close(value, torch.zeros((), dtype=torch.float64), atol=1e-9, rtol=0)


def test_pkd__gradient_reaches_student_and_the_adapters_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), pkd()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_pkd__is_float32_under_autocast() -> None:
    student, teacher, loss = [m.float() for m in maps(1, STUDENT)], [m.float() for m in maps(2, TEACHER)], pkd().float()
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
