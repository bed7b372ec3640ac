"""Haar bands against pytorch_wavelets and against what defines them."""

import pytest
import torch
from pytorch_wavelets import DWTForward

from pipeline.distill.wavelet import haar, inverse_haar

SIZES = [(16, 16), (13, 21), (7, 12), (1, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_haar__equals_pytorch_wavelets(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    low, details = haar(x, levels=3)
    expected_low, expected_details = DWTForward(J=3, wave="haar", mode="zero")(x)
    torch.testing.assert_close(low, expected_low, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(details, expected_details, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_haar__gradient_equals_pytorch_wavelets(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    low, details = haar(x, levels=2)
    weights = [torch.randn_like(band) for band in [low, *details]]
    sum((w * b).sum() for w, b in zip(weights, [low, *details], strict=True)).backward()
    low, details = DWTForward(J=2, wave="haar", mode="zero")(y)
    sum((w * b).sum() for w, b in zip(weights, [low, *details], strict=True)).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_inverse_haar__restores_the_map(size: tuple[int, int], levels: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(inverse_haar(haar(x, levels), *size), x)


def test_haar__keeps_energy() -> None:
    x = torch.randn(2, 3, 13, 21, dtype=torch.float64)
    low, details = haar(x, levels=3)
    torch.testing.assert_close(low.square().sum() + sum(d.square().sum() for d in details), x.square().sum())


def test_haar__computes_half_precision_in_float32() -> None:
    low, details = haar(torch.randn(1, 2, 8, 8, dtype=torch.float16), levels=2)
    assert low.dtype == torch.float32
    assert all(detail.dtype == torch.float32 for detail in details)
