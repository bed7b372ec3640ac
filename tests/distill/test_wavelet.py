"""Haar bands against pytorch_wavelets and against what defines them."""

import pytest
import torch
from pytorch_wavelets import DWTForward

from pipeline.distill.wavelet import band_sums, dwt, idwt
from pipeline.errors import PipelineError

SIZES = [(16, 16), (13, 21), (7, 12), (1, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
def test_haar__equals_pytorch_wavelets(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    low, details = dwt(x, levels=3)
    expected_low, expected_details = DWTForward(J=3, wave="haar", mode="zero")(x)
    torch.testing.assert_close(low, expected_low, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(details, expected_details, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_haar__gradient_equals_pytorch_wavelets(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    low, details = dwt(x, levels=2)
    weights = [torch.randn_like(band) for band in [low, *details]]
    sum((w * b).sum() for w, b in zip(weights, [low, *details], strict=True)).backward()
    low, details = DWTForward(J=2, wave="haar", mode="zero")(y)
    sum((w * b).sum() for w, b in zip(weights, [low, *details], strict=True)).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4", "bior2.2"])
def test_idwt__restores_the_map(size: tuple[int, int], levels: int, wavelet: str) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(idwt(dwt(x, levels, wavelet), *size, wavelet), x, rtol=1e-4, atol=1e-5)


def test_haar__keeps_energy() -> None:
    x = torch.randn(2, 3, 13, 21, dtype=torch.float64)
    low, details = dwt(x, levels=3)
    torch.testing.assert_close(low.square().sum() + sum(d.square().sum() for d in details), x.square().sum())


def test_dwt__computes_half_precision_in_float32() -> None:
    low, details = dwt(torch.randn(1, 2, 8, 8, dtype=torch.float16), levels=2)
    assert low.dtype == torch.float32
    assert all(detail.dtype == torch.float32 for detail in details)


@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_dwt__is_float32_under_autocast(wavelet: str) -> None:
    x = torch.randn(1, 2, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bands = dwt(x, 2, wavelet)
        restored = idwt(bands, 16, 16, wavelet)
    torch.testing.assert_close(bands, dwt(x, 2, wavelet))
    torch.testing.assert_close(restored, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wavelet", ["db2", "sym3"])
def test_dwt__other_wavelets_equal_pytorch_wavelets(wavelet: str) -> None:
    x = torch.randn(2, 3, 13, 21)
    torch.testing.assert_close(dwt(x, 2, wavelet)[0], DWTForward(J=2, wave=wavelet, mode="zero")(x)[0])


def test_dwt__names_an_unknown_wavelet() -> None:
    with pytest.raises(PipelineError, match="wavelet 'har' is unknown: expected haar, or a discrete wavelet out of"):
        dwt(torch.zeros(1, 1, 8, 8), 1, "har")


@pytest.mark.parametrize("size", SIZES)
def test_band_sums__of_haar_equal_the_bands_sums(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(band_sums(x, 3), band_sums(x, 3, "db1"), rtol=1e-4, atol=1e-5)


def test_haar__runs_whole_under_torch_compile() -> None:
    x = torch.randn(2, 3, 13, 21)
    compiled = torch.compile(lambda x: idwt(dwt(x, 3), 13, 21), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), x)


def test_dwt__of_other_wavelets_runs_under_torch_compile() -> None:
    x = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(lambda x: dwt(x, 2, "db2")[0], backend="aot_eager")
    torch.testing.assert_close(compiled(x), dwt(x, 2, "db2")[0])
