"""What models find on test images, beside the ground truth, ready to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.backends import Backend
from pipeline.data.prepared import PreparedDataset
from pipeline.evaluation.boxes import Prediction, predict_boxes, truth_of
from pipeline.evaluation.masks import segment
from pipeline.params import Evaluate
from pipeline.preprocess import load_image
from pipeline.report.boxes import Boxes, draw_boxes
from pipeline.report.class_maps import ClassMap, draw_class_maps
from pipeline.report.sheet import Scene
from pipeline.tasks import Task

Backends = Mapping[str, Backend]  # by column title


def see(
    backends: Backends, dataset: PreparedDataset, images: Sequence[Path], params: Evaluate, task: Task
) -> list[Scene[Any]]:
    """Run models on images of a dataset; a column per model, in the order of `backends`."""
    return SCENES[task](backends, dataset, images, params)


def draw_scenes(
    path: Path, backends: Backends, dataset: PreparedDataset, images: Sequence[Path], params: Evaluate
) -> None:
    """Draw what models of one task find, a row per image, as PNG."""
    task = next(iter(backends.values())).metadata.task
    path.parent.mkdir(parents=True, exist_ok=True)
    DRAW[task](path, see(backends, dataset, images, params, task), dataset.task_classes(task))


def _box_scenes(
    backends: Backends, dataset: PreparedDataset, images: Sequence[Path], params: Evaluate
) -> list[Scene[Boxes]]:
    found = {
        title: predict_boxes(backend, images, params, label=f"draw {title}") for title, backend in backends.items()
    }
    scenes = []
    for index, image in enumerate(images):
        pixels = load_image(image)
        truth = truth_of(dataset, image, pixels.shape[1], pixels.shape[0])
        predictions = {title: _boxes(predicted[index]) for title, predicted in found.items()}
        scenes.append(Scene(image.stem, pixels, Boxes(truth.boxes, truth.class_ids), predictions))
    return scenes


def _boxes(found: Prediction) -> Boxes:
    return Boxes(found.boxes[:, :4], found.boxes[:, 5].astype(np.int64), found.boxes[:, 4])


def _map_scenes(
    backends: Backends, dataset: PreparedDataset, images: Sequence[Path], params: Evaluate
) -> list[Scene[ClassMap]]:
    found = {
        title: [answer.classes for answer in segment(backend, images, params.batch_size, label=f"draw {title}")]
        for title, backend in backends.items()
    }
    return [
        Scene(image.stem, load_image(image), dataset.mask(image), {title: maps[i] for title, maps in found.items()})
        for i, image in enumerate(images)
    ]


SCENES: Final[dict[Task, Callable[[Backends, PreparedDataset, Sequence[Path], Evaluate], list[Scene[Any]]]]] = {
    "detect": _box_scenes,
    "segment": _map_scenes,
}
DRAW: Final[dict[Task, Callable[[Path, Sequence[Scene[Any]], Sequence[str]], None]]] = {
    "detect": draw_boxes,
    "segment": draw_class_maps,
}
