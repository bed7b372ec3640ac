"""The FreeKD loss against the released formula, and the properties it must have."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_wavelets import DWTForward
from torch import Tensor, nn
from ultralytics.nn.modules import DFL

from pipeline.distill import build_loss
from pipeline.distill.prompt import masks
from pipeline.errors import PipelineError

CHANNELS, SIZES = [8, 16, 16], [(16, 24), (8, 12), (5, 7)]


@pytest.fixture
def _float64() -> object:
    """Let modules be built in float64: filters cast up from float32 are wrong from the eighth digit on."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def maps(seed: int, channels: list[int] = CHANNELS) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(2, c, h, w).requires_grad_() for c, (h, w) in zip(channels, SIZES, strict=True)]


def freekd(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_loss("freekd", CHANNELS, CHANNELS, **options)


def sharp(loss: nn.Module) -> nn.Module:
    """Give the prompts the size of trained ones: masks all over (0, 1)."""
    for prompt in loss.prompts:
        prompt.data.mul_(50)
    return loss


def total(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack([*parts.values()]).sum()


def released_masks(teacher: Tensor, prompt: Tensor) -> list[Tensor]:
    low, details = DWTForward(J=3, wave="haar", mode="zero")(teacher)
    sums = [low, *(d.sum(dim=2) for d in details)]
    return [(row @ s.flatten(2)).sigmoid().view(len(s), -1, *s.shape[2:]) for row, s in zip(prompt, sums, strict=True)]


def released(student: Tensor, teacher: Tensor, prompt: Tensor) -> Tensor:
    """Write the release's loss of one map as it stands there: two transforms, T-fold expanded tensors."""
    transform = DWTForward(J=3, wave="haar", mode="zero")
    _, student_bands = transform(student)
    _, teacher_bands = transform(teacher)
    marked = released_masks(teacher, prompt)[1:]
    value = torch.zeros(())
    for m, s, t in zip(marked, student_bands, teacher_bands, strict=True):
        mask = m[:, :, None, None]  # (N, T, 1, 1, h, w)
        value = value + (mask * s[:, None] - mask * t[:, None]).abs().mean()
    return value


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("prompts", [1, 2, 6])
def test_freekd__released_equals_the_official_code(prompts: int) -> None:
    loss = sharp(freekd(variant="released", levels=3, prompts=prompts))
    student, teacher = maps(1), maps(2)
    parts = loss(student, [t.detach() for t in teacher])
    assert list(parts) == ["high"]
    parts["high"].backward()
    gradients = [s.grad.clone() for s in student]
    for s in student:
        s.grad = None
    expected = sum(released(s, t.detach(), p) for s, t, p in zip(student, teacher, loss.prompts, strict=True))
    expected.backward()
    torch.testing.assert_close(parts["high"], expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients, [s.grad for s in student], rtol=1e-9, atol=1e-15)


@pytest.mark.usefixtures("_float64")
def test_freekd__prompt_masks_and_their_gradient_equal_the_official_code() -> None:
    for teacher, prompt in zip(maps(2), sharp(freekd()).prompts, strict=True):
        prompt.requires_grad_()
        results = []
        for function in (lambda p, t=teacher: masks(p, t), lambda p, t=teacher: released_masks(t, p)):
            marked = function(prompt)
            prompt.grad = None
            torch.stack([(m * m).sum() for m in marked]).sum().backward()
            results.append((marked, prompt.grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize("variant", ["released", "paper", "plus"])
@pytest.mark.parametrize("mask", ["prompt", "uniform", "score", "prompt*score"])
@pytest.mark.parametrize("scale", ["none", "teacher_std"])
def test_freekd__the_fused_kernel_equals_the_transform(variant: str, mask: str, scale: str) -> None:
    """`db1` is Haar by another name: it takes the path over pytorch_wavelets and autograd."""
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    confidence = [torch.rand_like(t[:, :1]) for t in teacher]
    results = []
    for wavelet in ("haar", "db1"):
        loss = sharp(freekd(variant=variant, mask=mask, scale=scale, wavelet=wavelet, low=0.7, refine_after_steps=0))
        for s in student:
            s.grad = None
        parts = loss(student, teacher, confidence=confidence)
        total(parts).backward()
        results.append((parts, [s.grad for s in student], [p.grad for p in loss.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("_float64")
def test_freekd__paper_starts_as_the_mean_of_the_summed_bands_and_trains_the_gates() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    loss = freekd(variant="paper", mask="uniform")
    parts = loss(student, teacher)
    high, low = 0.0, 0.0
    for s, t in zip(student, teacher, strict=True):
        band, details = DWTForward(J=3, wave="haar", mode="zero")(s - t)
        high += sum(d.abs().sum() for d in details) / s.numel()
        low += band.abs().sum() / s.numel()
    torch.testing.assert_close(parts, {"high": high, "low": low})
    total(parts).backward()
    gate = loss.relation_student.gates[0][-1].weight.grad
    assert gate is not None
    assert gate.abs().sum() > 0


@pytest.mark.usefixtures("_float64")
def test_freekd__the_relational_weight_has_mean_one_whatever_the_gates() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    loss = freekd(variant="paper", mask="uniform")
    for module in (loss.relation_teacher, loss.relation_student):
        for gate in module.gates:
            nn.init.normal_(gate[-1].weight, std=20)
            nn.init.constant_(gate[-1].bias, -3)  # gates that are nearly shut
    omegas = loss._omegas(student, teacher)
    for omega in omegas:
        torch.testing.assert_close(omega.mean(dim=1), torch.ones(2))
        assert omega.std() > 0.01


@pytest.mark.usefixtures("_float64")
def test_freekd__plus_refines_its_masks_after_the_warm_up() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    loss = sharp(freekd(variant="plus", refine_after_steps=2))
    values = [total(loss(student, teacher)).item() for _ in range(4)]
    assert values[0] == values[1]
    assert values[2] == values[3] < values[0]
    expected = 0.0
    for s, t, p in zip(student, teacher, loss.prompts, strict=True):
        low, details = DWTForward(J=3, wave="haar", mode="zero")(s - t)
        marked = [(a * b).mean(dim=1) for a, b in zip(released_masks(t, p), released_masks(s, p), strict=True)]
        expected += (low.square() * marked[0][:, None]).mean()
        expected += sum(
            ((1 + d.abs()).log() * m[:, None, None]).mean() for d, m in zip(details, marked[1:], strict=True)
        )
    torch.testing.assert_close(values[3], expected.item())


def test_freekd__the_score_mask_weighs_by_the_teachers_confidence() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    inside = [torch.zeros_like(t[:, :1]) for t in teacher]
    for c in inside:
        c[:, :, : c.shape[2] // 2] = 1.0
    parts = freekd(mask="score", levels=1)(student, teacher, confidence=inside)
    parts["high"].backward()
    for s in student:
        half = s.shape[2] // 2
        assert s.grad[:, :, : half - 1].abs().sum() > 0
        assert s.grad[:, :, half + 1 :].abs().sum() == 0
    flat = freekd(mask="score")(student, teacher, confidence=[torch.full_like(c, 0.3) for c in inside])
    torch.testing.assert_close(flat, freekd(mask="uniform")(student, teacher))


def test_freekd__spatial_and_head_parts_equal_the_official_configs() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    boxes = maps(3), [b.detach() for b in maps(4)]
    loss = freekd(spatial=5.0, head=1.0)
    parts = loss(student, teacher, boxes=boxes)
    assert loss.weights == {"high": 1.0, "spatial": 5.0, "head": 1.0}
    spatial = sum(F.mse_loss(s, t) for s, t in zip(student, teacher, strict=True))
    head = sum(F.smooth_l1_loss(s, t) for s, t in zip(*boxes, strict=True))
    torch.testing.assert_close((parts["spatial"], parts["head"]), (spatial, head))


@pytest.mark.usefixtures("_float64")
def test_freekd__with_scores_the_spatial_part_is_ultralytics_loss() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    confidence = [torch.rand_like(t[:, :1]) for t in teacher]
    rival = build_loss("ultralytics", CHANNELS, CHANNELS)
    loss = freekd(mask="score", spatial=1.0, adapter="mlp")
    loss.adapters.load_state_dict(rival.projectors.state_dict())
    found = loss(student, teacher, confidence=confidence)["spatial"]
    torch.testing.assert_close(found, rival(student, teacher, confidence=confidence)["l2"])


def test_freekd__heads_of_different_reg_max_are_compared_by_the_distances_they_predict() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    direct = maps(3, [4, 4, 4])
    binned = [torch.randn(2, 32, *b.shape[2:]) for b in direct]
    found = freekd(head=1.0)(student, teacher, boxes=(direct, binned))["head"]
    decoded = [DFL(8)(b.flatten(2)).view(2, 4, *b.shape[2:]) for b in binned]
    expected = sum(F.smooth_l1_loss(d, b) for d, b in zip(direct, decoded, strict=True))
    torch.testing.assert_close(found, expected)


def test_freekd__zero_when_features_equal() -> None:
    for variant in ("released", "paper", "plus"):
        loss = freekd(variant=variant, low=1.0, spatial=1.0)
        student = maps(1)
        parts = loss(student, [s.detach().clone() for s in student])
        total(parts).backward()
        assert len(parts) == 3
        assert all(part == 0 for part in parts.values())
        assert all(s.grad.abs().sum() == 0 for s in student), "the L1 of equal maps has subgradient 0, as the release"


@pytest.mark.parametrize("variant", ["released", "paper", "plus"])
def test_freekd__gradient_reaches_student_and_adapters_only(variant: str) -> None:
    student, teacher, loss = maps(1), maps(2), freekd(variant=variant, scale="teacher_std")
    total(loss(student, [t.detach() for t in teacher])).backward()
    assert all(s.grad.abs().sum() > 0 for s in student)
    assert all(p.grad is not None for p in loss.adapters.parameters())
    assert all(p.grad is None for p in loss.prompts)
    assert all(t.grad is None for t in teacher)


@pytest.mark.usefixtures("_float64")
def test_freekd__prompts_at_initialisation_give_half_the_uniform_loss() -> None:
    student, teacher = maps(1), [t.detach() for t in maps(2)]
    prompt, uniform = freekd(low=1.0), freekd(low=1.0, mask="uniform")
    for name, value in prompt(student, teacher).items():
        torch.testing.assert_close(value, uniform(student, teacher)[name] / 2, rtol=0.02, atol=0)
    for parameter in prompt.prompts:
        parameter.data.zero_()
    for name, value in prompt(student, teacher).items():
        torch.testing.assert_close(value, uniform(student, teacher)[name] / 2)


def test_freekd__shifting_by_a_block_changes_nothing() -> None:
    student, teacher = [[torch.randn(1, c, 16, 16) for c in CHANNELS] for _ in range(2)]
    shifted = [[m.roll((2**3, 2**3), dims=(2, 3)) for m in side] for side in (student, teacher)]
    loss = sharp(freekd(low=1.0))
    for name, value in loss(student, teacher).items():
        torch.testing.assert_close(loss(*shifted)[name], value)


def test_freekd__teacher_std_makes_the_teachers_scale_irrelevant() -> None:
    student, teacher = maps(1), maps(2)
    loss = freekd(scale="teacher_std", mask="uniform", low=1.0, spatial=1.0)
    larger = loss([100 * s for s in student], [100 * t for t in teacher])
    for name, value in loss(student, teacher).items():
        torch.testing.assert_close(larger[name], value)


def test_freekd__is_float32_under_autocast_and_for_half_precision_maps() -> None:
    student, teacher, loss = maps(1), maps(2), freekd(low=1.0, spatial=1.0)
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = loss(student, teacher)
        half = loss([s.half() for s in student], [t.half() for t in teacher])
    assert all(part.dtype == torch.float32 for part in [*parts.values(), *half.values()])
    torch.testing.assert_close(parts, expected)
    torch.testing.assert_close(half, expected, rtol=1e-2, atol=1e-3)


def test_freekd__prompts_have_the_documented_shape() -> None:
    state = freekd(levels=2, prompts=5).state_dict()
    assert [tuple(state[f"prompts.{i}"].shape) for i in range(3)] == [(3, 5, 8), (3, 5, 16), (3, 5, 16)]


def test_freekd__says_which_prompts_do_not_fit() -> None:
    loss = freekd(levels=3)
    other = {str(i): torch.zeros(3, 6, c) for i, c in enumerate(CHANNELS)}
    with pytest.raises(PipelineError, match=r"map 0.*\(3, 6, 8\).*\(4, 6, 8\)"):
        loss.load_prompts(other)


def test_freekd__golden_values() -> None:
    """Values of this version (torch 2.15, float32); a change means that trainings cannot be compared any more."""
    shapes = [(2, c, h, w) for c, (h, w) in zip(CHANNELS, SIZES, strict=True)]
    student = [torch.linspace(-1, 50, math.prod(shape)).sin().view(shape) for shape in shapes]
    teacher = [torch.linspace(-1, 80, math.prod(shape)).sin().view(shape) for shape in shapes]
    found = {}
    for variant in ("released", "paper", "plus"):
        loss = freekd(variant=variant)
        for prompt in loss.prompts:
            prompt.data.copy_(torch.linspace(-0.5, 0.5, prompt.numel()).view_as(prompt))
        found[variant] = [round(value.item(), 5) for value in loss(student, teacher).values()]
    assert found == {"released": [2.88432], "paper": [0.46563, 0.11827], "plus": [1.57103, 39.04164]}
