"""Precision, recall, F1 and confusions of a detector at IoU 0.5, as `yolo val` reports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.average_precision import Array, Truth
from pipeline.evaluation.detect import box_iou
from pipeline.records import DetectionDetails, OperatingPoint

MATCH_IOU: Final = 0.5
RECALLS: Final = 101  # points of a curve in the record, 0 to 1
CONFUSION_CONFIDENCE: Final = 0.25  # of the confusions, as in Ultralytics
BACKGROUND: Final = ""  # in the confusions: no object, or no box


def detection_details(truths: Sequence[Truth], boxes: Sequence[Array], classes: Sequence[str]) -> DetectionDetails:
    """Measure precision, recall and F1 at the confidence with the best mean F1, and which class is taken for which.

    Args:
        truths: One per image; a box at least.
        boxes: One per image, (n, 6): xyxy in pixels of the original image, score, class; best first.
        classes: Their names, by class id.

    Returns:
        Ultralytics' numbers. A detection is right where it is the best scored of its class that overlaps an object by
        IoU 0.5. Classes without an object are left out.

    """
    from ultralytics.utils.metrics import ap_per_class

    rows = np.concatenate(list(boxes))  # (n, 6)
    right = np.concatenate([_matched(truth, found) for truth, found in zip(truths, boxes, strict=True)])
    labels = np.concatenate([truth.class_ids for truth in truths])
    with np.errstate(divide="ignore", invalid="ignore"):
        _, _, precision, recall, f1, _, present, _, _, f1_curves, confidences, precisions = ap_per_class(
            right[:, None], rows[:, 4], rows[:, 5], labels
        )
    best = _best_confidence(f1_curves, confidences)
    at = np.linspace(0, 1, RECALLS)
    return DetectionDetails(
        confidence=best,
        operating_points={
            classes[label]: OperatingPoint(precision=float(p), recall=float(r), f1=float(f))
            for label, p, r, f in zip(present, precision, recall, f1, strict=True)
        },
        precision_at_recall={
            classes[label]: [round(float(value), 4) for value in np.interp(at, confidences, curve)]
            for label, curve in zip(present, precisions, strict=True)
        },
        confusions=_confusions(truths, boxes, classes),
    )


def mean_point(details: DetectionDetails) -> OperatingPoint:
    """Average the classes' precision, recall and F1."""
    points = list(details.operating_points.values())
    precision, recall, f1 = (
        float(np.mean([getattr(point, name) for point in points])) for name in ("precision", "recall", "f1")
    )
    return OperatingPoint(precision=precision, recall=recall, f1=f1)


def _best_confidence(f1_curves: npt.NDArray[np.float64], confidences: npt.NDArray[np.float64]) -> float:
    from ultralytics.utils.metrics import smooth

    return round(float(confidences[smooth(f1_curves.mean(0), 0.1).argmax()]), 4)


def _matched(truth: Truth, rows: Array) -> npt.NDArray[np.bool_]:
    """Say of each detection (n, 6), best first, whether it claims an object of its class: (n,)."""
    overlaps = np.where(
        rows[:, None, 5] == truth.class_ids[None], box_iou(rows[:, :4], truth.boxes), 0.0
    )  # (n, objects)
    right = np.zeros(len(rows), dtype=np.bool_)
    for row in np.flatnonzero((overlaps >= MATCH_IOU).any(axis=1)):
        claimed = int(overlaps[row].argmax())
        right[row] = overlaps[row, claimed] >= MATCH_IOU
        if right[row]:
            overlaps[:, claimed] = 0
    return right


def _confusions(truths: Sequence[Truth], boxes: Sequence[Array], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count true class -> detected class, both with BACKGROUND; zeros are left out."""
    import torch
    from ultralytics.utils.metrics import ConfusionMatrix

    matrix = ConfusionMatrix(names=dict(enumerate(classes)))
    for truth, rows in zip(truths, boxes, strict=True):
        detected = torch.from_numpy(np.ascontiguousarray(rows))
        matrix.process_batch(
            {"cls": detected[:, 5], "conf": detected[:, 4], "bboxes": detected[:, :4]},
            {"cls": torch.from_numpy(truth.class_ids), "bboxes": torch.from_numpy(truth.boxes)},
            conf=CONFUSION_CONFIDENCE,
        )
    names = [*classes, BACKGROUND]
    counts = matrix.matrix.astype(int)  # (detected, true)
    return {
        true: {names[row]: int(counts[row, column]) for row in np.flatnonzero(counts[:, column])}
        for column, true in enumerate(names)
        if counts[:, column].any()
    }
