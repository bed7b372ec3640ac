"""Which layers an INT8 file loses its accuracy in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
from rich.progress import track

from pipeline.backends import Array, load
from pipeline.evaluation.difference import DIFFERENCES, closeness_of
from pipeline.export.graph import module_path
from pipeline.export.quantize import quantizable, quantize
from pipeline.params import Evaluate, Int8
from pipeline.text import PlainConsole

SHOWN: Final = 8
SHARE: Final = 0.5  # of the summed squared error, that the proposed layers cause


@dataclass(frozen=True)
class Sensitivity:
    """What quantizing one layer alone does to the outputs: the largest relative error (L2) of any of them."""

    layer: str
    error: float


def rank_layers(
    fp32: Path, ranges: Path, images: Sequence[Array], params: Int8, evaluate: Evaluate
) -> list[Sensitivity]:
    """Quantize each layer alone, and compare the outputs with the fp32 file's; the worst layer first.

    Args:
        fp32: The ONNX file.
        ranges: What `calibrate` wrote.
        images: (3, S, S) float32, a few.
        params: Section `export.int8`.
        evaluate: Thresholds of detections.

    """
    reference = load(fp32)
    expected = [reference(image[None]) for image in images]
    found = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "one.onnx"
        for node in track(
            quantizable(onnx.load(fp32), params), description="sensitivity", console=PlainConsole(stderr=True)
        ):
            quantize(fp32, ranges, file, params, only=[node])
            backend = load(file)
            difference = DIFFERENCES[reference.metadata.task](closeness_of("int8"))
            for image, outputs in zip(images, expected, strict=True):
                answer = backend(image[None])
                difference.add(reference, [o[0] for o in outputs], [o[0] for o in answer], evaluate)
            errors = [output.relative_l2 for output in difference.summary()["outputs"]]
            found.append(Sensitivity(module_path(node), max(errors)))
    return sorted(found, key=lambda layer: -layer.error)


def proposed(ranked: Sequence[Sensitivity]) -> list[str]:
    """Take the worst layers that together cause half of the squared error: a first `float_layers` to try."""
    squared = np.cumsum([layer.error**2 for layer in ranked])
    count = int(np.searchsorted(squared, SHARE * squared[-1])) + 1
    return [layer.layer for layer in ranked[:count]]


def describe(ranked: Sequence[Sensitivity]) -> str:
    """List the worst layers and what to write into params.yaml."""
    rows = [f"  {layer.error:9.2e}  {layer.layer}" for layer in ranked[:SHOWN]]
    listed = ", ".join(proposed(ranked))
    return (
        "Relative error of the outputs with one layer quantized alone, the worst first:\n"
        + "\n".join(rows)
        + f"\nTo keep the worst in float: export.int8.float_layers: [{listed}]"
    )
