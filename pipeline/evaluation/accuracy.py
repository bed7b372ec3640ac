"""A prepared dataset through a backend: detections per image, and their average precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from pipeline.backends import Backend
from pipeline.data.prepared import PreparedDataset, Split
from pipeline.errors import PipelineError
from pipeline.evaluation.average_precision import Truth, average_precision
from pipeline.evaluation.detect import Array, detections
from pipeline.params import Evaluate
from pipeline.preprocess import letterbox, load_image, undo
from pipeline.records import Accuracy, ModelInfo


@dataclass(frozen=True)
class Prediction:
    """What a backend found in one image, in pixels of the original image."""

    image: Path
    width: int
    height: int
    boxes: Array  # (n, 6) xyxy, score, class; best first


def evaluate(
    backend: Backend, dataset: PreparedDataset, split: Split, params: Evaluate, *, model: ModelInfo, size_mb: float
) -> Accuracy:
    """Measure COCO average precision on a split.

    Args:
        backend: A loaded model.
        dataset: The prepared dataset; the record's `dataset` is the content digest of this split.
        split: Usually `test`.
        params: Batch size, thresholds and limits.
        model: Which model the record is about.
        size_mb: Of the file that ships, 10^6 bytes.

    Raises:
        PipelineError: if the model's classes are not the dataset's, or the split has no labelled box.

    """
    require_same_classes(backend, dataset)
    predictions = predict(backend, dataset.images(split), params, f"{model.name} {model.role} {backend.runtime}")
    truths = [truth_of(dataset, found.image, found.width, found.height) for found in predictions]
    score = average_precision(truths, [found.boxes for found in predictions], dataset.info.classes)
    return Accuracy(
        model=model,
        runtime=backend.runtime,
        size_mb=size_mb,
        split=split,
        images=len(predictions),
        dataset=dataset.info.splits[split].digest,
        **asdict(score),
    )


def predict(backend: Backend, images: Sequence[Path], params: Evaluate, label: str = "predict") -> list[Prediction]:
    """Detect objects in image files, with a progress bar on stderr.

    Batches are of `params.batch_size`, or of 1 where the backend takes no other.

    Raises:
        PipelineError: if a file is no image, or the network answers NaN or infinity.

    """
    size = params.batch_size if backend.dynamic_batch else 1
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    progress = track(batches, description=label, console=Console(stderr=True))
    return [found for batch in progress for found in _predict_batch(backend, batch, params)]


def _predict_batch(backend: Backend, paths: Iterable[Path], params: Evaluate) -> Iterator[Prediction]:
    fitted = [(path, *letterbox(load_image(path), backend.metadata.image_size_px)) for path in paths]
    output = backend(np.stack([square for _, square, _ in fitted]))[0]
    if bad := np.count_nonzero(~np.isfinite(output)):
        raise PipelineError(
            f"{backend.runtime} on {fitted[0][0]}: {bad} of the output's {output.size} values are NaN or infinite, in "
            f"a batch of {len(fitted)}; the training diverged (lower its learning rate) or the export is broken"
        )
    for (path, _, transform), rows in zip(fitted, detect(backend, output, params), strict=True):
        boxes = np.concatenate([undo(rows[:, :4], transform), rows[:, 4:]], axis=1)  # (n, 6)
        yield Prediction(path, transform.width, transform.height, boxes)


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


def require_same_classes(backend: Backend, dataset: PreparedDataset) -> None:
    """Refuse to score a model on a dataset of other classes.

    Raises:
        PipelineError: naming both lists.

    """
    if backend.metadata.classes != dataset.info.classes:
        raise PipelineError(
            f"the model ({backend.runtime}) was trained on the classes {', '.join(backend.metadata.classes)}, but "
            f"{dataset.root} has {', '.join(dataset.info.classes)}: run `dvc repro` to train on this dataset"
        )
