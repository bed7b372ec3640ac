"""Imitation inside masks that student and teacher choose together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.distill.acam import ACAM

STUDENT, TEACHER, SIZES = [4, 6], [6, 8], [(8, 8), (5, 7)]


def maps(seed: int, channels: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(channels, SIZES, strict=True)
    return [torch.randn(2, c, h, w, dtype=torch.float64, generator=generator) for c, (h, w) in pairs]


def acam(student: list[int] = STUDENT, **options: Any) -> ACAM:
    torch.manual_seed(0)
    return ACAM(student, TEACHER, **options).double()


def projected(layer: Any, x: Tensor) -> Tensor:
    return layer.weight[:, :, 0, 0] @ x


def naive(loss: ACAM, index: int, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    fusion, m_s, m_c = loss.fusions[index], loss.spatial_selectors[index], loss.channel_selectors[index]
    parts = {name: torch.zeros((), dtype=torch.float64) for name in ("spatial", "channel", "diversity")}
    for s, t in zip(loss.adapters[index](student).flatten(2), teacher.flatten(2), strict=True):  # (C, HW) each
        q, k, v = projected(fusion.query, t), projected(fusion.key, s), projected(fusion.value, s)
        attention = (q.T @ k / len(q) ** 0.5).softmax(dim=1)  # (HW, HW)
        fused = (attention @ v.T).T
        spatial, channel = (m_s @ fused).sigmoid(), (m_c @ fused.mean(dim=1)[None]).sigmoid()  # (M, HW), (M, C)
        for mask in spatial:
            parts["spatial"] = parts["spatial"] + ((mask * (t - s)) ** 2).sum() / (len(t) * mask.sum()) / len(spatial)
        for mask in channel:
            error = ((mask[:, None] * (t - s)) ** 2).sum()
            parts["channel"] = parts["channel"] + error / (t.shape[1] * mask.sum()) / len(channel)
        for masks in (spatial, channel):
            above = 2 * sum((a * b).sum() for i, a in enumerate(masks) for j, b in enumerate(masks) if i != j)
            parts["diversity"] = parts["diversity"] + above / (2 * (masks**2).sum())
    return {name: value / len(teacher) for name, value in parts.items()}


@pytest.mark.parametrize("part", ["spatial", "channel", "diversity"])
def test_acam__equals_the_naive_formula(part: str) -> None:
    loss, teacher = acam(masks=3), maps(2, TEACHER)
    for selector in [*loss.spatial_selectors, *loss.channel_selectors]:
        selector.data.mul_(100)  # masks far from 1/2
    ours, theirs = ([m.requires_grad_() for m in maps(1, STUDENT)] for _ in range(2))
    value = loss(ours, teacher)[part]
    expected = sum(naive(loss, i, s, t)[part] for i, (s, t) in enumerate(zip(theirs, teacher, strict=True)))
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    for a, b in zip(torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_acam__squared_errors_are_zero_when_features_equal() -> None:
    parts = acam(TEACHER)(maps(2, TEACHER), maps(2, TEACHER))
    assert parts["spatial"] == parts["channel"] == 0


def test_acam__diversity_of_a_single_mask_is_zero() -> None:
    value = acam(masks=1)(maps(1, STUDENT), maps(2, TEACHER))["diversity"]
    torch.testing.assert_close(value, torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)


def test_acam__attention_never_holds_the_matrix_of_all_positions() -> None:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises where only the plain kernel would do
        acam()(maps(1, STUDENT), maps(2, TEACHER))


def test_acam__leaves_out_parts_without_weight() -> None:
    loss = acam(channel=0.0, diversity=0.5)
    assert loss.weights == {"spatial": 1.0, "diversity": 0.5}
    assert set(loss(maps(1, STUDENT), maps(2, TEACHER))) == {"spatial", "diversity"}


def test_acam__gradient_reaches_student_and_the_trained_layers_only() -> None:
    student, teacher, loss = maps(1, STUDENT), maps(2, TEACHER), acam()
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad is not None and s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.parameters())
    assert all(t.grad is None for t in teacher)


def test_acam__is_float32_under_autocast() -> None:
    student, teacher, loss = (
        [m.float() for m in maps(1, STUDENT)],
        [m.float() for m in maps(2, TEACHER)],
        acam().float(),
    )
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
    for name, value in parts.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["spatial_selectors", "channel_selectors"])
def test_acam__masks_that_close_everywhere_compare_nothing(kind: str) -> None:
    loss = ACAM([8], [8])
    with torch.no_grad():
        for selector in getattr(loss, kind):
            selector.fill_(-1e6)
        for fusion in loss.fusions:
            fusion.value.weight.copy_(torch.eye(8)[..., None, None])
    parts = loss([torch.rand(2, 8, 4, 4, requires_grad=True)], [torch.rand(2, 8, 4, 4)])
    assert parts[kind.removesuffix("_selectors")] == 0
    sum(parts.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters() if p.grad is not None)
