"""Correlations between and within classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.distill.dist import DIST

STUDENT, TEACHER, SIZES = [6, 8], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def dist(student: list[int] = STUDENT, **options: Any) -> DIST:
    torch.manual_seed(0)
    return DIST(student, TEACHER, **options).double()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.sum() / len(a), b - b.sum() / len(b)
    return (a * b).sum() / ((a**2).sum().sqrt() * (b**2).sum().sqrt() + 1e-8)


def naive(s: Tensor, t: Tensor, activation: str, temperature: float) -> dict[str, Tensor]:
    rows = []
    for x in (s, t):
        values = [
            x[n, :, i, j] / temperature for n in range(len(x)) for i in range(x.shape[2]) for j in range(x.shape[3])
        ]
        rows.append([1 / (1 + (-v).exp()) if activation == "sigmoid" else v.exp() / v.exp().sum() for v in values])
    inter = [1 - correlation(a, b) for a, b in zip(*rows, strict=True)]
    columns = [torch.stack(matrix).unbind(dim=1) for matrix in rows]
    intra = [1 - correlation(a, b) for a, b in zip(*columns, strict=True)]
    return {k: temperature**2 * sum(v) / len(v) for k, v in {"inter": inter, "intra": intra}.items()}


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("part", ["inter", "intra"])
def test_dist__equals_the_naive_formula(activation: str, part: str) -> None:
    loss, teacher = dist(activation=activation, temperature=2.0), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher)[part]
    expected = sum(naive(s, t, activation, 2.0)[part] for s, t in zip(theirs, teacher, strict=True))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_dist__zero_when_scores_equal() -> None:
    for value in dist()(maps(2, TEACHER), maps(2, TEACHER)).values():
        torch.testing.assert_close(value, torch.zeros((), dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_dist__is_finite_for_one_class_and_for_constant_scores(activation: str) -> None:
    loss = dist(activation=activation)
    for logits in ([m[:, :1] for m in maps(1, TEACHER)], [torch.zeros_like(m) for m in maps(1, TEACHER)]):
        student = [m.clone().requires_grad_() for m in logits]
        parts = loss(student, [2 * m for m in logits])
        assert all(value.isfinite() for value in parts.values())
        assert all(g.isfinite().all() for g in torch.autograd.grad(sum(parts.values()), student))


def test_dist__leaves_out_parts_without_weight() -> None:
    loss = dist(inter=0.0, intra=2.0)
    assert loss.weights == {"intra": 2.0}
    assert set(loss(maps(1, TEACHER), maps(2, TEACHER))) == {"intra"}


def test_dist__gradient_reaches_student_only() -> None:
    student, teacher, loss = maps(1, TEACHER), maps(2, TEACHER), dist()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert not list(loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_dist__is_float32_under_autocast() -> None:
    student, teacher, loss = (
        [m.float() for m in maps(1, STUDENT)],
        [m.float() for m in maps(2, TEACHER)],
        dist().float(),
    )
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
