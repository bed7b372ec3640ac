"""Teacher maps rebuilt from noisy student maps, compared channel by channel."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distill.gdd import GDD

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def gdd(student: list[int] = STUDENT, **options: Any) -> GDD:
    torch.manual_seed(0)
    return GDD(student, TEACHER, **options).double()


def generated(generate: Any, x: Tensor) -> Tensor:
    first, _, last = generate
    hidden = F.conv2d(x, first.weight, first.bias, padding=1).clamp(min=0)
    return F.conv2d(hidden, last.weight, last.bias, padding=1)


def make_identity(generate: Any) -> None:
    """Turn a generator into the identity of non-negative maps."""
    for layer in (generate[0], generate[2]):
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


def naive(adapt: Any, generate: Any, s: Tensor, t: Tensor) -> Tensor:
    noise = torch.randn(len(t), 1, *t.shape[2:], dtype=torch.float64)
    rebuilt, temperature = generated(generate, adapt(s) + noise), 2.0
    total = torch.zeros((), dtype=torch.float64)
    for n in range(len(t)):
        for c in range(t.shape[1]):
            p, q = (t[n, c] / temperature).exp(), (rebuilt[n, c] / temperature).exp()
            p, q = p / p.sum(), q / q.sum()
            total = total + (p * (p / q).log()).sum()
    return temperature**2 * total / (t.shape[0] * t.shape[1])


def test_gdd__equals_the_naive_formula() -> None:
    loss, teacher = gdd(temperature=2.0), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    torch.manual_seed(3)
    value = loss(ours, teacher)["gdd"]
    torch.manual_seed(3)
    expected = torch.zeros((), dtype=torch.float64)
    for adapt, generate, s, t in zip(loss.adapters, loss.generators, theirs, teacher, strict=True):
        expected = expected + naive(adapt, generate, s, t)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gdd__zero_when_the_generator_removes_the_noise() -> None:
    loss, teacher = gdd(TEACHER), [m.abs() for m in maps(2, TEACHER)]
    for generate in loss.generators:
        make_identity(generate)
    torch.manual_seed(3)
    student = [t - torch.randn(len(t), 1, *t.shape[2:], dtype=t.dtype) for t in teacher]
    torch.manual_seed(3)
    value = loss(student, teacher)["gdd"]
    torch.testing.assert_close(value, torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)


def test_gdd__draws_new_noise_at_every_call() -> None:
    loss, student, teacher = gdd(), maps(1, STUDENT), maps(2, TEACHER)
    assert loss(student, teacher)["gdd"] != loss(student, teacher)["gdd"]


def test_gdd__gradient_reaches_student_and_the_trained_layers_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), gdd()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_gdd__is_float32_under_autocast() -> None:
    student, teacher, loss = [m.float() for m in maps(1, STUDENT)], [m.float() for m in maps(2, TEACHER)], gdd().float()
    torch.manual_seed(3)
    expected = loss(student, teacher)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
