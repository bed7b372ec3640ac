"""Prompts, their masks and the maps rebuilt from masked bands."""

import pytest
import torch

from pipeline.distill.prompt import init_prompts, masks, overlap, prompted
from pipeline.distill.wavelet import dwt


@pytest.mark.parametrize("count", [1, 2, 6])
def test_prompted__is_the_identity_for_zero_prompts(count: int) -> None:
    feature = torch.randn(2, 5, 13, 10)
    rebuilt, marked = prompted(feature, torch.zeros(4, count, 5))
    torch.testing.assert_close(rebuilt, feature)
    assert [tuple(mask.shape) for mask in marked] == [(2, count, h, w) for h, w in [(2, 2), (7, 5), (4, 3), (2, 2)]]


def test_masks__are_between_zero_and_one_and_equal_the_formula() -> None:
    prompt, feature = torch.randn(3, 4, 5), torch.randn(2, 5, 8, 8)
    _, details = dwt(feature, levels=2)
    marked = masks(prompt, feature)
    assert all(((mask > 0) & (mask < 1)).all() for mask in marked)
    first = details[0][:, :, 0] + details[0][:, :, 1] + details[0][:, :, 2]
    expected = (prompt[1] @ first.flatten(2)).sigmoid().view(2, 4, 4, 4)
    torch.testing.assert_close(marked[1], expected)


def test_overlap__equals_the_pairwise_dice() -> None:
    mask = torch.rand(3, 4, 5, 6, dtype=torch.float64)
    pairs = []
    for sample in mask.flatten(2):
        dice = [2 * (a * b).sum() / (a.square().sum() + b.square().sum()) for a in sample for b in sample if a is not b]
        pairs.append(torch.stack([d for d in dice if d < 1 - 1e-12]).mean())
    torch.testing.assert_close(overlap(mask), torch.stack(pairs).mean())


def test_overlap__jaccard_equals_the_papers_formula() -> None:
    mask = torch.rand(3, 4, 5, 6, dtype=torch.float64)
    pairs = []
    for sample in mask.flatten(2):
        for a in sample:
            pairs += [(a * b).sum() / (a.square().sum() + b.square().sum() - (a * b).sum()) for b in sample]
    torch.testing.assert_close(overlap(mask, "jaccard"), torch.stack(pairs).mean())


def test_overlap__is_one_for_equal_masks_and_zero_for_one_prompt() -> None:
    mask = torch.rand(2, 1, 5, 5)
    torch.testing.assert_close(overlap(mask.expand(2, 3, 5, 5)), torch.tensor(1.0))
    assert overlap(mask) == 0


def test_overlap__is_finite_for_masks_that_are_zero_everywhere() -> None:
    mask = torch.zeros(1, 3, 1, 1, requires_grad=True)
    overlap(mask).backward()
    assert overlap(mask) == 0
    assert mask.grad is not None
    assert mask.grad.isfinite().all()


def test_init_prompts__start_every_mask_near_a_half() -> None:
    torch.manual_seed(0)
    (prompt,) = init_prompts([64], levels=3, prompts=6)
    assert prompt.shape == (4, 6, 64)
    assert all((mask - 0.5).abs().max() < 0.25 for mask in masks(prompt, torch.randn(2, 64, 16, 16)))


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_prompted__passes_the_gradient_to_the_prompts_and_not_to_the_map(wavelet: str) -> None:
    feature = torch.randn(1, 5, 8, 8)
    prompt = torch.zeros(3, 2, 5, requires_grad=True)
    rebuilt, _ = prompted(feature, prompt, wavelet)
    rebuilt.square().sum().backward()
    assert prompt.grad is not None
    assert all(row.abs().sum() > 0 for row in prompt.grad)
