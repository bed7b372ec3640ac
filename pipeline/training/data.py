"""Training images whose augmentation depends on seed, epoch and index alone.

Neither the number of workers, nor prefetching, nor an interruption, nor what else draws random numbers changes
what a model sees. So a resumed run equals an uninterrupted one, and a student sees the same images in the same
order with and without a teacher.
"""

from __future__ import annotations

import math
import random
import sys
import warnings
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import DecompressionBombWarning
from torch.utils.data import Sampler
from ultralytics.cfg import IterableSimpleNamespace
from ultralytics.data import YOLODataset
from ultralytics.data.augment import Compose, Mosaic
from ultralytics.data.build import InfiniteDataLoader
from ultralytics.data.dataset import SemanticDataset
from ultralytics.utils import tqdm

from pipeline.data.prepared import PreparedDataset, Split
from pipeline.preprocess import Image, fit, load_image
from pipeline.tasks import Task

Key = tuple[int, int]  # epoch, index
warnings.filterwarnings("ignore", category=DecompressionBombWarning)  # prepare has checked every size

# Ultralytics draws its bars ten times a second into a log file too, unless it takes the console for a CI server's.
tqdm.is_noninteractive_console = lambda: not sys.stdout.isatty()


class SeededImages(YOLODataset):
    """Seed each sample whose key is `(epoch, index)`, fit images as evaluation does, never write beside the data."""

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        """Load and augment one image."""
        if isinstance(key, int):
            return super().__getitem__(key)
        epoch, index = key
        states = random.getstate(), np.random.get_state()
        seed = np.random.SeedSequence([self.data["seed"], epoch, index]).generate_state(1)[0]
        random.seed(int(seed))
        np.random.seed(seed)
        try:
            return super().__getitem__(index)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    def load_image(self, i: int, *_modes: bool, **_options: bool) -> tuple[Image, tuple[int, int], tuple[int, int]]:
        """Load an image (BGR) at the size that evaluation and devices show it at; Ultralytics' may be a pixel larger.

        Returns:
            The image, its original height and width, and its height and width.

        """
        if self.ims[i] is None:
            image = np.ascontiguousarray(load_image(Path(self.im_files[i]))[..., ::-1])
            fitted, _ = fit(image, self.imgsz)
            return fitted, image.shape[:2], fitted.shape[:2]
        return self.ims[i], self.im_hw0[i], self.im_hw[i]

    def build_transforms(self, hyp: IterableSimpleNamespace) -> Compose:
        """Let mosaic draw its partners from the whole split: the default draws from recently loaded images."""
        transforms = super().build_transforms(hyp)
        for transform in _flatten(transforms):
            if isinstance(transform, Mosaic):
                transform.buffer_enabled = False
        return transforms

    def _load_or_scan_cache(self, cache_path: Path, cache_hash: str) -> tuple[dict[str, Any], bool]:
        """Keep Ultralytics' label cache out of the prepared dataset, which DVC hashes."""
        folder = Path(self.data["label_cache"])
        return super()._load_or_scan_cache(folder / f"{Path(self.img_path).stem}.cache", cache_hash)


class DetectionImages(SeededImages):
    """Images with boxes."""


class SegmentationImages(SeededImages, SemanticDataset):
    """Images with class masks."""


IMAGES: dict[Task, type[SeededImages]] = {"detect": DetectionImages, "segment": SegmentationImages}


class EpochSampler(Sampler[Key]):
    """Yield `(epoch, index)` in an order drawn from seed and epoch; each pass over it is the next epoch."""

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length, self.seed, self.rank, self.world_size = length, seed, rank, world_size
        self.next_epoch = 0

    def __iter__(self) -> Iterator[Key]:
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        order = np.resize(order, len(self) * self.world_size)  # repeats the first images so that ranks are equal
        return iter([(epoch, int(index)) for index in order[self.rank :: self.world_size]])

    def __len__(self) -> int:
        return math.ceil(self.length / self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Ignore Ultralytics' announcement under DDP: passes are counted here, ahead of prefetching."""

    def restart(self, epoch: int) -> None:
        """Make the next pass the given epoch."""
        self.next_epoch = epoch


def describe(dataset: PreparedDataset, task: Task, folder: Path, seed: int) -> dict[str, Any]:
    """Make the dict that Ultralytics' trainers call `data`; lists and caches go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = dataset.task_classes(task)
    data: dict[str, Any] = {
        "task": task,
        "nc": len(classes),
        "names": dict(enumerate(classes)),
        "channels": 3,
        "masks_dir": "masks",
        "seed": seed,
        "label_cache": str(folder),
    }
    splits: tuple[Split, ...] = ("train", "val")
    for split in splits:
        listing = folder / f"{split}.txt"
        listing.write_text("".join(f"{image.absolute()}\n" for image in dataset.images(split)))
        data[split] = str(listing)
    return data


def build_images(
    data: dict[str, Any], listing: str, hyp: IterableSimpleNamespace, batch_size: int, *, augment: bool, stride: int
) -> SeededImages:
    """Open one split of what `describe` described, with the letterbox of evaluation, augmented or not."""
    hyp = copy(hyp)
    hyp.deterministic = False  # only silences a warning about RAM caches that does not hold here
    return IMAGES[data["task"]](
        img_path=listing,
        imgsz=hyp.imgsz,
        batch_size=batch_size,
        augment=augment,
        hyp=hyp,
        rect=False,
        cache="ram" if augment else None,
        stride=stride,
        pad=0.0,
        task=hyp.task,
        data=data,
    )


def build_train_loader(
    images: SeededImages, batch_size: int, workers: int, sampler: EpochSampler
) -> InfiniteDataLoader:
    """Load augmented batches in the sampler's order; workers do not change what is loaded.

    Where one image is left over, it waits for another epoch.
    """
    batch_size = min(batch_size, len(images))
    return InfiniteDataLoader(
        dataset=images,
        batch_size=batch_size,
        drop_last=len(sampler) > batch_size > 1 == len(sampler) % batch_size,  # BatchNorm fails on one image's mean
        num_workers=workers,
        sampler=sampler,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        collate_fn=images.collate_fn,
    )


def _flatten(transform: Any) -> Iterator[Any]:
    yield transform
    for inner in getattr(transform, "transforms", None) or []:
        yield from _flatten(inner)
