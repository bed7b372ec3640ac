from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.utils.nms import non_max_suppression

from pipeline.evaluation.detect import Array, box_iou, detections
from pipeline.preprocess import letterbox, load_image


def random_output(seed: int, classes: int, anchors: int, images: int = 2) -> Array:
    rng = np.random.default_rng(seed)
    output = np.empty((images, 4 + classes, anchors), dtype=np.float32)
    output[:, :2] = rng.uniform(0, 640, (images, 2, anchors))
    output[:, 2:4] = rng.uniform(2, 200, (images, 2, anchors))
    output[:, 4:] = rng.uniform(0, 1, (images, classes, anchors)) ** 6
    return output


def ours(
    output: Array, score: float, iou: float = 0.7, most: int = 300, end2end: bool = False, several: bool = True
) -> list[Array]:
    return detections(
        output, end2end=end2end, score_threshold=score, nms_iou=iou, max_detections=most, multi_label=several
    )


def theirs(output: Array, score: float, iou: float = 0.7, most: int = 300, several: bool = True) -> list[Array]:
    kept = non_max_suppression(torch.from_numpy(output.copy()), score, iou, multi_label=several, max_det=most)
    return [rows.numpy() for rows in kept]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("classes", "anchors", "score", "iou", "most"),
    [(3, 400, 0.25, 0.7, 300), (80, 300, 0.5, 0.45, 300), (1, 2000, 0.001, 0.7, 300), (5, 600, 0.05, 0.5, 7)],
)
@pytest.mark.parametrize("several", [True, False])
def test_detections__equal_ultralytics_on_random_outputs(
    seed: int, classes: int, anchors: int, score: float, iou: float, most: int, several: bool
) -> None:
    output = random_output(seed, classes, anchors)
    expected = theirs(output, score, iou, most, several)
    found = ours(output, score, iou, most, several=several)
    for rows, expected_rows in zip(found, expected, strict=True):
        np.testing.assert_array_equal(rows, expected_rows)


def test_detections__one_anchor_gives_several_classes_or_the_best() -> None:
    output = np.array([[[32], [32], [10], [10], [0.9], [0.8], [0.1]]], dtype=np.float32)
    (rows,) = ours(output, 0.25)
    np.testing.assert_allclose(rows, [[27, 27, 37, 37, 0.9, 0], [27, 27, 37, 37, 0.8, 1]])
    (best,) = ours(output, 0.25, several=False)
    np.testing.assert_allclose(best, [[27, 27, 37, 37, 0.9, 0]])


def test_detections__overlapping_boxes_of_one_class_leave_the_best() -> None:
    output = np.array([[[32, 33], [32, 32], [20, 20], [20, 20], [0.6, 0.9]]], dtype=np.float32)
    (rows,) = ours(output, 0.25)
    assert rows[:, 4].tolist() == pytest.approx([0.9])


def test_detections__nothing_above_the_threshold() -> None:
    (rows,) = ours(np.zeros((1, 7, 50), dtype=np.float32), 0.25)
    assert rows.shape == (0, 6)


def test_detections__end2end_is_thresholded_only() -> None:
    box = [10, 10, 30, 30]
    output = np.array([[[*box, 0.9, 1], [*box, 0.8, 1], [*box, 0.2, 0]]], dtype=np.float32)
    (rows,) = ours(output, 0.25, end2end=True)
    np.testing.assert_array_equal(rows, output[0, :2])
    (rows,) = ours(output, 0.25, most=1, end2end=True)
    np.testing.assert_array_equal(rows, output[0, :1])


def test_box_iou__known_values() -> None:
    box = np.array([[0, 0, 10, 10]], dtype=np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]], dtype=np.float32)
    np.testing.assert_allclose(box_iou(box, others), [[1, 1 / 3, 0, 0]], rtol=1e-6)
    empty = np.zeros((1, 4), dtype=np.float32)
    assert box_iou(empty, empty) == 0


@pytest.mark.shared
@pytest.mark.parametrize("score", [0.25, 0.001])
def test_detections__equal_ultralytics_on_trained_weights(shared_folder: Path, score: float) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from models.weights import load_weights

    model = load_weights(shared_folder / "weights/yolov8n-from-int8.pt", DetectionModel).eval().fuse(verbose=False)
    paths = sorted((shared_folder / "data/coco128/images/val2017").glob("*.jpg"))[:3]
    images = np.stack([letterbox(load_image(path), 320)[0] for path in paths])
    with torch.inference_mode():
        output = model(torch.from_numpy(images))[0].numpy()
    for several in (True, False):
        found, expected = ours(output, score, several=several), theirs(output, score, several=several)
        assert sum(map(len, found)) > 10
        for rows, expected_rows in zip(found, expected, strict=True):
            np.testing.assert_array_equal(rows, expected_rows)
