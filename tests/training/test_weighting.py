"""The factor on the distillation, step by step."""

import pytest
import torch

from pipeline.training.weighting import Weighting


def step(weighting: Weighting, distance: float) -> float:
    """Run one step of a task with gradient (3, 4) and a distillation with gradient (0, distance) on the same map."""
    x = torch.ones(2, requires_grad=True)
    factor = weighting.next()
    task, distillation = x.view_as(x), x.view_as(x)
    weighting.watch([task], [distillation])
    ((task * torch.tensor([3.0, 4.0])).sum() + factor * distillation[1] * distance).backward()
    return factor


def test_fixed__is_the_weight() -> None:
    weighting = Weighting("fixed", 0.3, steps=4)
    assert [step(weighting, 2.0) for _ in range(4)] == [0.3] * 4


def test_linear__falls_to_zero_over_the_run() -> None:
    weighting = Weighting("linear", 0.4, steps=4)
    assert [step(weighting, 2.0) for _ in range(5)] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


@pytest.mark.parametrize("distance", [0.01, 1.0, 500.0])
def test_balanced__makes_the_weight_the_ratio_of_the_gradients(distance: float) -> None:
    weighting = Weighting("balanced", 0.5, steps=10)
    factors = [step(weighting, distance) for _ in range(10)]
    assert factors[0] == 0.5
    assert [factor * distance for factor in factors[1:]] == pytest.approx([0.5 * 5.0] * 9)


def test_balanced__leaves_out_a_step_whose_gradients_overflowed() -> None:
    weighting = Weighting("balanced", 0.5, steps=10)
    step(weighting, 1.0)
    assert step(weighting, float("inf")) == pytest.approx(2.5)
    assert step(weighting, 1.0) == pytest.approx(2.5)


def test_balanced__goes_on_from_its_state() -> None:
    distances = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    whole = Weighting("balanced", 0.5, steps=6)
    expected = [step(whole, distance) for distance in distances]
    first, second = Weighting("balanced", 0.5, steps=6), Weighting("balanced", 0.5, steps=6)
    found = [step(first, distance) for distance in distances[:3]]
    second.load_state(first.state())
    assert found + [step(second, distance) for distance in distances[3:]] == expected
