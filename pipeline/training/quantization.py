"""Quantization-aware fine-tuning: the distilled student goes on training in INT8, under the same teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.prepared import PreparedDataset
from pipeline.params import Qat
from pipeline.preprocess import letterbox, load_image
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.devices import backend_device
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.fake_quant import RANGES, Ranges, insert, observe, read_ranges, write_ranges
from pipeline.training.run import train
from pipeline.training.trainer import Job


class QuantizationTrainer(DistillationTrainer):
    """Distil into a student whose convolutions compute in INT8; its EMA, which is validated, does as well."""

    start_dir: Path
    ranges: Ranges

    def setup_model(self) -> None:
        """Start from the distilled student."""
        if not isinstance(self.model, nn.Module):
            self.model, _ = load_checkpoint(self.start_dir)
            insert(self.model, self.ranges)

    def _model_train(self) -> None:
        super()._model_train()
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # with its running statistics it is the factor that is folded in when the model ships


def fine_tune(
    job: Job, qat: Qat, teacher_job: TeacherJob, student: Path, out: Path, history: Path, *, name: str, made_by: str
) -> None:
    """Fine-tune a distilled student for INT8, and write its checkpoint, activation ranges and history.

    The ranges are measured on the calibration images before the first step, and stay. So the model that trains, its
    EMA and the exported file agree on them, and nothing but the student is trained.

    Args:
        job: The student's own.
        qat: What differs from it.
        teacher_job: That of its distillation.
        student: Checkpoint of the distilled student.
        out: Gets `model.safetensors` and `model.json`, a plain student, and `activation_ranges.json`.
        history: The CSV to write, one row per epoch; its scores are those of the quantized student.
        name: The student's name in params.yaml.
        made_by: Digest of the params, data and code.

    """
    changes = qat.model_dump(exclude={"enabled"})
    job = replace(job, training=job.training.model_copy(update=changes))
    if not (job.state_dir / RANGES).exists():
        write_ranges(job.state_dir, calibrate(student, job))
    ranges = read_ranges(job.state_dir)
    train(
        job,
        out,
        history,
        name=name,
        role="qat",
        made_by=made_by,
        trainer=QuantizationTrainer,
        teacher_job=teacher_job,
        start_dir=student,
        ranges=ranges,
    )
    write_ranges(out, ranges)


def calibrate(student: Path, job: Job) -> Ranges:
    """Measure the activation ranges of a checkpoint on the dataset's calibration images."""
    model, _ = load_checkpoint(student)
    device = torch.device(backend_device(job.machine.device))
    batches = calibration_batches(job.dataset, job.training.batch_size)
    return observe(model.to(device), (images.to(device) for images in batches))


def calibration_batches(dataset: PreparedDataset, batch_size: int) -> Iterator[Tensor]:
    """Load the calibration images as devices see them, (N, 3, S, S) float32 RGB in [0, 1]."""
    paths, size = dataset.calibration_images, dataset.info.image_size_px
    for start in range(0, len(paths), batch_size):
        squares = [letterbox(load_image(path), size)[0] for path in paths[start : start + batch_size]]
        yield torch.from_numpy(np.stack(squares))
