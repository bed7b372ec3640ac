"""Class maps against masks: mIoU, pixel accuracy, and boundaries."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from pipeline.backends import Array, Backend, Metadata
from pipeline.data.prepared import IGNORE, DatasetInfo, PreparedDataset, SplitInfo, open_dataset
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.masks import boundary_f, score_masks, segment
from pipeline.params import Evaluate
from pipeline.preprocess import letterbox, load_image
from pipeline.records import ModelInfo

SIZE = 64
CLASSES = ["ground", "cat", "dog", "absent"]
SHAPES = [(48, 64), (90, 60), (64, 64), (33, 121)]
ClassMap = npt.NDArray[np.uint8]
Paint = Callable[[int, ClassMap], ClassMap]  # (number of the image, its mask in the square) -> class map
Make = Callable[[Paint], Backend]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Noise images of different shapes; the first three classes in patches, and a stripe without a label."""
    root = tmp_path_factory.mktemp("masked")
    for folder in ("images", "masks", "splits"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(SHAPES):
        cv2.imwrite(str(root / f"images/{index}.png"), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        patches = rng.integers(0, 3, (4, 4)).astype(np.uint8)
        mask = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
        mask[: height // 6] = IGNORE
        cv2.imwrite(str(root / f"masks/{index}.png"), mask)
    counts = SplitInfo(images=len(SHAPES), boxes=0, digest="split-digest")
    info = DatasetInfo(
        source="test", licence="none", classes=[], mask_classes=CLASSES, image_size_px=SIZE,
        splits=dict.fromkeys(("train", "val", "test"), counts), digest="",
    )  # fmt: skip
    (root / "dataset.json").write_text(info.model_dump_json())
    (root / "splits/test.txt").write_text("".join(f"images/{index}.png\n" for index in range(len(SHAPES))))
    return open_dataset(root)


def squared(mask: ClassMap, shape: tuple[int, int]) -> ClassMap:
    """Bring a mask into the square, as the network would have to answer it."""
    _, transform = letterbox(np.zeros((*shape, 3), np.uint8), SIZE)
    size = round(shape[1] * transform.scale), round(shape[0] * transform.scale)
    square = np.zeros((SIZE, SIZE), np.uint8)
    inside = square[transform.pad_top : transform.pad_top + size[1], transform.pad_left : transform.pad_left + size[0]]
    inside[:] = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return square


@pytest.fixture(scope="module")
def make(masked: PreparedDataset) -> Make:
    """Return a function that makes a segmenter which knows the masks and answers what `paint` makes of them."""
    paths = masked.images("test")
    known = {
        letterbox(load_image(path), SIZE)[0].tobytes(): (index, squared(masked.mask(path), SHAPES[index]))
        for index, path in enumerate(paths)
    }

    def make_backend(paint: Paint) -> Backend:
        def run(images: Array) -> list[npt.NDArray[Any]]:
            maps = np.stack([paint(*known[image.tobytes()]) for image in images]).astype(np.uint8)
            return [maps, np.eye(len(CLASSES), dtype=np.float32)[maps].transpose(0, 3, 1, 2)]

        metadata = Metadata("segment", CLASSES, SIZE, [1], False, "fp32")
        return Backend("torch", "cpu", 1, True, metadata, run)

    return make_backend


def perfect(_: int, mask: ClassMap) -> ClassMap:
    return np.where(mask == IGNORE, 0, mask).astype(np.uint8)


def noisy(index: int, mask: ClassMap) -> ClassMap:
    rng = np.random.default_rng(index)
    wrong = rng.random(mask.shape) < 0.3
    return np.where(wrong, rng.integers(0, len(CLASSES), mask.shape), perfect(index, mask)).astype(np.uint8)


def scores_of(backend: Backend, masked: PreparedDataset, params: Evaluate) -> tuple[dict[str, Any], dict[str, Any]]:
    scores, per_class, _ = score_masks(backend, masked, masked.images("test"), params, "test")
    return scores, per_class


def test_score_masks__one_for_a_network_that_knows_the_masks(
    masked: PreparedDataset, make: Make, evaluate_params: Evaluate
) -> None:
    scores, per_class = scores_of(make(perfect), masked, evaluate_params)
    assert scores["miou"] > 0.9  # masks were shrunk and enlarged again
    assert scores["boundary_f"] > 0.9
    assert per_class["absent"] is None


def test_score_masks__equal_torchmetrics_and_the_formula(
    masked: PreparedDataset, make: Make, evaluate_params: Evaluate
) -> None:
    scores, per_class = scores_of(make(noisy), masked, evaluate_params)
    jaccard = MulticlassJaccardIndex(len(CLASSES), average="none", ignore_index=IGNORE)
    accuracy = MulticlassAccuracy(len(CLASSES), average="micro", ignore_index=IGNORE)
    hit, union, right, total = np.zeros(4), np.zeros(4), 0, 0
    for found in segment(make(noisy), masked.images("test"), 2):
        truth = masked.mask(found.image)
        assert found.classes.shape == truth.shape
        pair = [torch.from_numpy(x.astype(np.int64)) for x in (found.classes, truth)]
        jaccard.update(*pair)
        accuracy.update(*pair)
        a, b = found.classes[truth != IGNORE], truth[truth != IGNORE]
        for kind in range(len(CLASSES)):
            hit[kind] += np.sum((a == kind) & (b == kind))
            union[kind] += np.sum((a == kind) | (b == kind))
        right, total = right + int((a == b).sum()), total + len(b)
    expected = hit[:3] / union[:3]
    assert list(per_class.values())[:3] == pytest.approx(expected)
    assert list(per_class.values())[:3] == pytest.approx(jaccard.compute()[:3].tolist(), abs=1e-6)
    assert scores["miou"] == pytest.approx(expected.mean())
    assert scores["pixel_accuracy"] == pytest.approx(right / total)
    assert scores["pixel_accuracy"] == pytest.approx(float(accuracy.compute()), abs=1e-6)
    assert 0.3 < scores["miou"] < 0.8


def test_score_masks__a_class_that_is_found_and_not_there_costs_the_others(
    masked: PreparedDataset, make: Make, evaluate_params: Evaluate
) -> None:
    found = make(lambda index, mask: np.where(perfect(index, mask) == 1, 3, perfect(index, mask)))
    scores, per_class = scores_of(found, masked, evaluate_params)
    assert per_class["cat"] == 0.0
    assert per_class["absent"] is None
    assert scores["miou"] == pytest.approx(np.mean([per_class[name] for name in ("ground", "cat", "dog")]))


def test_score_masks__ignored_pixels_count_nowhere(
    masked: PreparedDataset, make: Make, evaluate_params: Evaluate
) -> None:
    image = masked.images("test")[SHAPES.index((SIZE, SIZE))]  # no resizing moves the stripe's border
    answers = [
        score_masks(make(lambda _, mask, k=kind: np.where(mask == IGNORE, k, 2)), masked, [image], evaluate_params, "")
        for kind in range(len(CLASSES))
    ]
    assert answers[1:] == answers[:1] * 3


def test_score_masks__without_a_labelled_pixel_is_an_error(
    masked: PreparedDataset, make: Make, evaluate_params: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = PreparedDataset.mask
    monkeypatch.setattr(PreparedDataset, "mask", lambda self, image: np.full_like(mask(self, image), IGNORE))
    with pytest.raises(PipelineError, match="4 images without a single labelled pixel"):
        scores_of(make(lambda *_: np.zeros((SIZE, SIZE), np.uint8)), masked, evaluate_params)


def test_evaluate__writes_a_segmenters_record(masked: PreparedDataset, make: Make, evaluate_params: Evaluate) -> None:
    model = ModelInfo(
        task="segment", name="toy", role="teacher", architecture="toy", params_m=0.1, image_size_px=SIZE, digest="abc"
    )
    accuracy = evaluate(make(noisy), masked, "test", evaluate_params, model=model, size_mb=1.0)
    assert accuracy.main == accuracy.scores["miou"]
    assert list(accuracy.scores) == ["miou", "pixel_accuracy", "boundary_f"]
    assert list(accuracy.per_class) == CLASSES
    assert (accuracy.images, accuracy.dataset) == (4, "split-digest")


def half(column: int, side: int = 100) -> ClassMap:
    """Cut a square into two classes at a column."""
    classes = np.zeros((side, side), np.uint8)
    classes[:, column:] = 1
    return classes


def tolerance_of(radius_px: int, side: int = 100) -> float:
    return radius_px / float(np.hypot(side, side))


def test_boundary_f__one_for_equal_maps_with_a_boundary_and_none_without() -> None:
    noise = np.random.default_rng(0).integers(0, 4, (30, 40)).astype(np.uint8)
    assert boundary_f(noise, noise, 0.0) == 1.0
    assert boundary_f(np.ones((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 0.0075) is None


@pytest.mark.parametrize("radius_px", [1, 3, 6])
@pytest.mark.parametrize("turned", [False, True])
def test_boundary_f__forgives_a_shift_within_the_tolerance_and_no_other(radius_px: int, turned: bool) -> None:
    def score(shift: int) -> float | None:
        maps = half(50 + shift), half(50)
        return boundary_f(*(m.T if turned else m for m in maps), tolerance_of(radius_px))

    assert [score(shift) for shift in (-radius_px, radius_px)] == [1.0, 1.0]
    assert [score(shift) for shift in (-radius_px - 2, radius_px + 2)] == [0.0, 0.0]


def test_boundary_f__the_tolerance_is_one_pixel_at_least() -> None:
    assert boundary_f(half(51), half(50), 0.0) == 1.0
    assert boundary_f(half(53), half(50), 0.0) == 0.0


@pytest.mark.parametrize(("found", "truth"), [(half(50), np.zeros((100, 100), np.uint8)), (half(100), half(50))])
def test_boundary_f__zero_where_one_map_alone_has_a_boundary(found: ClassMap, truth: ClassMap) -> None:
    assert boundary_f(found, truth, 0.0075) == 0.0


def test_boundary_f__is_the_mean_over_classes_of_the_harmonic_mean() -> None:
    truth, found = half(30), half(30)
    truth[:, 70:], found[:, 50:] = 2, 2
    # 0: its boundary is right. 1: one of its two is found, one of two found is right. 2: nothing is right.
    assert boundary_f(found, truth, 0.0075) == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    # 1: all of its boundary is found, half of what is found is right.
    assert boundary_f(found, half(30), 0.0075) == pytest.approx((1.0 + 2 / 3 + 0.0) / 3)


def test_boundary_f__a_wrong_class_on_the_right_boundary_is_wrong() -> None:
    assert boundary_f(half(50) + np.uint8(2), half(50), 0.0075) == 0.0


def test_boundary_f__ignored_pixels_have_no_boundary() -> None:
    truth = half(50)
    truth[:, 40:60] = IGNORE
    assert boundary_f(half(50), truth, 0.0075) is None
    truth = half(50)
    truth[:, 70:] = IGNORE
    found = half(50)
    found[:, 70:] = 0  # a boundary where nothing is labelled
    assert boundary_f(found, truth, 0.0075) == 1.0
