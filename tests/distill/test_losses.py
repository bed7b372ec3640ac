"""What every method has in common, and the errors of building and calling one."""

import pytest
import torch
from torch import Tensor

from pipeline.distill import build_loss
from pipeline.distill.losses import LOSSES
from pipeline.errors import PipelineError
from pipeline.params import Distill

STUDENT, TEACHER, CLASSES = [4, 8], [8, 6], 3
SIZES = [(16, 16), (5, 7)]


def maps(channels: list[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(2, c, h, w, dtype=dtype, requires_grad=True) for c, (h, w) in zip(channels, SIZES, strict=True)]


def inputs(reads: str, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
    if reads == "scores":
        return maps([CLASSES] * 2, dtype), [t.detach() for t in maps([CLASSES] * 2, dtype)]
    return maps(STUDENT, dtype), [t.detach() for t in maps(TEACHER, dtype)]


def test_params__name_the_methods_that_exist() -> None:
    assert set(Distill.model_fields["method"].annotation.__args__) == set(LOSSES)


@pytest.mark.parametrize("method", LOSSES)
def test_every_method__gives_finite_scalar_parts_and_their_weights(method: str) -> None:
    loss = build_loss(method, STUDENT, TEACHER)
    student, teacher = inputs(loss.reads)
    parts = loss(student, teacher)
    assert set(parts) == set(loss.weights)
    assert all(part.shape == () and part.isfinite() for part in parts.values())
    sum(parts.values()).backward()
    assert all(s.grad is not None and s.grad.isfinite().all() for s in student)


@pytest.mark.parametrize("method", LOSSES)
def test_every_method__computes_half_precision_maps_in_float32(method: str) -> None:
    loss = build_loss(method, STUDENT, TEACHER)
    parts = loss(*inputs(loss.reads, torch.bfloat16))
    assert all(part.dtype == torch.float32 for part in parts.values())


@pytest.mark.parametrize("method", LOSSES)
def test_every_method__names_the_map_that_does_not_fit(method: str) -> None:
    loss = build_loss(method, STUDENT, TEACHER)
    student, teacher = inputs(loss.reads)
    with pytest.raises(PipelineError, match=r"map 1: the student's is \(2, \d, 5, 7\), the teacher's \(2, \d, 4, 7\)"):
        loss(student, [teacher[0], teacher[1][:, :, 1:]])
    with pytest.raises(PipelineError, match="the student has 2 maps and the teacher 1"):
        loss(student, teacher[:1])


def test_build_loss__names_the_known_methods_and_the_mismatch() -> None:
    with pytest.raises(PipelineError, match=r"unknown method 'freakd', the known ones are .*freekd"):
        build_loss("freakd", [8], [8])
    with pytest.raises(PipelineError, match="student's head reads 2 maps and the teacher's 3"):
        build_loss("freekd", [8, 8], [8, 8, 8])
    with pytest.raises(PipelineError, match=r"map 0.*the loss was built for 8 and 8 channels"):
        build_loss("freekd", [8], [8])([torch.zeros(1, 4, 8, 8)], [torch.zeros(1, 8, 8, 8)])


def test_build_loss__names_the_known_options() -> None:
    with pytest.raises(PipelineError, match=r"options.cwd.tau: unknown option; cwd has .*temperature \(1.0\)"):
        build_loss("cwd", [8], [8], tau=1.0)
    with pytest.raises(PipelineError, match=r"freekd.variant: Input should be 'released', .* got 'realeased'"):
        build_loss("freekd", [8], [8], variant="realeased")
    with pytest.raises(PipelineError, match=r"freekd.low: Input should be a valid number, got 'much'"):
        build_loss("freekd", [8], [8], low="much")


def test_adapters__start_as_the_identity_where_channels_are_equal() -> None:
    loss = build_loss("freekd", [8], [8])
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(loss.adapters[0](x), x)
