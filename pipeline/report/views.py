"""Run the models on test images for the report's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.backends import load
from pipeline.checkpoint_info import SKIPPED
from pipeline.data.prepared import PreparedDataset
from pipeline.distill.prompt import masks
from pipeline.features import features_only
from pipeline.params import Params
from pipeline.preprocess import letterbox, load_image
from pipeline.report.pictures import Drawings
from pipeline.report.prompt_masks import MaskedImage
from pipeline.report.scenes import see
from pipeline.tasks import Task
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.prompts import load_prompts

MASKED_IMAGES = 3  # each takes a row per map


def draw(artifacts: Path, dataset: PreparedDataset, params: Params) -> dict[Task, Drawings]:
    """See the first test images through each task's teacher, its prompts, and its first student.

    Args:
        artifacts: Folder of all models.
        dataset: The prepared dataset.
        params: `report.images` says how many, `evaluate` how boxes are kept.

    """
    images = dataset.images("test")[: params.report.images]
    return {task: _draw_task(task, artifacts / task, dataset, images, params) for task in params.tasks}


def _draw_task(task: Task, folder: Path, dataset: PreparedDataset, images: list[Path], params: Params) -> Drawings:
    student = folder / params.students_of(task)[0]
    columns = {
        "teacher": folder / "teacher",
        "control": student / "control",
        "distilled, ONNX": student / "export/fp32.onnx",
    }
    backends = {title: load(path) for title, path in columns.items() if not (path / SKIPPED).exists()}
    scenes = see(backends, dataset, images, params.evaluate, task)
    return Drawings(dataset.task_classes(task), scenes, _masked(folder, dataset, images))


def _masked(folder: Path, dataset: PreparedDataset, images: list[Path]) -> list[MaskedImage]:
    """Average the prompts' masks, per image, map that the teacher's head reads, and band; none without prompts."""
    if (folder / "prompts" / SKIPPED).exists():
        return []
    teacher, teacher_info = load_checkpoint(folder / "teacher")
    prompts, info = load_prompts(folder / "prompts")
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
