"""A segmenter through a backend: a class map per image, and how well the maps agree with the masks.

Everything is measured in pixels of the original image; pixels that the mask ignores count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.backends import Backend
from pipeline.data.prepared import IGNORE, PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.inference import Change, answers
from pipeline.params import Evaluate
from pipeline.preprocess import undo_map

ClassMap = npt.NDArray[np.uint8]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Segmented:
    """The class map (H, W) of one image, in its own pixels."""

    image: Path
    classes: ClassMap


def score_masks(
    backend: Backend,
    dataset: PreparedDataset,
    images: Sequence[Path],
    params: Evaluate,
    label: str,
    change: Change | None = None,
) -> tuple[Scores, Scores, None]:
    """Measure a segmenter: the scores of task segment, and IoU per class (None where no image has the class).

    mIoU is the mean over classes that the masks have. Boundary F (Csurka et al., BMVC 2013) is the harmonic mean of
    boundary precision and recall, a boundary pixel being right if the other boundary of its class is not further than
    `params.boundary_tolerance` of the diagonal; mean over an image's classes, then over images.

    Raises:
        PipelineError: if no pixel is labelled.

    """
    import torch  # boxes are scored, and files are run, on devices without it
    from torchmetrics.classification import MulticlassConfusionMatrix

    names = dataset.info.mask_classes
    confusion = MulticlassConfusionMatrix(len(names), ignore_index=IGNORE)
    boundaries = []
    for found in segment(backend, images, params.batch_size, label, change):
        truth = dataset.mask(found.image)
        confusion.update(torch.from_numpy(found.classes.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
        boundaries.append(boundary_f(found.classes, truth, params.boundary_tolerance))
    counts = confusion.compute().double()  # (truth, found)
    if not counts.any():
        raise PipelineError(f"mIoU of {len(images)} images without a single labelled pixel is undefined")
    hit, labelled = counts.diag(), counts.sum(dim=1)
    iou = hit / (labelled + counts.sum(dim=0) - hit).clamp_min(1)
    defined = [score for score in boundaries if score is not None]
    scores = {
        "miou": float(iou[labelled > 0].mean()),
        "pixel_accuracy": float(hit.sum() / counts.sum()),
        "boundary_f": float(np.mean(defined)) if defined else None,
    }
    per_class = {name: float(iou[k]) if labelled[k] else None for k, name in enumerate(names)}
    return scores, per_class, None


def segment(
    backend: Backend, images: Sequence[Path], batch_size: int, label: str = "predict", change: Change | None = None
) -> Iterator[Segmented]:
    """Segment image files; `answers` explains the arguments and what it raises."""
    for answer in answers(backend, images, batch_size, label, change):
        yield Segmented(answer.image, undo_map(answer.outputs[0], answer.transform))


def boundary_f(found: ClassMap, truth: ClassMap, tolerance: float) -> float | None:
    """Score the boundaries of one image, 0 to 1; None where neither map has any."""
    radius = max(1, round(tolerance * float(np.hypot(*truth.shape))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    found = np.where(truth == IGNORE, np.uint8(IGNORE), found)
    edges = [np.where(_edges(classes), classes, np.uint8(IGNORE)) for classes in (found, truth)]  # class, on edges only
    scores = []
    for kind in np.setdiff1d(np.unique(np.stack(edges)), [IGNORE]):
        own, other = ((edge == kind).astype(np.uint8) for edge in edges)
        right = [int((a & cv2.dilate(b, disc)).sum()) for a, b in ((own, other), (other, own))]
        precision, recall = right[0] / max(int(own.sum()), 1), right[1] / max(int(other.sum()), 1)
        scores.append(2 * precision * recall / max(precision + recall, 1e-9))
    return float(np.mean(scores)) if scores else None


def _edges(classes: ClassMap) -> npt.NDArray[np.bool_]:
    """Mark the pixels with a neighbour, of the four, of another class; ignored pixels are no class."""
    edges = np.zeros(classes.shape, dtype=bool)
    for first, second in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        a, b = classes[first], classes[second]
        differs = (a != b) & (a != IGNORE) & (b != IGNORE)
        edges[first] |= differs
        edges[second] |= differs
    return edges
