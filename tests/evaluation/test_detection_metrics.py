"""Precision, recall, F1 and confusions: Ultralytics' numbers, from arrays."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.evaluation.average_precision import Array, Truth
from pipeline.evaluation.detection_metrics import BACKGROUND, detection_details, mean_point
from tests.evaluation.test_average_precision import CLASSES, as_detections, random_truths


def best_first(rows: Array) -> Array:
    return rows[np.argsort(-rows[:, 4], kind="stable")]


def test_detection_details__equal_ultralytics() -> None:
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import DetMetrics, box_iou

    truths = random_truths(40)
    boxes = [best_first(as_detections(truth, jitter=8, wrong=15)) for truth in truths]
    validator: Any = BaseValidator.__new__(BaseValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10)
    metrics = DetMetrics(names=dict(enumerate(CLASSES)))
    for truth, rows in zip(truths, boxes, strict=True):
        labels, found = torch.from_numpy(truth.class_ids), torch.from_numpy(rows)
        overlaps = box_iou(torch.from_numpy(truth.boxes), found[:, :4])
        right = validator.match_predictions(found[:, 5], labels, overlaps).numpy()
        values = {"tp": right, "conf": rows[:, 4], "pred_cls": rows[:, 5], "target_cls": truth.class_ids}
        metrics.update_stats({**values, "target_img": np.unique(truth.class_ids), "im_name": ""})
    metrics.process()
    details = detection_details(truths, boxes, CLASSES)
    point = mean_point(details)
    assert (point.precision, point.recall) == pytest.approx((metrics.box.mp, metrics.box.mr), abs=1e-9)
    assert list(details.operating_points) == ["a", "b", "c", "d"]
    for index, name in enumerate("abcd"):
        ours = details.operating_points[name]
        assert (ours.precision, ours.recall) == pytest.approx(metrics.class_result(index)[:2], abs=1e-9)
        assert ours.f1 == pytest.approx(metrics.box.f1[index], abs=1e-9)
    assert 0.1 < point.f1 < 0.9


def test_detection_details__of_perfect_detections() -> None:
    truths = random_truths(10)
    details = detection_details(truths, [best_first(as_detections(truth)) for truth in truths], CLASSES)
    point = mean_point(details)
    assert (point.precision, point.recall) == pytest.approx((1, 1), abs=0.02)
    assert all(curve[:100] == [1.0] * 100 for curve in details.precision_at_recall.values())


def test_detection_details__count_what_is_taken_for_what() -> None:
    box, other = [10, 10, 50, 50], [100, 100, 150, 150]
    truth = Truth(200, 200, np.array([0, 1]), np.array([box, other], dtype=np.float32))
    rows = np.array([[*box, 0.9, 2], [160, 10, 190, 40, 0.8, 0], [*other, 0.2, 1]], dtype=np.float32)
    details = detection_details([truth], [rows], CLASSES)
    assert details.confusions == {"a": {"c": 1}, "b": {BACKGROUND: 1}, BACKGROUND: {"a": 1}}


def test_detection_details__without_a_detection_are_zero() -> None:
    truths = random_truths(3)
    details = detection_details(truths, [np.zeros((0, 6), dtype=np.float32)] * 3, CLASSES)
    assert mean_point(details).model_dump() == {"precision": 0, "recall": 0, "f1": 0}
    assert sum(sum(row.values()) for row in details.confusions.values()) == sum(len(t.class_ids) for t in truths)
