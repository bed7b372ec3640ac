"""Imitation inside masks that tokens mark."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.distill.maskd import MasKD

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def maskd(student: list[int] = STUDENT, **options: Any) -> MasKD:
    torch.manual_seed(0)
    return MasKD(student, TEACHER, **options).double()


def masks(tokens: Tensor, x: Tensor) -> Tensor:
    return torch.stack(
        [torch.stack([(x[n] * token[:, None, None]).sum(dim=0) for token in tokens]) for n in range(len(x))]
    ).sigmoid()


def naive(adapt: Any, tokens: Tensor, s: Tensor, t: Tensor, refined: bool) -> Tensor:
    s = adapt(s)
    m = masks(tokens, t)
    if refined:
        m = m * masks(tokens, s).detach()
    total = torch.zeros((), dtype=torch.float64)
    for n in range(t.shape[0]):
        for c in range(t.shape[1]):
            for i in range(len(tokens)):
                total = total + ((m[n, i] * s[n, c] - m[n, i] * t[n, c]) ** 2).sum() / m[n, i].sum() / len(tokens)
    return total / (t.shape[0] * t.shape[1])


def prompts(t: int = 3, levels: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {str(i): torch.randn(1 + levels, t, c, generator=generator) for i, c in enumerate(TEACHER)}


@pytest.mark.parametrize("refined", [False, True])
def test_maskd__equals_the_naive_formula(refined: bool) -> None:
    loss, teacher = maskd(warmup_steps=0 if refined else 1000), maps(2, TEACHER)
    loss.load_prompts(prompts())
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher)["maskd"]
    rows = zip(loss.adapters, loss.tokens, theirs, teacher, strict=True)
    expected = sum(naive(*row, refined) for row in rows)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_maskd__zero_when_features_equal() -> None:
    assert maskd(TEACHER)(maps(2, TEACHER), maps(2, TEACHER))["maskd"] == 0


def test_maskd__refines_after_the_warmup_steps_of_training_only() -> None:
    loss, student, teacher = maskd(warmup_steps=2), maps(1, STUDENT), maps(2, TEACHER)
    first = loss.eval()(student, teacher)["maskd"]
    values = [loss.train()(student, teacher)["maskd"] for _ in range(3)]
    assert values[0] == values[1] == first
    assert values[2] != first
    assert loss.eval()(student, teacher)["maskd"] == values[2]
    assert loss.steps == 3


def test_maskd__state_resumes_the_count_and_the_tokens() -> None:
    loss, resumed, student, teacher = maskd(warmup_steps=1), maskd(warmup_steps=1), maps(1, STUDENT), maps(2, TEACHER)
    loss(student, teacher)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(student, teacher)["maskd"] == loss(student, teacher)["maskd"]


def test_maskd__masks_of_smooth_maps_are_those_of_the_low_band() -> None:
    loss = maskd()
    loss.load_prompts(prompts(levels=2))
    for token, prompt, count in zip(loss.tokens, prompts(levels=2).values(), TEACHER, strict=True):
        value = torch.randn(count, dtype=torch.float64)
        low = value * 2**2  # an orthonormal transform multiplies a constant by 2 per level
        torch.testing.assert_close(token @ value, prompt[0].double() @ low)
        assert token.shape == (3, count)
        assert not token.requires_grad


def test_maskd__gradient_reaches_student_and_the_adapters_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), maskd(warmup_steps=0)
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    loss(student, [t.detach() for t in teacher])["maskd"].backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.adapters.parameters())
    assert all(p.grad is None for p in loss.tokens)
    assert all(t.grad is None for t in teacher)


def test_maskd__is_float32_under_autocast() -> None:
    student, teacher, loss = (
        [m.float() for m in maps(1, STUDENT)],
        [m.float() for m in maps(2, TEACHER)],
        maskd().float(),
    )
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
