"""A detector through a backend: boxes per image, and their average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.backends import Backend
from pipeline.data.prepared import PreparedDataset
from pipeline.evaluation.average_precision import Truth, average_precision
from pipeline.evaluation.detect import Array, detections
from pipeline.evaluation.detection_metrics import detection_details, mean_point
from pipeline.evaluation.inference import Change, answers
from pipeline.params import Evaluate
from pipeline.preprocess import undo
from pipeline.records import DetectionDetails

Scores = dict[str, float | None]


@dataclass(frozen=True)
class Prediction:
    """What a backend found in one image, in pixels of the original image."""

    image: Path
    width: int
    height: int
    boxes: Array  # (n, 6) xyxy, score, class; best first


def score_boxes(
    backend: Backend,
    dataset: PreparedDataset,
    images: Sequence[Path],
    params: Evaluate,
    label: str,
    change: Change | None = None,
) -> tuple[Scores, Scores, DetectionDetails]:
    """Measure a detector: the scores of task detect, AP50-95 per class, and what stands behind them."""
    predictions = predict_boxes(backend, images, params, label, change)
    truths = [truth_of(dataset, found.image, found.width, found.height) for found in predictions]
    boxes = [found.boxes for found in predictions]
    scores = asdict(average_precision(truths, boxes, dataset.info.classes))
    per_class = scores.pop("per_class")
    details = detection_details(truths, boxes, dataset.info.classes)
    return scores | mean_point(details).model_dump(), per_class, details


def predict_boxes(
    backend: Backend,
    images: Sequence[Path],
    params: Evaluate,
    label: str = "predict",
    change: Change | None = None,
) -> list[Prediction]:
    """Detect objects in image files; `answers` explains the arguments and what it raises."""
    found = []
    for answer in answers(backend, images, params.batch_size, label, change):
        rows = detect(backend, answer.outputs[0][None], params)[0]
        boxes = np.concatenate([undo(rows[:, :4], answer.transform), rows[:, 4:]], axis=1)  # (n, 6)
        found.append(Prediction(answer.image, answer.transform.width, answer.transform.height, boxes))
    return found


def detect(backend: Backend, output: Array, params: Evaluate) -> list[Array]:
    """Apply the evaluate section's thresholds to a backend's output: per image (n, 6) in input pixels."""
    return detections(
        output,
        end2end=backend.metadata.end2end,
        score_threshold=params.score_threshold,
        nms_iou=params.nms_iou,
        max_detections=params.max_detections,
    )


def truth_of(dataset: PreparedDataset, image: Path, width: int, height: int) -> Truth:
    """Read an image's labels as boxes in its own pixels."""
    class_ids, boxes = dataset.boxes(image)
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    scale = np.array([width, height] * 2, dtype=np.float32)
    return Truth(width, height, class_ids, np.concatenate([centre - half, centre + half], axis=1) * scale)
