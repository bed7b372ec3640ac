"""Teacher maps rebuilt from masked student maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distill.mgd import MGD

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def mgd(student: list[int] = STUDENT, **options: Any) -> MGD:
    torch.manual_seed(0)
    return MGD(student, TEACHER, **options).double()


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
    visible = (torch.rand(len(t), 1, *t.shape[2:], dtype=torch.float64) >= 0.4).double()
    difference = generated(generate, adapt(s) * visible) - t
    return sum(((image**2).sum() for image in difference), start=torch.zeros(())) / len(t)


def test_mgd__equals_the_naive_formula() -> None:
    loss, teacher = mgd(masked=0.4), maps(2, TEACHER)
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    torch.manual_seed(3)
    value = loss(ours, teacher)["mgd"]
    torch.manual_seed(3)
    expected = torch.zeros((), dtype=torch.float64)
    for adapt, generate, s, t in zip(loss.adapters, loss.generators, theirs, teacher, strict=True):
        expected = expected + naive(adapt, generate, s, t)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_mgd__zero_when_features_equal_nothing_is_hidden_and_the_generator_is_the_identity() -> None:
    loss, positive = mgd(TEACHER, masked=0.0), [m.abs() for m in maps(2, TEACHER)]
    for generate in loss.generators:
        make_identity(generate)
    assert loss(positive, positive)["mgd"] == 0


def test_mgd__hides_the_given_share_of_positions() -> None:
    loss = MGD([2], [2], masked=0.65)
    make_identity(loss.generators[0])
    value = loss([torch.ones(4, 2, 64, 64)], [torch.ones(4, 2, 64, 64)])["mgd"]  # 1 for every hidden value
    assert abs(value / (2 * 64 * 64) - 0.65) < 0.02


def test_mgd__draws_a_new_mask_at_every_call() -> None:
    loss, student, teacher = mgd(), maps(1, STUDENT), maps(2, TEACHER)
    assert loss(student, teacher)["mgd"] != loss(student, teacher)["mgd"]


def test_mgd__gradient_reaches_student_and_the_trained_layers_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), mgd()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_mgd__is_float32_under_autocast() -> None:
    student, teacher, loss = [m.float() for m in maps(1, STUDENT)], [m.float() for m in maps(2, TEACHER)], mgd().float()
    torch.manual_seed(3)
    expected = loss(student, teacher)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
