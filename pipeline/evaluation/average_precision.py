"""COCO average precision, from arrays in memory, through faster-coco-eval (the same numbers as pycocotools)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from pipeline.errors import PipelineError

Array = npt.NDArray[np.float32]

MAX_DETECTIONS: Final = 100  # COCO's: of each image and class, the 100 best scored count


@dataclass(frozen=True)
class Truth:
    """The labelled objects of one image, in pixels of the original image."""

    width: int
    height: int
    class_ids: npt.NDArray[np.int64]  # (N,)
    boxes: Array  # (N, 4) xyxy


@dataclass(frozen=True)
class AveragePrecision:
    """0 to 1; None where no such object is labelled."""

    map50_95: float
    map50: float
    map75: float
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    per_class: dict[str, float | None]


def average_precision(truths: list[Truth], found: list[Array], classes: list[str]) -> AveragePrecision:
    """Score detections as COCO does: mean over classes and IoU 0.50:0.05:0.95, 101 recall points.

    Sizes are COCO's: small below 32 x 32, large from 96 x 96 pixels of the original image.

    Args:
        truths: One per image.
        found: One per image, (n, 6): xyxy in pixels of the original image, score, class.
        classes: Their names, by class id.

    Raises:
        PipelineError: if nothing is labelled, since average precision is undefined then.

    """
    if not any(len(truth.class_ids) for truth in truths):
        raise PipelineError(
            f"average precision of {len(truths)} images without a single labelled box is undefined: use a split with "
            "labels, or more images of it"
        )
    labelled = COCO(_coco_truth(truths, classes))
    evaluation = COCOeval_faster(labelled, labelled.loadRes(_coco_results(found)), "bbox", print_function=_silent)
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (10 IoUs, 101 recalls, classes, 4 sizes, 1), -1 where undefined
    return AveragePrecision(
        map50_95=_mean(precision[:, :, :, 0]) or 0.0,
        map50=_mean(precision[0, :, :, 0]) or 0.0,
        map75=_mean(precision[5, :, :, 0]) or 0.0,
        map_small=_mean(precision[:, :, :, 1]),
        map_medium=_mean(precision[:, :, :, 2]),
        map_large=_mean(precision[:, :, :, 3]),
        per_class={name: _mean(precision[:, :, index, 0]) for index, name in enumerate(classes)},
    )


def _mean(precision: npt.NDArray[np.float64]) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _coco_truth(truths: list[Truth], classes: list[str]) -> dict[str, Any]:
    """Write the labels as a COCO dict; ids start at 1, since COCO's code takes an annotation 0 for none."""
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths, start=1):
        for label, (x1, y1, x2, y2) in zip(truth.class_ids.tolist(), truth.boxes.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label + 1, "bbox": box}
            annotations.append({**row, "area": box[2] * box[3], "iscrowd": 0})
    return {
        "images": [{"id": image, "width": t.width, "height": t.height} for image, t in enumerate(truths, start=1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(classes, start=1)],
        "annotations": annotations,
    }


def _coco_results(found: list[Array]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image, rows in enumerate(found, start=1)
        for x1, y1, x2, y2, score, label in rows.tolist()
    ]


def _silent(*_: object) -> None:
    """Take COCO's prints."""
