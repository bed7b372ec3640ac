"""Checkpoints in eager torch, as they are shipped."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.tasks import BaseModel

from pipeline.backends import DEVICE_PHASES, Array, Backend, Metadata, Phases
from pipeline.checkpoint_info import CheckpointInfo
from pipeline.device import set_threads
from pipeline.errors import PipelineError
from pipeline.features import head_strides
from pipeline.training.checkpoint import load_checkpoint


def load_torch(folder: Path, device: str, threads: int) -> Backend:
    """Load a checkpoint folder; `load` explains the arguments."""
    model, info = load_checkpoint(folder)
    return torch_backend(model, metadata_of(info), device, threads)


def torch_backend(model: BaseModel, metadata: Metadata, device: str, threads: int) -> Backend:
    """Wrap a model in memory. Sets the threads of torch, OpenCV and BLAS, which the whole process shares.

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
    set_threads(threads)  # again after `load`: importing Ultralytics above has changed OpenCV's
    ready = deployed(model).to(device)

    def run(images: Array) -> list[npt.NDArray[Any]]:
        with torch.inference_mode():
            outputs = ready(torch.from_numpy(images).to(device))
            if device != "cpu":
                torch.cuda.synchronize(device)
            return _to_host(outputs)

    return Backend("torch", device, threads, True, metadata, run, None if device == "cpu" else _phases(ready, device))


def _phases(ready: nn.Module, device: str) -> Phases:
    """Return what runs a model on a GPU between events of the GPU's own clock."""

    def phases(images: Array) -> tuple[list[npt.NDArray[Any]], dict[str, float]]:
        with torch.inference_mode(), torch.cuda.device(device):
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(4)]
            marks[0].record()
            inputs = torch.from_numpy(images).to(device)
            marks[1].record()
            outputs = ready(inputs)
            marks[2].record()
            arrays = _to_host(outputs)
            marks[3].record()
            marks[3].synchronize()
        times = [start.elapsed_time(end) for start, end in pairwise(marks)]
        return arrays, dict(zip(DEVICE_PHASES, times, strict=True))

    return phases


def _to_host(outputs: Tensor | tuple[Tensor, ...]) -> list[npt.NDArray[Any]]:
    return [output.cpu().numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def deployed(model: BaseModel) -> nn.Module:
    """Copy a model as it is shipped: eval, fp32, Conv+BN fused, without gradients.

    A detector gives its decoded outputs alone; a head with a one-to-one branch keeps that one (NMS-free, output
    (N, D, 6)) and loses the one-to-many branch, which only training needs. A segmenter becomes a `ClassMap`.
    """
    strides = head_strides(model)
    model = deepcopy(model).eval().float().requires_grad_(False)
    head = model.model[-1]
    if not hasattr(head, "cv2"):
        return ClassMap(model.fuse(verbose=False), strides[0])
    head.end2end = has_one_to_one(model)
    head.export = True  # the decoded tensor alone, without the raw maps
    head.shape = None  # of cached anchors
    return model.fuse(verbose=False)  # type: ignore[no-any-return]


class ClassMap(nn.Module):
    """A segmenter with its answer at the input's size: class map (N, S, S) uint8, and logits at the head's stride."""

    def __init__(self, model: BaseModel, stride: int) -> None:
        super().__init__()
        self.model, self.stride = model, float(stride)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest class of each pixel, after bilinear interpolation, and the logits."""
        logits = self.model(images)
        full = F.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)
        return full.max(dim=1).indices.to(torch.uint8), logits  # argmax, which is slow across channels on a CPU


def has_one_to_one(model: BaseModel) -> bool:
    """Say whether the head has the branch that needs no NMS."""
    return getattr(model.model[-1], "one2one_cv2", None) is not None


def metadata_of(info: CheckpointInfo) -> Metadata:
    """Take from `model.json` what evaluation needs."""
    return Metadata(info.task, info.classes, info.image_size_px, info.strides, info.end2end, "fp32")
