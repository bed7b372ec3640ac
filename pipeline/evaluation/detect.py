"""Network output to boxes: threshold, and class-aware NMS where the head needs it. The same on every runtime."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

MAX_CANDIDATES: Final = 30_000  # per image before NMS, as in Ultralytics
CLASS_OFFSET: Final = np.float32(7680)  # shifts classes apart, so that one NMS serves all; also Ultralytics' value
BLOCK: Final = 64  # boxes per NMS step: the fastest of 32 to 512 on trained weights


def detections(
    output: Array,
    *,
    end2end: bool,
    score_threshold: float,
    nms_iou: float,
    max_detections: int,
    multi_label: bool = True,
) -> list[Array]:
    """Turn a batch's output into boxes, as Ultralytics' `non_max_suppression` does.

    Args:
        output: end2end: (N, D, 6) xyxy, score, class, best first; it is thresholded only. Otherwise (N, 4 + classes, A)
            with centre x, centre y, width, height.
        end2end: Which of the two it is.
        score_threshold: Boxes score above it.
        nms_iou: Of two boxes of one class whose IoU is above it, the lower scored goes.
        max_detections: Per image.
        multi_label: An anchor gives a box for each class whose score is above the threshold, as in `yolo val`; False:
            for its best class alone, as in `yolo predict`. An end2end model decides that itself.

    Returns:
        Per image (n, 6) float32: xyxy in input pixels, score, class; best first.

    """
    if end2end:
        return [rows[rows[:, 4] > score_threshold][:max_detections] for rows in output]
    return [_suppressed(_candidates(rows, score_threshold, multi_label), nms_iou, max_detections) for rows in output]


def _candidates(rows: Array, score_threshold: float, multi_label: bool) -> Array:
    """List the (anchor, class) pairs above the threshold, best first: (4 + classes, A) -> (n, 6)."""
    anchors = np.flatnonzero(rows[4:].max(axis=0) > score_threshold)
    scores = rows[4:, anchors].T  # (a, classes)
    if multi_label:
        anchor, label = np.nonzero(scores > score_threshold)
    else:
        anchor, label = np.arange(len(anchors)), scores.argmax(axis=1)
    score = scores[anchor, label]
    order = np.argsort(-score, kind="stable")[:MAX_CANDIDATES]
    centre, half = rows[:2, anchors], rows[2:4, anchors] / 2  # (2, a)
    boxes = np.concatenate([centre - half, centre + half])  # (4, a)
    found = np.empty((len(order), 6), dtype=np.float32)
    found[:, :4] = boxes[:, anchor[order]].T
    found[:, 4] = score[order]
    found[:, 5] = label[order]
    return found


def _suppressed(found: Array, nms_iou: float, max_detections: int) -> Array:
    """Keep the best box, drop what overlaps it, and so on: (n, 6) best first -> (m, 6).

    In blocks, since whole arrays are cheap in numpy and single boxes are not: what the kept boxes leave of a block
    is settled within it.
    """
    boxes = found[:, :4] + found[:, 5:] * CLASS_OFFSET  # (n, 4)
    keep: list[int] = []
    for start in range(0, len(found), BLOCK):
        block = boxes[start : start + BLOCK]  # (b, 4)
        dropped = np.asarray((box_iou(block, boxes[keep]) > nms_iou).any(axis=1))  # (b,)
        overlaps = np.asarray(box_iou(block, block) > nms_iou)  # (b, b)
        for index in range(len(block)):
            if not dropped[index]:
                keep.append(start + index)
                dropped |= overlaps[index]
                if len(keep) == max_detections:
                    return found[keep]
    return found[keep]


def box_iou(first: Array, second: Array) -> npt.NDArray[np.float64]:
    """Compute all pairs' IoU, in torchvision's order of operations so that ties fall the same way.

    Args:
        first: (n, 4) xyxy float32.
        second: (m, 4).

    Returns:
        (n, m), computed in float32; 0 for two empty boxes.

    """
    a, b = first[:, None], second[None]  # (n, 1, 4), (1, m, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])  # (n, m, 2)
    overlap = np.maximum(sides[..., 0], 0) * np.maximum(sides[..., 1], 0)  # (n, m)
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    union = areas[0] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0).astype(np.float64)
