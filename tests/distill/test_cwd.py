"""Channel-wise distillation: every channel a distribution over positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.distill.cwd import CWD

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def cwd(student: list[int] = STUDENT, **options: Any) -> CWD:
    torch.manual_seed(0)
    return CWD(student, TEACHER, **options).double()


def naive(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for n in range(s.shape[0]):
        for c in range(s.shape[1]):
            p, q = (t[n, c] / temperature).exp(), (s[n, c] / temperature).exp()
            p, q = p / p.sum(), q / q.sum()
            total = total + (p * (p / q).log()).sum()
    return temperature**2 * total / (s.shape[0] * s.shape[1])


def test_cwd__equals_the_naive_formula() -> None:
    loss, teacher = cwd(temperature=2.0), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher)["cwd"]
    expected = sum(naive(a(s), t, 2.0) for a, s, t in zip(loss.adapters, theirs, teacher, strict=True))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_cwd__on_scores_compares_them_as_they_are() -> None:
    loss, student, teacher = cwd(on="scores", temperature=4.0), maps(1, TEACHER), maps(2, TEACHER)
    assert loss.reads == "scores"
    assert not list(loss.parameters())
    expected = sum(naive(s, t, 4.0) for s, t in zip(student, teacher, strict=True))
    torch.testing.assert_close(loss(student, teacher)["cwd"], expected, rtol=1e-9, atol=0)


def test_cwd__zero_when_channels_differ_by_a_constant() -> None:
    student, teacher = maps(1, TEACHER), [m + 3 for m in maps(1, TEACHER)]
    torch.testing.assert_close(
        cwd(TEACHER)(student, teacher)["cwd"], torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_cwd__gradient_reaches_student_and_the_adapters_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), cwd()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_cwd__is_float32_under_autocast() -> None:
    student, teacher, loss = [m.float() for m in maps(1, STUDENT)], [m.float() for m in maps(2, TEACHER)], cwd().float()
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
