"""The FreeKD loss against the released formula, and the properties it must have."""

import pytest
import torch
from pytorch_wavelets import DWTForward
from torch import Tensor, nn

from pipeline.distill import build_loss
from pipeline.errors import PipelineError

CHANNELS, SIZES = [8, 16, 16], [(16, 16), (8, 8), (5, 7)]


def maps(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(2, c, h, w, dtype=dtype) for c, (h, w) in zip(CHANNELS, SIZES, strict=True)]


def freekd(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_loss("freekd", CHANNELS, CHANNELS, **{"levels": 3, "prompts": 6, "scale": "none", **options})


def released(student: Tensor, teacher: Tensor, prompt: Tensor) -> Tensor:
    """Write the release's loss of one map as it stands there: two transforms, T-fold expanded tensors."""
    transform = DWTForward(J=3, wave="haar", mode="zero")
    _, student_bands = transform(student)
    _, teacher_bands = transform(teacher)
    total = torch.zeros(())
    for level, (s, t) in enumerate(zip(student_bands, teacher_bands, strict=True), start=1):
        n, h, w = len(t), *t.shape[-2:]
        mask = (prompt[level] @ t.sum(dim=2).flatten(2)).sigmoid().view(n, -1, 1, 1, h, w)
        total = total + (mask * s[:, None] - mask * t[:, None]).abs().mean()
    return total


def test_freekd__details_equal_the_released_loss() -> None:
    student, teacher, loss = maps(1), maps(2), freekd()
    expected = sum(released(s, t, p) for s, t, p in zip(student, teacher, loss.prompts, strict=True))
    torch.testing.assert_close(loss(student, teacher)["high"], expected, rtol=1e-5, atol=1e-6)


def test_freekd__zero_when_features_equal() -> None:
    parts = freekd()(maps(1), maps(1))
    assert parts["high"] == 0
    assert parts["low"] == 0


def test_freekd__gradient_reaches_student_and_adapters_only() -> None:
    student, teacher, loss = maps(1), maps(2), freekd(scale="teacher_std")
    for tensor in [*student, *teacher]:
        tensor.requires_grad_()
    sum(loss(student, [t.detach() for t in teacher]).values()).backward()
    assert all(s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.adapters.parameters())
    assert all(p.grad is None for p in loss.prompts)
    assert all(t.grad is None for t in teacher)


def test_freekd__zero_prompts_equal_the_uniform_mask() -> None:
    prompt, uniform = freekd(mask="prompt"), freekd(mask="uniform")
    for parameter in prompt.prompts:
        parameter.data.zero_()
    for name, value in prompt(maps(1), maps(2)).items():
        torch.testing.assert_close(value, uniform(maps(1), maps(2))[name])


def test_freekd__shifting_by_a_block_changes_nothing() -> None:
    size = 2**3
    student, teacher = [[torch.randn(1, c, 16, 16) for c in CHANNELS] for _ in range(2)]
    shifted = [[m.roll((size, size), dims=(2, 3)) for m in side] for side in (student, teacher)]
    loss = freekd()
    for name, value in loss(student, teacher).items():
        torch.testing.assert_close(loss(*shifted)[name], value)


def test_freekd__teacher_std_makes_the_teachers_scale_irrelevant() -> None:
    student, teacher, loss = maps(1), maps(2), freekd(scale="teacher_std", mask="uniform")
    larger = loss([100 * s for s in student], [100 * t for t in teacher])
    for name, value in loss(student, teacher).items():
        torch.testing.assert_close(larger[name], value)


def test_freekd__is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = freekd()(maps(1), maps(2))
    assert all(part.dtype == torch.float32 for part in parts.values())
    torch.testing.assert_close(parts, freekd()(maps(1), maps(2)))


def test_build_loss__adapters_start_as_the_identity_where_channels_are_equal() -> None:
    loss = freekd()
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(loss.adapters[0](x), x)


def test_build_loss__names_the_known_methods_and_the_mismatch() -> None:
    with pytest.raises(PipelineError, match=r"unknown method 'freakd', the known ones are .*freekd"):
        build_loss("freakd", [8], [8])
    with pytest.raises(PipelineError, match="student's head reads 2 maps and the teacher's 3"):
        build_loss("freekd", [8, 8], [8, 8, 8])
