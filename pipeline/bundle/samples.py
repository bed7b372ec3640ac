"""Sample images with the answers that a device should give, and how far it may be off."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.backends import Backend, load
from pipeline.bundle.files.check import ORT_CANNOT, differences
from pipeline.errors import PipelineError
from pipeline.export.onnx import OUTPUTS
from pipeline.preprocess import Array, letterbox, load_image
from pipeline.tasks import Task

# Precision -> largest error that passes anywhere; check.py says what each is. fp32 leaves room for TF32 on GPUs.
_INT8: Final = {"scores": 0.25, "boxes": 0.2, "box_px": 4.0, "logits": 0.25, "pixels": 0.1}
LIMITS: Final[dict[str, dict[str, float]]] = {
    "fp32": {"scores": 0.01, "boxes": 0.02, "box_px": 0.5, "logits": 0.01, "pixels": 0.005},
    "fp16": {"scores": 0.03, "boxes": 0.05, "box_px": 1.0, "logits": 0.03, "pixels": 0.02},
    "int8": _INT8,
    "int8-tensorrt": _INT8,
}
ERRORS: Final[dict[Task, tuple[str, ...]]] = {"detect": ("scores", "boxes", "box_px"), "segment": ("logits", "pixels")}
HEADROOM: Final = 2.0  # what a precision loses in ONNX Runtime, it may lose twice elsewhere


def sample_files(models: Mapping[str, Path], images: Sequence[Path], decoding: Mapping[str, Any]) -> dict[str, bytes]:
    """Make `samples/`: letterboxed PNGs, `expected.npz` of fp32 in ONNX Runtime, and `tolerances.json`.

    Args:
        models: Precision -> ONNX file; `fp32` is among them.
        images: The image files.
        decoding: preprocessing.json's section of that name.

    Raises:
        PipelineError: if a model cannot be run, or its outputs are not those of fp32.

    """
    reference = load(models["fp32"], threads=1)  # one thread: the same bytes each time
    squares = [letterbox(load_image(path), reference.metadata.image_size_px)[0] for path in images]
    expected = _run(reference, squares)
    measured = {
        name: {} if name in ORT_CANNOT else _measure(path, squares, expected, decoding) for name, path in models.items()
    }
    if "int8-tensorrt" in models:
        measured["int8-tensorrt"] = measured.get("int8", {})
    files = {f"samples/{index:03d}.png": _png(square) for index, square in enumerate(squares)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **expected)  # type: ignore[arg-type]
    tolerances = {name: _tolerances(name, measured[name], reference.metadata.task) for name in models}
    return {
        **files,
        "samples/expected.npz": buffer.getvalue(),
        "samples/tolerances.json": (json.dumps(tolerances, indent=2) + "\n").encode(),
    }


def _run(backend: Backend, squares: Sequence[Array]) -> dict[str, npt.NDArray[Any]]:
    answers = [backend(square[None]) for square in squares]
    names = OUTPUTS[backend.metadata.task]
    return {name: np.concatenate([answer[place] for answer in answers]) for place, name in enumerate(names)}


def _measure(
    path: Path, squares: Sequence[Array], expected: dict[str, npt.NDArray[Any]], decoding: Mapping[str, Any]
) -> dict[str, float]:
    try:
        return differences(expected, _run(load(path, threads=1), squares), dict(decoding))
    except ValueError as error:
        raise PipelineError(
            f"{path} does not answer as fp32.onnx does: {error}; run `dvc repro` to export it again"
        ) from None


def _tolerances(precision: str, measured: dict[str, float], task: Task) -> dict[str, dict[str, float | None]]:
    limits = LIMITS[precision]
    return {
        name: {"limit": max(limits[name], HEADROOM * measured.get(name, 0.0)), "measured": measured.get(name)}
        for name in ERRORS[task]
    }


def _png(square: Array) -> bytes:
    """Encode a letterboxed image without loss: float32 in [0, 1] came from 8 bits."""
    pixels = np.round(square.transpose(1, 2, 0) * 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1])
