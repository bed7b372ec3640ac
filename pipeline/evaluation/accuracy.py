"""The accuracy of a model in a backend, whatever its task."""

from __future__ import annotations

from pipeline.backends import Backend
from pipeline.data.prepared import PreparedDataset, Split
from pipeline.errors import PipelineError
from pipeline.evaluation.boxes import score_boxes
from pipeline.evaluation.masks import score_masks
from pipeline.params import Evaluate
from pipeline.records import Accuracy, ModelInfo

SCORERS = {"detect": score_boxes, "segment": score_masks}


def evaluate(
    backend: Backend,
    dataset: PreparedDataset,
    split: Split,
    params: Evaluate,
    *,
    model: ModelInfo,
    size_mb: float,
    detailed: bool = False,
) -> Accuracy:
    """Measure a model on a split.

    Args:
        backend: A loaded model.
        dataset: The prepared dataset; the record's `dataset` is the content digest of this split.
        split: Usually `test`.
        params: Batch size, thresholds and limits.
        model: Which model the record is about.
        size_mb: Of the file that ships, 10^6 bytes.
        detailed: Whether the record keeps a detector's curves and confusions.

    Raises:
        PipelineError: if the model's classes are not the dataset's, or the split has no label.

    """
    require_same_classes(backend, dataset)
    images = dataset.images(split)
    score = SCORERS[backend.metadata.task]
    scores, per_class, details = score(backend, dataset, images, params, f"{model.label} {backend.runtime}")
    return Accuracy(
        model=model,
        runtime=backend.runtime,
        size_mb=size_mb,
        split=split,
        images=len(images),
        dataset=dataset.info.splits[split].digest,
        scores=scores,
        per_class=per_class,
        details=details if detailed else None,
    )


def require_same_classes(backend: Backend, dataset: PreparedDataset) -> None:
    """Refuse to score a model on a dataset of other classes.

    Raises:
        PipelineError: naming both lists.

    """
    classes = dataset.task_classes(backend.metadata.task)
    if backend.metadata.classes != classes:
        raise PipelineError(
            f"the model ({backend.runtime}) was trained on the classes {', '.join(backend.metadata.classes)}, but "
            f"{dataset.root} has {', '.join(classes)}: run `dvc repro` to train on this dataset"
        )
