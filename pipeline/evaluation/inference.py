"""Image files through a backend: the one loop that accuracy, robustness and pictures share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.backends import Backend
from pipeline.backends.outputs import output_fault
from pipeline.errors import PipelineError
from pipeline.evaluation.progress import track
from pipeline.preprocess import Image, LetterboxTransform, letterbox, load_image

Change = Callable[[Image], Image]


@dataclass(frozen=True)
class Answer:
    """What a backend said of one image: its outputs without the batch axis, and how the image lies in its square."""

    image: Path
    transform: LetterboxTransform
    outputs: list[npt.NDArray[Any]]


def answers(
    backend: Backend, images: Sequence[Path], batch_size: int, label: str, change: Change | None = None
) -> Iterator[Answer]:
    """Run a backend over image files, with a progress bar on stderr.

    Args:
        backend: A loaded model.
        images: The files.
        batch_size: Or 1 where the backend takes no other.
        label: Of the progress bar.
        change: Applied to each image, (H, W, 3) uint8 RGB, in front of everything else.

    Raises:
        PipelineError: if a file is no image, or an answer is none that the model can give, such as NaN.

    """
    size = batch_size if backend.dynamic_batch else 1
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    for paths in track(batches, label):
        loaded = [load_image(path) for path in paths]
        changed = loaded if change is None else [change(image) for image in loaded]
        fitted = [letterbox(image, backend.metadata.image_size_px) for image in changed]
        outputs = backend(np.stack([square for square, _ in fitted]))
        if fault := output_fault(backend.metadata, len(paths), outputs):
            raise PipelineError(
                f"{backend.runtime} on {paths[0]}: {fault}, in a batch of {len(paths)}; the training diverged (lower "
                "its learning rate) or the export is broken"
            )
        for index, (path, (_, transform)) in enumerate(zip(paths, fitted, strict=True)):
            yield Answer(path, transform, [output[index] for output in outputs])
