"""What a model sees depends on seed, epoch and index alone."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ultralytics.cfg import get_cfg

from pipeline.data.prepared import DatasetInfo, PreparedDataset, SplitInfo, open_dataset
from pipeline.params import Machine, Params, Teacher
from pipeline.preprocess import letterbox, load_image, undo, undo_map
from pipeline.tasks import Task
from pipeline.training.data import EpochSampler, SeededImages, build_images, build_train_loader, describe
from pipeline.training.trainer import Job, ultralytics_arguments


@pytest.fixture(params=["detect", "segment"])
def images(
    request: Any, mini_dataset: PreparedDataset, mini_recipes: dict[Task, Teacher], cpu: Machine, tmp_path: Path
) -> SeededImages:
    task: Task = request.param
    job = Job(task, mini_recipes[task].model, mini_recipes[task], cpu, mini_dataset, tmp_path)
    data = describe(mini_dataset, task, tmp_path, seed=0)
    return build_images(data, data["train"], get_cfg(overrides=ultralytics_arguments(job)), 8, augment=True, stride=32)


def epoch_of(images: SeededImages, workers: int, epoch: int, skip: int = 0) -> list[dict[str, Any]]:
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
        label = "semantic_mask" if "semantic_mask" in a else "bboxes"
        np.testing.assert_array_equal(a[label], b[label])


def test_train_loader__workers_and_prefetching_change_nothing(images: SeededImages) -> None:
    assert_equal(epoch_of(images, workers=0, epoch=1), epoch_of(images, workers=2, epoch=1))


def test_train_loader__a_later_start_gives_the_same_epoch(images: SeededImages) -> None:
    assert_equal(epoch_of(images, workers=0, epoch=2), epoch_of(images, workers=0, epoch=2, skip=2))


def test_train_loader__random_numbers_drawn_elsewhere_change_nothing(images: SeededImages) -> None:
    first = images[3, 5]
    np.random.seed(1)
    np.testing.assert_array_equal(first["img"], images[3, 5]["img"])
    assert not np.array_equal(first["img"], images[4, 5]["img"]), "an epoch later the augmentation is another"


def test_train_loader__what_was_loaded_before_changes_nothing(images: SeededImages) -> None:
    order = [(epoch, index) for epoch in range(2) for index in range(6)]
    forward = {key: images[key]["img"] for key in order}
    for key in reversed(order):
        np.testing.assert_array_equal(images[key]["img"], forward[key])


@pytest.mark.parametrize(("batch_size", "sizes"), [(23, [23]), (8, [8, 8, 8]), (7, [7, 7, 7, 3]), (1, [1] * 24)])
def test_train_loader__a_single_image_left_over_waits(images: SeededImages, batch_size: int, sizes: list[int]) -> None:
    """BatchNorm cannot train on one position of one image, as behind DeepLabV3+'s image pooling."""
    loader = build_train_loader(images, batch_size, 0, EpochSampler(len(images), seed=0))
    assert [len(batch["img"]) for batch in loader] == sizes
    assert len(loader) == len(sizes)


def test_train_loader__leaves_the_global_generators_alone(images: SeededImages) -> None:
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


COLOURS = np.array([[20, 20, 20], [230, 30, 30], [30, 230, 30], [30, 30, 230]], np.uint8)  # RGB of each class


