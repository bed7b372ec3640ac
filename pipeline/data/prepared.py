"""The prepared dataset: the one layout that every stage after `prepare` reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import PipelineError
from pipeline.files import read_text
from pipeline.tasks import Task

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
IGNORE = 255  # in a mask: no label


class SplitCounts(BaseModel):
    """Counts of one split.

    By class of boxes, in the order of `classes`: boxes, and images that have one. By class of masks, in that of
    `mask_classes`: pixels as the source has them, and images that have one.
    """

    model_config = ConfigDict(extra="forbid")

    images: int
    boxes: int
    class_boxes: list[int] = []
    class_images: list[int] = []
    mask_pixels: list[int] = []
    mask_images: list[int] = []


class SplitInfo(SplitCounts):
    """Counts of one split, and the digest of its images, boxes and masks."""

    digest: str


class DatasetInfo(BaseModel):
    """`dataset.json`.

    `classes` are those of boxes, and `mask_classes` the names of mask ids 0..K-1; either is empty where the dataset has
    no such labels.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    licence: str
    classes: list[str]
    mask_classes: list[str] = []
    image_size_px: int
    splits: dict[Split, SplitInfo]
    digest: str


@dataclass(frozen=True)
class PreparedDataset:
    """A folder with `dataset.json`, `images/`, `splits/*.txt` and `calibration.txt`.

    `labels/` is there where the dataset has boxes, and `masks/` where it has masks.
    """

    root: Path
    info: DatasetInfo

    def images(self, split: Split) -> list[Path]:
        """List the image files of a split, in the fixed order of `splits/<split>.txt`."""
        return self._listed(Path("splits") / f"{split}.txt")

    @cached_property
    def calibration_images(self) -> list[Path]:
        """The fixed, seeded calibration list out of train."""
        return self._listed(Path("calibration.txt"))

    def boxes(self, image: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Read the labels of one image.

        Returns:
            Class ids (N,) and boxes (N, 4) as centre x, centre y, width, height, each divided by the image's side.

        """
        text = (self.root / "labels" / f"{image.stem}.txt").read_text()
        rows = np.array([line.split() for line in text.splitlines()], dtype=np.float64).reshape(-1, 5)
        return rows[:, 0].astype(np.int64), rows[:, 1:].astype(np.float32)

    def mask(self, image: Path) -> npt.NDArray[np.uint8]:
        """Read the mask of one image.

        Returns:
            Ids of `mask_classes` and IGNORE, (H, W), upright and of the image's size.

        Raises:
            PipelineError: if there is none, or it is no 8-bit grey PNG.

        """
        path = self.root / "masks" / f"{image.stem}.png"
        if not path.is_file():
            raise PipelineError(f"{path}, the mask of {image.name}, does not exist: run `dvc repro prepare`")
        content = np.fromfile(path, np.uint8)  # OpenCV crashes on a name with bytes that are no UTF-8
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
        if pixels is None or pixels.ndim != 2 or pixels.dtype != np.uint8:
            came = "no image" if pixels is None else f"{pixels.dtype} of shape {pixels.shape}"
            raise PipelineError(f"{path}: expected 8-bit grey pixels, got {came}: run `dvc repro prepare`")
        return pixels  # type: ignore[return-value]

    def task_classes(self, task: Task) -> list[str]:
        """Name the classes of a task.

        Raises:
            PipelineError: if the dataset lacks the labels that the task needs.

        """
        if task == "detect" and not self.info.classes:
            fix = "set prepare.source to scenes, yolo, coco or voc, or train for task segment only"
            raise PipelineError(f"{self.root} (source {self.info.source}) has no boxes, which task detect needs: {fix}")
        if task == "segment" and not self.info.mask_classes:
            fix = "set prepare.source to scenes or masks, or train for task detect only"
            raise PipelineError(
                f"{self.root} (source {self.info.source}) has no masks, which task segment needs: {fix}"
            )
        return self.info.classes if task == "detect" else self.info.mask_classes

    def _listed(self, name: Path) -> list[Path]:
        lines = read_text(self.root / name).split("\n")  # str.splitlines would break names with U+2028 in them
        return [self.root / line for line in lines if line]


def open_dataset(root: Path) -> PreparedDataset:
    """Open a folder that the prepare stage wrote.

    Raises:
        PipelineError: if it is not one.

    """
    try:
        info = DatasetInfo.model_validate_json(read_text(root / "dataset.json"))
    except FileNotFoundError:
        raise PipelineError(f"{root} is not a prepared dataset (no dataset.json): run `dvc repro prepare`") from None
    except ValidationError as error:
        raise PipelineError(
            f"{root / 'dataset.json'} is not of this version: run `dvc repro prepare`\n{error}"
        ) from None
    return PreparedDataset(root, info)
