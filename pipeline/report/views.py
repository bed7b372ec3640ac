"""Run the models on test images for the report's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.backends import load
from pipeline.data.prepared import PreparedDataset
from pipeline.distill.prompt import masks
from pipeline.distill.taps import features_only
from pipeline.evaluation.accuracy import Prediction, predict, truth_of
from pipeline.params import Params
from pipeline.preprocess import letterbox, load_image
from pipeline.report.build import Drawings
from pipeline.report.drawing import Boxes, MaskedImage, Scene
from pipeline.training.checkpoint import SKIPPED, load_checkpoint
from pipeline.training.prompts import load_prompts

MASKED_IMAGES = 3  # each takes a row per pyramid map


def draw(artifacts: Path, dataset: PreparedDataset, params: Params) -> Drawings:
    """See the first test images through the teacher, its prompts, and the first student.

    Args:
        artifacts: Folder of all models.
        dataset: The prepared dataset.
        params: `report.images` says how many, `evaluate` how boxes are kept.

    """
    images = dataset.images("test")[: params.report.images]
    student = artifacts / next(iter(params.students))
    columns = {
        "teacher": artifacts / "teacher",
        "control": student / "control",
        "distilled, ONNX": student / "export/fp32.onnx",
    }
    seen = {
        title: predict(load(path), images, params.evaluate, label=f"draw {title}")
        for title, path in columns.items()
        if not (path / SKIPPED).exists()
    }
    scenes = [
        _scene(dataset, image, {title: found[index] for title, found in seen.items()})
        for index, image in enumerate(images)
    ]
    return Drawings(dataset.info.classes, scenes, _masked(artifacts, dataset, images))


def _scene(dataset: PreparedDataset, image: Path, found: dict[str, Prediction]) -> Scene:
    pixels = load_image(image)
    truth = truth_of(dataset, image, pixels.shape[1], pixels.shape[0])
    boxes = {
        title: Boxes(prediction.boxes[:, :4], prediction.boxes[:, 5].astype(np.int64), prediction.boxes[:, 4])
        for title, prediction in found.items()
    }
    return Scene(image.stem, pixels, Boxes(truth.boxes, truth.class_ids), boxes)


def _masked(artifacts: Path, dataset: PreparedDataset, images: list[Path]) -> list[MaskedImage]:
    """Average the prompts' masks, per image, pyramid map and band."""
    teacher, teacher_info = load_checkpoint(artifacts / "teacher")
    prompts, info = load_prompts(artifacts / "prompts")
    bands = ["low band", *(f"details, level {level}" for level in range(1, info.levels + 1))]
    drawn = []
    for image in images[:MASKED_IMAGES]:
        square, _ = letterbox(load_image(image), dataset.info.image_size_px)
        pixels = (square.transpose(1, 2, 0) * 255).round().astype(np.uint8)
        features = features_only(teacher, torch.from_numpy(square)[None])
        for level, (feature, stride) in enumerate(zip(features, teacher_info.strides, strict=True)):
            marked = masks(prompts[str(level)], feature, info.wavelet)  # (1, T, h, w) per band
            averaged = {band: mask[0].mean(dim=0).numpy() for band, mask in zip(bands, marked, strict=True)}
            drawn.append(MaskedImage(f"{image.stem}, stride {stride}", pixels, averaged))
    return drawn
