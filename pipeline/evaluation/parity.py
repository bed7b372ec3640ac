"""An exported model against torch on the same real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.progress import track

from pipeline.backends import Backend
from pipeline.data.prepared import PreparedDataset, Split
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import require_same_classes
from pipeline.evaluation.difference import DIFFERENCES, closeness_of
from pipeline.params import Evaluate, Export
from pipeline.preprocess import letterbox, load_image
from pipeline.records import Accuracy, Parity
from pipeline.text import PlainConsole

LEAST_ALIKE: Final = 4  # images named in the record


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
        What `pipeline.evaluation.difference` sums up over the images; `drop` is the reference's main score minus the
        exported one's, on the whole split.

    Raises:
        PipelineError: if the two are not the same kind of model, or the exported one gives NaN or infinity.

    """
    _require_comparable(reference, exported, dataset)
    precision = exported.metadata.precision
    difference = DIFFERENCES[reference.metadata.task](closeness_of(precision))
    alike: dict[str, float] = {}
    images = dataset.images(split)[: export.parity_images]
    for path in track(images, description=f"parity {exported.runtime}", console=PlainConsole(stderr=True)):
        square, _ = letterbox(load_image(path), reference.metadata.image_size_px)
        outputs = [backend(square[None]) for backend in (reference, exported)]
        for pair in zip(*outputs, strict=True):
            _require_sound(exported, path, pair)
        alike[path.name] = difference.add(reference, *([output[0] for output in side] for side in outputs), evaluate)
    trained, measured = accuracy
    return Parity(
        model=measured.model,
        runtime=exported.runtime,
        images=len(images),
        **difference.summary(),
        least_alike=sorted(alike, key=lambda name: alike[name])[:LEAST_ALIKE],
        score_torch=trained.main,
        score_exported=measured.main,
        drop=trained.main - measured.main,
        max_drop=budget_of(precision, export),
        max_relative_error=closeness_of(precision).relative_error,
    )


def budget_of(precision: str, export: Export) -> float:
    """Return the drop that a file's precision may cost; int8-tensorrt has int8's."""
    return next(drop for name, drop in export.max_drop.items() if name == precision.partition("-")[0])


def _require_comparable(reference: Backend, exported: Backend, dataset: PreparedDataset) -> None:
    require_same_classes(reference, dataset)
    if replace(reference.metadata, precision=exported.metadata.precision) != exported.metadata:
        raise PipelineError(
            f"{exported.runtime} is not an export of this model: expected {reference.metadata}, got "
            f"{exported.metadata}; export it again with `dvc repro export`"
        )


def _require_sound(exported: Backend, image: Path, outputs: Sequence[npt.NDArray[Any]]) -> None:
    if outputs[0].shape != outputs[1].shape:
        problem = f"expected an output of shape {outputs[0].shape}, got {outputs[1].shape}"
    elif bad := np.count_nonzero(~np.isfinite(outputs[1])):
        problem = f"{bad} of the output's {outputs[1].size} values are NaN or infinite"
    else:
        return
    raise PipelineError(f"{exported.runtime} on {image}: {problem}. Try another export.opset")