@pytest.fixture
def coloured(tmp_path: Path) -> PreparedDataset:
    """Four images of flat patches whose colour is their mask's class, of another shape than the network's input."""
    root = tmp_path / "dataset"
    for folder in ("images", "labels", "masks", "splits"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"images/{index}.png" for index in range(4)]
    for index, name in enumerate(names):
        mask = np.kron(rng.integers(0, 4, (3, 4)), np.ones((32, 32), int)).astype(np.uint8)  # (96, 128)
        cv2.imwrite(str(root / name), COLOURS[mask][..., ::-1])
        cv2.imwrite(str(root / f"masks/{index}.png"), mask)
    counts = SplitInfo(images=4, boxes=0, digest="d")
    info = DatasetInfo(
        source="test", licence="none", classes=[], mask_classes=["grey", "red", "green", "blue"], image_size_px=64,
        splits={"train": counts, "val": counts, "test": counts}, digest="d",
    )  # fmt: skip
    (root / "dataset.json").write_text(info.model_dump_json())
    for split in ("train", "val"):
        (root / f"splits/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return open_dataset(root)


@pytest.mark.parametrize(
    "augment",
    [
        {"fliplr": 1.0},
        {"flipud": 1.0},
        {"mosaic": 1.0},
        {"degrees": 30.0, "translate": 0.2, "scale": 0.4, "shear": 5.0},
        {"perspective": 0.001},
        {"mosaic": 0.5, "fliplr": 0.5, "flipud": 0.5, "scale": 0.5, "translate": 0.2},
    ],
    ids="+".join,
)
def test_train_loader__image_and_mask_stay_aligned(
    coloured: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path, augment: dict[str, float]
) -> None:
    recipe = params.teacher["segment"].model_copy(update={"augment": augment})
    job = Job("segment", "micro-n-sem.yaml", recipe, cpu, coloured, tmp_path)
    data = describe(coloured, "segment", tmp_path, seed=0)
    images = build_images(
        data, data["train"], get_cfg(overrides=ultralytics_arguments(job)), 4, augment=True, stride=32
    )
    compared = 0
    for epoch in range(3):
        for index in range(4):
            sample = images[epoch, index]
            image, mask = sample["img"].numpy().transpose(1, 2, 0).astype(int), sample["semantic_mask"].numpy()
            assert image.shape[:2] == mask.shape == (64, 64)
            nearest = np.abs(image[:, :, None] - COLOURS[None, None]).sum(axis=-1).argmin(axis=-1)
            around = mask.astype(np.uint8), np.ones((5, 5), np.uint8)
            inner = cv2.dilate(*around) == cv2.erode(*around)  # away from borders, where colours are interpolated
            judged = inner & (mask != 255)
            np.testing.assert_array_equal(image[inner & (mask == 255)], 114)  # padding alone is without a label
            assert (nearest == mask)[judged].mean() > 0.99
            compared += int(judged.sum())
    assert compared > 3000


def test_val_images__image_and_mask_stay_aligned(
    coloured: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path
) -> None:
    job = Job("segment", "micro-n-sem.yaml", params.teacher["segment"], cpu, coloured, tmp_path)
    data = describe(coloured, "segment", tmp_path, seed=0)
    images = build_images(data, data["val"], get_cfg(overrides=ultralytics_arguments(job)), 4, augment=False, stride=32)
    for index in range(4):
        sample = images[index]
        image, mask = sample["img"].numpy().transpose(1, 2, 0).astype(int), sample["semantic_mask"].numpy()
        nearest = np.abs(image[:, :, None] - COLOURS[None, None]).sum(axis=-1).argmin(axis=-1)
        assert (nearest == mask)[mask != 255].mean() > 0.95
        assert (mask != 255).sum() == 48 * 64  # 96 x 128 at half its size


def test_train_loader__without_augmentation_shows_what_evaluation_shows(
    coloured: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path
) -> None:
    recipe = params.teacher["segment"].model_copy(update={"augment": {}})
    job = Job("segment", "micro-n-sem.yaml", recipe, cpu, coloured, tmp_path)
    data = describe(coloured, "segment", tmp_path, seed=0)
    images = build_images(
        data, data["train"], get_cfg(overrides=ultralytics_arguments(job)), 4, augment=True, stride=32
    )
    for index, path in enumerate(coloured.images("train")):
        square, transform = letterbox(load_image(path), 64)
        sample = images[0, index]
        np.testing.assert_allclose(sample["img"].numpy() / 255, square, atol=1 / 255)
        inside = undo_map(sample["semantic_mask"].numpy().astype(np.uint8), transform)
        assert (inside == coloured.mask(path)).mean() > 0.95


SHAPES = [(64, 64), (96, 128), (128, 96), (50, 200), (333, 500), (37, 53), (30, 20), (12, 400)]


@pytest.fixture
def shapes(tmp_path: Path) -> PreparedDataset:
    """Noise images of many shapes, with a box and a mask each; val is all of them."""
    root = tmp_path / "shapes"
    for folder in ("images", "labels", "masks", "splits"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"images/{index}.png" for index in range(len(SHAPES))]
    for index, shape in enumerate(SHAPES):
        cv2.imwrite(str(root / names[index]), rng.integers(0, 255, (*shape, 3), np.uint8))
        cv2.imwrite(str(root / f"masks/{index}.png"), rng.integers(0, 2, shape, np.uint8))
        (root / f"labels/{index}.txt").write_text("0 0.5 0.5 0.5 0.4\n")
    counts = SplitInfo(images=len(SHAPES), boxes=len(SHAPES), digest="d")
    info = DatasetInfo(
        source="test", licence="none", classes=["a"], mask_classes=["b", "c"], image_size_px=96,
        splits={"train": counts, "val": counts, "test": counts}, digest="d",
    )  # fmt: skip
    (root / "dataset.json").write_text(info.model_dump_json())
    for split in ("train", "val"):
        (root / f"splits/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return open_dataset(root)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_val_images__are_letterboxed_as_evaluation_does(
    shapes: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path, task: Task
) -> None:
    """To the bit, whatever the shape: the epoch that is chosen is the one that is best where it counts."""
    job = Job(task, "micro-n.yaml", params.teacher[task], cpu, shapes, tmp_path)
    data = describe(shapes, task, tmp_path, seed=0)
    arguments = get_cfg(overrides=ultralytics_arguments(job))
    images = build_images(data, data["val"], arguments, 4, augment=False, stride=32)
    for index, path in enumerate(shapes.images("val")):
        square, transform = letterbox(load_image(path), 96)
        sample = images[index]
        np.testing.assert_array_equal(sample["img"].numpy(), (square * 255).round().astype(np.uint8))
        if task == "detect":
            box = sample["bboxes"][0].numpy() * 96  # centre x, centre y, width, height
            corners = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])[None].astype(np.float32)
            height, width = SHAPES[index]
            expected = np.array([0.25 * width, 0.3 * height, 0.75 * width, 0.7 * height])
            np.testing.assert_allclose(undo(corners, transform)[0], expected, atol=0.6 / transform.scale)
        else:
            labeled = sample["semantic_mask"].numpy() != 255
            assert undo_map(labeled.astype(np.uint8), transform).all()
            assert labeled.sum() == np.prod([max(round(side * transform.scale), 1) for side in SHAPES[index]])
