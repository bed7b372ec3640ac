import contextlib
import io
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation import average_precision as module
from pipeline.evaluation.average_precision import Array, Truth, average_precision

CLASSES = ["a", "b", "c", "d", "e"]
NOTHING = np.zeros((0, 6), dtype=np.float32)


def random_truths(count: int, smallest: float = 5, largest: float = 200) -> list[Truth]:
    """Boxes of the classes a to d; none is an e."""
    rng = np.random.default_rng(0)
    truths = []
    for _ in range(count):
        objects = int(rng.integers(1, 8))
        corner, side = rng.uniform(0, 400, (objects, 2)), rng.uniform(smallest, largest, (objects, 2))
        boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
        truths.append(Truth(640, 640, rng.integers(0, 4, objects), boxes))
    return truths


def as_detections(truth: Truth, jitter: float = 0.0, wrong: int = 0) -> Array:
    rng = np.random.default_rng(len(truth.boxes))
    boxes = truth.boxes + rng.normal(0, 1, truth.boxes.shape) * jitter
    right = np.concatenate([boxes, rng.uniform(0, 1, (len(boxes), 1)), truth.class_ids[:, None]], axis=1)
    corner = rng.uniform(0, 400, (wrong, 2))
    scores, labels = rng.uniform(0, 0.6, (wrong, 1)), rng.integers(0, 5, (wrong, 1))
    extra = np.concatenate([corner, corner + rng.uniform(5, 200, (wrong, 2)), scores, labels], axis=1)
    return np.concatenate([right, extra]).astype(np.float32)


@pytest.mark.parametrize("wrong", [20, 700])  # 700: more than the 100 per image and class that count
def test_average_precision__equals_pycocotools(wrong: int) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths = random_truths(30)
    found = [as_detections(truth, jitter=6, wrong=wrong) for truth in truths]
    score = average_precision(truths, found, CLASSES)
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = COCO()
        labelled.dataset = module._coco_truth(truths, CLASSES)
        labelled.createIndex()
        reference = COCOeval(labelled, labelled.loadRes(module._coco_results(found)), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    values = list(asdict(score).values())[:6]
    np.testing.assert_allclose(values, reference.stats[:6], rtol=0, atol=1e-9)
    per_class = reference.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    np.testing.assert_allclose([score.per_class[name] for name in "abcd"], per_class[:4], rtol=0, atol=1e-9)
    assert 0.05 < score.map50_95 < 0.95


def test_average_precision__perfect_is_one() -> None:
    truths = random_truths(10)
    score = average_precision(truths, [as_detections(truth) for truth in truths], CLASSES)
    assert (score.map50_95, score.map50, score.map75) == (1.0, 1.0, 1.0)
    assert score.per_class == {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": None}


def test_average_precision__nothing_found_is_zero() -> None:
    truths = random_truths(10)
    score = average_precision(truths, [NOTHING] * 10, CLASSES)
    assert (score.map50_95, score.map50, score.map75) == (0.0, 0.0, 0.0)


def test_average_precision__wrong_class_is_zero() -> None:
    truths = random_truths(10)
    found = [as_detections(truth) for truth in truths]
    for rows in found:
        rows[:, 5] = 4
    assert average_precision(truths, found, CLASSES).map50 == 0.0


def test_average_precision__none_where_no_object_of_that_size() -> None:
    truths = random_truths(5, smallest=40, largest=80)
    score = average_precision(truths, [as_detections(truth) for truth in truths], CLASSES)
    assert (score.map_small, score.map_medium, score.map_large) == (None, 1.0, None)


def test_average_precision__undefined_without_labels() -> None:
    empty = Truth(10, 10, np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=np.float32))
    with pytest.raises(PipelineError, match="2 images without a single labelled box"):
        average_precision([empty, empty], [NOTHING, NOTHING], CLASSES)
