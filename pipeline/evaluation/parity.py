"""An exported model against torch on the same real images: numbers for the record, and the gate.

What is compared, and why so:
    raw output (N, 4 + classes, A)   by position: anchors have a fixed order.
    end2end output (N, D, 6)         rows are ordered by score, so close scores swap rows. The k-th best score moves by
                                     no more than any single score does, so scores are compared by position; boxes are
                                     compared between matched rows.
    detections                       matched one to one: equal class, IoU of at least 0.99, the closest score first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from pipeline.backends import Backend
from pipeline.data.prepared import PreparedDataset, Split
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import detect, require_same_classes
from pipeline.evaluation.detect import Array, box_iou
from pipeline.params import Evaluate, Export
from pipeline.preprocess import letterbox, load_image
from pipeline.records import Accuracy, OutputError, Parity

MATCH_IOU = 0.99


@dataclass
class _Difference:
    """Running errors of one output."""

    max_abs: float = 0.0
    squared_error: float = 0.0
    squared_norm: float = 0.0

    def add(self, reference: Array, exported: Array) -> None:
        error = exported.astype(np.float64) - reference
        self.max_abs = max(self.max_abs, float(np.abs(error).max(initial=0.0)))
        self.squared_error += float((error**2).sum())
        self.squared_norm += float((reference.astype(np.float64) ** 2).sum())

    def record(self, name: str) -> OutputError:
        norm = max(self.squared_norm, float(np.finfo(np.float64).tiny))
        return OutputError(name=name, max_abs=self.max_abs, relative_l2=float(np.sqrt(self.squared_error / norm)))


@dataclass
class _Tally:
    """What `compare` sums up over the images."""

    boxes: _Difference = field(default_factory=_Difference)
    scores: _Difference = field(default_factory=_Difference)
    matched: int = 0
    detected: int = 0
    box_error_px: float = 0.0
    score_error: float = 0.0


def compare(
    reference: Backend,
    exported: Backend,
    dataset: PreparedDataset,
    split: Split,
    *,
    accuracy: tuple[Accuracy, Accuracy],
    export: Export,
    evaluate: Evaluate,
) -> Parity:
    """Run both backends on the first `export.parity_images` images of a split, one by one.

    Args:
        reference: The torch backend.
        exported: The same model in another runtime.
        dataset: The prepared dataset.
        split: Usually `test`.
        accuracy: Of the reference and of the exported model, each on the whole split.
        export: How many images, and the allowed drop.
        evaluate: The thresholds of the detections that are matched.

    Returns:
        `outputs`: `boxes` in input pixels and `scores`, by the rules above. `matched_boxes_share`: matched detections
        over the larger number of the two. Box errors are in input pixels, over the four coordinates of matched
        detections. `map50_95_drop` is the reference's accuracy minus the exported one's, on the whole split.

    Raises:
        PipelineError: if the two are not the same kind of model, or the exported one gives NaN or infinity.

    """
    _require_comparable(reference, exported, dataset)
    tally = _Tally()
    images = dataset.images(split)[: export.parity_images]
    for path in track(images, description=f"parity {exported.runtime}", console=Console(stderr=True)):
        square, _ = letterbox(load_image(path), reference.metadata.image_size_px)
        outputs = [backend(square[None])[0] for backend in (reference, exported)]
        _require_sound(exported, path, outputs)
        _add_outputs(tally, outputs[0][0], outputs[1][0], reference.metadata.end2end)
        rows = [detect(reference, output, evaluate)[0] for output in outputs]
        _add_detections(tally, rows[0], rows[1])
    trained, measured = accuracy
    return Parity(
        model=measured.model,
        runtime=exported.runtime,
        images=len(images),
        outputs=[tally.boxes.record("boxes"), tally.scores.record("scores")],
        matched_boxes_share=tally.matched / tally.detected if tally.detected else 1.0,
        max_box_error_px=tally.box_error_px,
        max_score_error=tally.score_error,
        map50_95_torch=trained.map50_95,
        map50_95_exported=measured.map50_95,
        map50_95_drop=trained.map50_95 - measured.map50_95,
        max_map50_95_drop=export.max_ap_drop,
    )


def check_gate(parity: Parity) -> None:
    """Stop when the exported model's AP is off, in either direction: a gain is a changed model too.

    Raises:
        PipelineError: with the numbers, if the AP differs by more than `export.max_ap_drop`.

    """
    if abs(parity.map50_95_drop) <= parity.max_map50_95_drop:
        return
    rows = [
        ("mAP50-95 torch", parity.map50_95_torch),
        (f"mAP50-95 {parity.runtime}", parity.map50_95_exported),
        ("difference", parity.map50_95_drop),
        ("allowed (export.max_ap_drop)", parity.max_map50_95_drop),
        ("matched boxes, share", parity.matched_boxes_share),
        ("max box error, px", parity.max_box_error_px),
        ("max score error", parity.max_score_error),
    ]
    table = "\n".join(f"  {name:<30} {value:10.5f}" for name, value in rows)
    raise PipelineError(
        f"{parity.model.name} ({parity.model.role}): the exported model is not the one that was trained, on "
        f"the test split:\n{table}\nTry another export.opset; if the difference is acceptable, raise "
        "export.max_ap_drop in params.yaml"
    )


def match(reference: Array, exported: Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair two images' detections one to one, best reference score first.

    Args:
        reference: (n, 6) xyxy, score, class.
        exported: (m, 6).

    Returns:
        The paired rows' indices into both, (k,) each. A pair has equal classes and an IoU of at least 0.99; of several
        such boxes the one with the closest score is taken, since duplicates of a box differ in score.

    """
    near = box_iou(reference[:, :4], exported[:, :4]) >= MATCH_IOU  # (n, m)
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


def _add_outputs(tally: _Tally, reference: Array, exported: Array, end2end: bool) -> None:
    if end2end:  # (D, 6)
        tally.scores.add(reference[:, 4], exported[:, 4])
        rows, columns = match(reference, exported)
        tally.boxes.add(reference[rows, :4], exported[columns, :4])
    else:  # (4 + classes, A)
        tally.boxes.add(reference[:4], exported[:4])
        tally.scores.add(reference[4:], exported[4:])


def _add_detections(tally: _Tally, reference: Array, exported: Array) -> None:
    rows, columns = match(reference, exported)
    error = np.abs(reference[rows] - exported[columns])  # (k, 6)
    tally.matched += len(rows)
    tally.detected += max(len(reference), len(exported))
    tally.box_error_px = max(tally.box_error_px, float(error[:, :4].max(initial=0.0)))
    tally.score_error = max(tally.score_error, float(error[:, 4].max(initial=0.0)))


def _require_comparable(reference: Backend, exported: Backend, dataset: PreparedDataset) -> None:
    require_same_classes(reference, dataset)
    if replace(reference.metadata, precision=exported.metadata.precision) != exported.metadata:
        raise PipelineError(
            f"{exported.runtime} is not an export of this model: expected {reference.metadata}, got "
            f"{exported.metadata}; export it again with `dvc repro export`"
        )


def _require_sound(exported: Backend, image: Path, outputs: Sequence[Array]) -> None:
    if outputs[0].shape != outputs[1].shape:
        problem = f"expected an output of shape {outputs[0].shape}, got {outputs[1].shape}"
    elif bad := np.count_nonzero(~np.isfinite(outputs[1])):
        problem = f"{bad} of the output's {outputs[1].size} values are NaN or infinite"
    else:
        return
    raise PipelineError(f"{exported.runtime} on {image}: {problem}. Try another export.opset")
