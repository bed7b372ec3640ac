"""How far an exported model's outputs are from the reference's, summed over images, for each task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.backends import Backend
from pipeline.evaluation.boxes import detect
from pipeline.evaluation.detect import Array, box_iou
from pipeline.params import Evaluate
from pipeline.records import OutputError

Outputs = list[npt.NDArray[Any]]  # one image's, without the batch axis


@dataclass(frozen=True)
class Closeness:
    """When two detections are the same.

    Attributes:
        score: Detections from here on are looked at; None: from `evaluate.score_threshold` on.
        iou: Their least overlap.
        relative_error: What the outputs' relative L2 error may be where there is no detection to compare.

    """

    score: float | None
    iou: float
    relative_error: float


# fp32 is the same network and has to find the same boxes, down to the faintest; the others are looked at as a device
# does.
CLOSENESS = {
    "fp32": Closeness(None, 0.99, 1e-3),
    "fp16": Closeness(0.25, 0.9, 0.02),
    "int8": Closeness(0.25, 0.5, 0.3),
}


def closeness_of(precision: str) -> Closeness:
    """Return a precision's closeness; int8-tensorrt is int8."""
    return CLOSENESS[precision.partition("-")[0]]


@dataclass
class Difference:
    """Running errors of one output."""

    max_abs: float = 0.0
    squared_error: float = 0.0
    squared_norm: float = 0.0

    def add(self, reference: Array, exported: Array) -> None:
        """Add one image's output."""
        error = exported.astype(np.float64) - reference
        self.max_abs = max(self.max_abs, float(np.abs(error).max(initial=0.0)))
        self.squared_error += float((error**2).sum())
        self.squared_norm += float((reference.astype(np.float64) ** 2).sum())

    def record(self, name: str) -> OutputError:
        """Return the largest and the relative error so far."""
        norm = max(self.squared_norm, float(np.finfo(np.float64).tiny))
        return OutputError(name=name, max_abs=self.max_abs, relative_l2=float(np.sqrt(self.squared_error / norm)))


@dataclass
class BoxDifference:
    """Of a detector's outputs, and of the boxes that come out of them.

    raw output (4 + classes, A)   by position: anchors have a fixed order.
    end2end output (D, 6)         rows are ordered by score, so close scores swap rows. The k-th best score moves by
                                  no more than any single score does, so scores are compared by position; boxes are
                                  compared between matched rows.
    detections                    matched one to one: equal class, enough overlap, the closest score first.
    """

    closeness: Closeness
    boxes: Difference = field(default_factory=Difference)
    scores: Difference = field(default_factory=Difference)
    matched: int = 0
    detected: int = 0
    box_error_px: float = 0.0
    score_error: float = 0.0

    def add(self, backend: Backend, reference: Outputs, exported: Outputs, params: Evaluate) -> float:
        """Add one image, and return the share of its detections that match."""
        first, second = reference[0], exported[0]
        if backend.metadata.end2end:  # (D, 6)
            self.scores.add(first[:, 4], second[:, 4])
            rows, columns = match(first, second, self.closeness.iou)
            self.boxes.add(first[rows, :4], second[columns, :4])
        else:  # (4 + classes, A)
            self.boxes.add(first[:4], second[:4])
            self.scores.add(first[4:], second[4:])
        if self.closeness.score is not None:
            params = params.model_copy(update={"score_threshold": self.closeness.score})
        return self._add_detections(*(detect(backend, output[None], params)[0] for output in (first, second)))

    def summary(self) -> dict[str, Any]:
        """Return fields of a `Parity` record; box errors are in input pixels, over matched boxes."""
        return {
            "outputs": [self.boxes.record("boxes"), self.scores.record("scores")],
            "agreement": self.matched / self.detected if self.detected else None,
            "max_box_error_px": self.box_error_px,
            "max_score_error": self.score_error,
        }

    def _add_detections(self, reference: Array, exported: Array) -> float:
        rows, columns = match(reference, exported, self.closeness.iou)
        error = np.abs(reference[rows] - exported[columns])  # (k, 6)
        detected = max(len(reference), len(exported))
        self.matched += len(rows)
        self.detected += detected
        self.box_error_px = max(self.box_error_px, float(error[:, :4].max(initial=0.0)))
        self.score_error = max(self.score_error, float(error[:, 4].max(initial=0.0)))
        return len(rows) / detected if detected else 1.0


@dataclass
class MapDifference:
    """Of a segmenter's logits, and of its class map: the share of pixels that have the same class."""

    closeness: Closeness
    logits: Difference = field(default_factory=Difference)
    equal: int = 0
    pixels: int = 0

    def add(self, _backend: Backend, reference: Outputs, exported: Outputs, _params: Evaluate) -> float:
        """Add one image, and return the share of its pixels that have the same class."""
        equal = int((reference[0] == exported[0]).sum())
        self.logits.add(reference[1], exported[1])
        self.equal += equal
        self.pixels += reference[0].size
        return equal / reference[0].size

    def summary(self) -> dict[str, Any]:
        """Return fields of a `Parity` record."""
        return {
            "outputs": [self.logits.record("logits")],
            "agreement": self.equal / self.pixels,
            "max_box_error_px": None,
            "max_score_error": None,
        }


DIFFERENCES = {"detect": BoxDifference, "segment": MapDifference}


def match(reference: Array, exported: Array, iou: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair two images' detections one to one, best reference score first.

    Args:
        reference: (n, 6) xyxy, score, class.
        exported: (m, 6).
        iou: The least overlap of a pair.

    Returns:
        The paired rows' indices into both, (k,) each. A pair has equal classes; of several boxes that overlap enough
        the one with the closest score is taken, since duplicates of a box differ in score.

    """
    near = box_iou(reference[:, :4], exported[:, :4]) >= iou  # (n, m)
    same = np.asarray(near & (reference[:, None, 5] == exported[None, :, 5]))
    distance = np.where(same, np.abs(reference[:, None, 4] - exported[None, :, 4]), np.inf)
    pairs = []
    for row in np.flatnonzero(same.any(axis=1)):
        column = int(distance[row].argmin())
        if distance[row, column] < np.inf:
            pairs.append((row, column))
            distance[:, column] = np.inf
    paired = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return paired[:, 0], paired[:, 1]
