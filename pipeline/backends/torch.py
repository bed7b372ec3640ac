"""Checkpoints in eager torch: Conv+BN fused, the NMS-free branch where the head has one."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from ultralytics.nn.tasks import DetectionModel

from pipeline.backends import Array, Backend, Metadata
from pipeline.errors import PipelineError
from pipeline.training.checkpoint import CheckpointInfo, load_checkpoint


def load_torch(folder: Path, device: str, threads: int) -> Backend:
    """Load a checkpoint folder; `load` explains the arguments."""
    model, info = load_checkpoint(folder)
    return torch_backend(model, metadata_of(info), device, threads)


def torch_backend(model: DetectionModel, metadata: Metadata, device: str, threads: int) -> Backend:
    """Wrap a detector in memory. Sets torch's thread count, which the whole process shares.

    Args:
        model: In eval mode; it is copied, not changed.
        metadata: What it is.
        device: `cpu`, `cuda` or `cuda:N`; cuDNN keeps its defaults, TF32 among them.
        threads: CPU threads.

    Raises:
        PipelineError: if CUDA is asked for and not to be had.

    """
    if device != "cpu" and not torch.cuda.is_available():
        raise PipelineError(
            f"device {device}: torch {torch.__version__} finds no CUDA device here. Check `nvidia-smi`, install a CUDA "
            "build of torch that fits the driver, or use device cpu"
        )
    torch.set_num_threads(threads)
    ready = fused(model).to(device)

    def run(images: Array) -> list[Array]:
        with torch.inference_mode():
            output = ready(torch.from_numpy(images).to(device))
            if device != "cpu":
                torch.cuda.synchronize(device)
            return [output.cpu().numpy()]

    return Backend("torch", device, threads, True, metadata, run)


def fused(model: DetectionModel) -> DetectionModel:
    """Copy a detector for inference: eval, fp32, Conv+BN fused, decoded outputs only.

    A head with a one-to-one branch keeps that one (NMS-free, output (N, D, 6)) and loses the one-to-many branch, which
    only training needs.
    """
    model = deepcopy(model).eval().float().requires_grad_(False)
    head = model.model[-1]
    head.end2end = has_one_to_one(model)
    head.export = True  # the decoded tensor alone, without the raw maps
    head.shape = None  # of cached anchors
    return model.fuse(verbose=False)


def has_one_to_one(model: DetectionModel) -> bool:
    """Say whether the head has the branch that needs no NMS."""
    return getattr(model.model[-1], "one2one_cv2", None) is not None


def metadata_of(info: CheckpointInfo) -> Metadata:
    """Take from `model.json` what evaluation needs."""
    return Metadata(info.task, info.classes, info.image_size_px, info.strides, info.end2end, "fp32")
