"""What a model sees depends on seed, epoch and index alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultralytics.cfg import get_cfg

from pipeline.data.prepared import PreparedDataset
from pipeline.params import Machine, Teacher
from pipeline.training.data import DetectionImages, EpochSampler, build_images, build_train_loader, describe
from pipeline.training.trainer import Job, ultralytics_arguments


@pytest.fixture
def images(mini_dataset: PreparedDataset, mini_recipe: Teacher, cpu: Machine, tmp_path: Path) -> DetectionImages:
    job = Job("micro-n.yaml", mini_recipe, cpu, mini_dataset, tmp_path)
    data = describe(mini_dataset, tmp_path, seed=0)
    return build_images(data, data["train"], get_cfg(overrides=ultralytics_arguments(job)), 8, augment=True, stride=32)


def epoch_of(images: DetectionImages, workers: int, epoch: int, skip: int = 0) -> list[dict[str, Any]]:
    sampler = EpochSampler(len(images), seed=0)
    sampler.restart(skip)
    loader = build_train_loader(images, 8, workers, sampler)
    for _ in range(epoch - skip):
        list(loader)
    batches = list(loader)
    loader.close()
    return batches


def assert_equal(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    for a, b in zip(first, second, strict=True):
        assert a["im_file"] == b["im_file"]
        np.testing.assert_array_equal(a["img"], b["img"])
        np.testing.assert_array_equal(a["bboxes"], b["bboxes"])


def test_train_loader__workers_and_prefetching_change_nothing(images: DetectionImages) -> None:
    assert_equal(epoch_of(images, workers=0, epoch=1), epoch_of(images, workers=2, epoch=1))


def test_train_loader__a_later_start_gives_the_same_epoch(images: DetectionImages) -> None:
    assert_equal(epoch_of(images, workers=0, epoch=2), epoch_of(images, workers=0, epoch=2, skip=2))


def test_train_loader__random_numbers_drawn_elsewhere_change_nothing(images: DetectionImages) -> None:
    first = images[3, 5]
    np.random.seed(1)
    np.testing.assert_array_equal(first["img"], images[3, 5]["img"])
    assert not np.array_equal(first["img"], images[4, 5]["img"]), "an epoch later the augmentation is another"


def test_train_loader__leaves_the_global_generators_alone(images: DetectionImages) -> None:
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    images[0, 0]
    assert np.random.rand() == expected


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_epoch_sampler__ranks_share_every_image(world_size: int) -> None:
    ranks = [EpochSampler(10, seed=0, rank=rank, world_size=world_size) for rank in range(world_size)]
    keys = [list(rank) for rank in ranks]
    assert len({len(of_rank) for of_rank in keys}) == 1
    assert {index for of_rank in keys for _, index in of_rank} == set(range(10))
    assert {epoch for rank in ranks for epoch, _ in rank} == {1}, "the next pass is the next epoch"
