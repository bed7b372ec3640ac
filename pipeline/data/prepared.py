"""The prepared dataset: the one layout that every stage after `prepare` reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import PipelineError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class SplitInfo(BaseModel):
    """Counts and content digest of one split."""

    model_config = ConfigDict(extra="forbid")

    images: int
    boxes: int
    digest: str


class DatasetInfo(BaseModel):
    """`dataset.json`."""

    model_config = ConfigDict(extra="forbid")

    source: str
    licence: str
    classes: list[str]
    image_size_px: int
    splits: dict[Split, SplitInfo]
    digest: str


@dataclass(frozen=True)
class PreparedDataset:
    """A folder with `dataset.json`, `images/`, `labels/`, `masks/`, `splits/*.txt` and `calibration.txt`."""

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

    def _listed(self, name: Path) -> list[Path]:
        return [self.root / line for line in (self.root / name).read_text().splitlines()]


def open_dataset(root: Path) -> PreparedDataset:
    """Open a folder that the prepare stage wrote.

    Raises:
        PipelineError: if it is not one.

    """
    try:
        info = DatasetInfo.model_validate_json((root / "dataset.json").read_text())
    except FileNotFoundError:
        raise PipelineError(f"{root} is not a prepared dataset (no dataset.json): run `dvc repro prepare`") from None
    except ValidationError as error:
        raise PipelineError(
            f"{root / 'dataset.json'} is not of this version: run `dvc repro prepare`\n{error}"
        ) from None
    return PreparedDataset(root, info)
