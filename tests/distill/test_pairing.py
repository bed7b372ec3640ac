"""Which maps are compared, and on which grid."""

import pytest
import torch

from pipeline.distill.pairing import averaged, common_grid, pair_maps
from pipeline.errors import PipelineError
from pipeline.tasks import TASKS, Task


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("student", "teacher"), [([8, 16, 32], [8, 16, 32]), ([4, 8], [8, 16]), ([4], [8])])
def test_pair_maps__equally_many_are_paired_in_order(task: Task, student: list[int], teacher: list[int]) -> None:
    assert pair_maps(task, student, teacher) == [(index, index) for index in range(len(student))]


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        ([4, 8], [8], [(1, 0)]),  # the nearest stride
        ([4, 8], [1], [(0, 0)]),
        ([8], [4, 8], [(0, 1)]),
        ([16], [4, 8], [(0, 1)]),
        ([8], [4, 16], [(0, 0)]),  # equally near: the finer
        ([2, 16], [8], [(1, 0)]),  # near by ratio: once halved, against twice doubled
        ([4, 8], [4, 8, 16], [(0, 0), (1, 1)]),
        ([8, 16], [4, 8, 16], [(0, 1), (1, 2)]),
        ([4, 8, 16], [8], [(1, 0)]),
    ],
)
def test_pair_maps__a_segmenters_fewer_maps_take_the_nearest_strides(
    student: list[int], teacher: list[int], pairs: list[tuple[int, int]]
) -> None:
    assert pair_maps("segment", student, teacher) == pairs
    assert pair_maps("segment", teacher, student) == [(index, other) for other, index in pairs]


def test_pair_maps__detectors_of_unequal_levels_are_an_error_that_names_the_strides() -> None:
    with pytest.raises(
        PipelineError, match=r"student's .*stride \[8, 16\] and the teacher's \[8, 16, 32\].*one to one"
    ):
        pair_maps("detect", [8, 16], [8, 16, 32])


def test_common_grid__averages_the_finer_map_onto_the_coarser() -> None:
    fine, coarse = torch.rand(2, 3, 8, 12), torch.rand(2, 5, 4, 6)
    blocks = fine.view(2, 3, 4, 2, 6, 2).mean(dim=(3, 5))
    for pair, expected in (((fine, coarse), (blocks, coarse)), ((coarse, fine), (coarse, blocks))):
        torch.testing.assert_close(common_grid(*pair), expected)


def test_common_grid__equal_grids_are_left_as_they_are() -> None:
    first, second = torch.rand(2, 3, 5, 7), torch.rand(2, 4, 5, 7)
    assert all(a is b for a, b in zip(common_grid(first, second), (first, second), strict=True))


def test_common_grid__takes_the_coarser_of_each_side() -> None:
    first, second = torch.rand(1, 1, 8, 2), torch.rand(1, 1, 4, 6)
    assert [tuple(x.shape[2:]) for x in common_grid(first, second)] == [(4, 2), (4, 2)]


def test_averaged__keeps_the_mean_and_passes_the_gradient() -> None:
    x = torch.rand(1, 2, 8, 8, requires_grad=True)
    small = averaged(x, (2, 4))
    torch.testing.assert_close(small.mean(), x.mean())
    small.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 8))
