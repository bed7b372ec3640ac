"""Write a planned dataset: its files, lists and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from pipeline.data.class_counts import Counts, Labels, count_labels
from pipeline.data.defects import Defect, write_defects
from pipeline.data.pool import in_threads
from pipeline.data.prepared import SPLITS, DatasetInfo, Split, SplitInfo
from pipeline.data.source import ranked
from pipeline.files import write_text
from pipeline.params import Prepare


@dataclass(frozen=True)
class Content:
    """What is written for one image: file bytes, YOLO label lines, and a mask's PNG; None where the source has none.

    `class_ids` are those of its boxes, `pixels` the number of each mask class.
    """

    image: bytes
    labels: str | None
    mask: bytes | None
    class_ids: Sequence[int] = ()
    pixels: Sequence[int] = ()


@dataclass(frozen=True)
class Entry:
    """One image to write; `make` produces its content, possibly in another thread."""

    split: Split
    name: str
    make: Callable[[], Content]


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first byte is written.

    `counts` is None where only the content tells, and `cut` names the splits that were cut out of train.
    """

    entries: list[Entry]
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    licence: str
    defects: tuple[Defect, ...] = ()
    counts: Counts | None = None
    cut: tuple[Split, ...] = ()


@dataclass(frozen=True)
class Row:
    """What digests and lists need of a written image."""

    split: Split
    name: str
    labels: Labels
    digest: str


def label_lines(class_ids: npt.ArrayLike, boxes: npt.ArrayLike, size: tuple[int, int]) -> str:
    """Format xyxy pixels (N, 4) as YOLO lines: class, then centre x, centre y, width, height over the image's sides."""
    xyxy = np.asarray(boxes, np.float64).reshape(-1, 2, 2) / size
    cxcywh = np.concatenate([xyxy.mean(1), xyxy[:, 1] - xyxy[:, 0]], 1)
    rows = zip(np.asarray(class_ids, np.int64), cxcywh, strict=True)
    return "".join(f"{class_id} {' '.join(f'{value:.6f}' for value in row)}\n" for class_id, row in rows)


def write_dataset(plan: Plan, params: Prepare, folder: Path, console: Console) -> DatasetInfo:
    """Write a whole prepared dataset into a fresh folder."""
    labels = ["labels"] if plan.classes else []
    masks = ["masks"] if plan.mask_classes else []
    for name in ("images", "splits", *labels, *masks):
        (folder / name).mkdir(parents=True)
    rows = in_threads(console, "writing", partial(_write_entry, folder), plan.entries)
    rows.sort(key=lambda row: row.name)
    by_split: dict[Split, list[Row]] = {split: [row for row in rows if row.split == split] for split in SPLITS}
    for split, part in by_split.items():
        _write_list(folder / "splits" / f"{split}.txt", [row.name for row in part])
    train = ranked([row.name for row in by_split["train"]], params.seed, "calibration")
    _write_list(folder / "calibration.txt", train[: params.calibration_images])
    write_defects(folder / "defects.json", plan.defects)
    info = _describe(plan, params, by_split)
    write_text(folder / "dataset.json", info.model_dump_json(indent=2) + "\n")
    return info


def _write_entry(folder: Path, entry: Entry) -> Row:
    content = entry.make()
    stem = Path(entry.name).stem
    (folder / "images" / entry.name).write_bytes(content.image)
    if content.labels is not None:
        (folder / "labels" / f"{stem}.txt").write_text(content.labels)
    if content.mask is not None:
        (folder / "masks" / f"{stem}.png").write_bytes(content.mask)
    labels = content.labels or ""
    image, mask = (hashlib.sha256(part).hexdigest() for part in (content.image, content.mask or b""))
    digest = _digest([entry.name, image, labels, mask])
    return Row(entry.split, entry.name, (content.class_ids, content.pixels), digest)


def _write_list(path: Path, names: Sequence[str]) -> None:
    write_text(path, "".join(f"images/{name}\n" for name in names))


def _describe(plan: Plan, params: Prepare, by_split: dict[Split, list[Row]]) -> DatasetInfo:
    splits: dict[Split, SplitInfo] = {}
    for split, rows in by_split.items():
        counts = count_labels([row.labels for row in rows], len(plan.classes), len(plan.mask_classes))
        splits[split] = SplitInfo(**counts.model_dump(), digest=_digest([row.digest for row in rows]))
    names = ["boxes", *plan.classes, "masks", *plan.mask_classes]
    whole = [*(info.digest for info in splits.values()), *names, str(params.image_size_px)]
    return DatasetInfo(
        source=params.source,
        licence=plan.licence,
        classes=list(plan.classes),
        mask_classes=list(plan.mask_classes),
        image_size_px=params.image_size_px,
        splits=splits,
        digest=_digest(whole),
    )


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
