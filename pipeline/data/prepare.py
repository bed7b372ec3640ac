"""The prepare stage: from a source to the prepared layout, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.data import coco, scenes, voc, yolo
from pipeline.data.check import CheckedItem, check_dataset
from pipeline.data.defects import Defect, show_defects, stop_if_fatal, write_defects
from pipeline.data.images import ImageFacts, inspect_image, upright_bytes
from pipeline.data.prepared import SPLITS, DatasetInfo, Split, SplitInfo
from pipeline.data.source import RawDataset, ranked, relative
from pipeline.errors import PipelineError
from pipeline.params import Prepare

SOURCES: dict[str, Callable[[Path, Path | None], RawDataset]] = {"yolo": yolo.read, "coco": coco.read, "voc": voc.read}
SCENES_LICENCE = "CC0-1.0"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Content:
    """What is written for one image: file bytes, YOLO label lines, and a class mask PNG where the source has masks."""

    image: bytes
    labels: str
    mask: bytes | None = None


@dataclass(frozen=True)
class Entry:
    """One image to write; `make` produces its content, possibly in another thread."""

    split: Split
    name: str
    make: Callable[[], Content]


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first byte is written."""

    entries: list[Entry]
    classes: tuple[str, ...]
    licence: str
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True)
class Row:
    """What digests and lists need of a written image."""

    split: Split
    name: str
    sha256: str
    labels: str


def prepare_dataset(params: Prepare, out: Path) -> DatasetInfo:
    """Write the prepared dataset of `params.source` to `out`, replacing an earlier one; the source is only read.

    Writes `images/`, `labels/`, `masks/` (scenes only), `splits/`, `calibration.txt`, `dataset.json` and
    `defects.json`. The same input gives the same bytes. Progress and defects go to stderr.

    Raises:
        PipelineError: on fatal defects of the input, all in one message; `out` is then as it was.

    """
    console = Console(stderr=True)
    _refuse_other_folder(out)
    plan = plan_scenes(params) if params.source == "scenes" else plan_files(params, out, console)
    partial_out = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    try:
        info = _write(plan, params, partial_out, console)
        _replace(partial_out, out)
    finally:
        shutil.rmtree(partial_out, ignore_errors=True)
    _show_counts(console, out, info)
    return info


def plan_files(params: Prepare, out: Path, console: Console) -> Plan:
    """Read and check a user's data; the images are copied while they are written.

    Raises:
        PipelineError: on fatal defects, all in one message.

    """
    root = Path(params.path)
    if not root.is_dir():
        raise PipelineError(f"{root} is no folder: prepare.path should name the folder of the {params.source} data")
    if out.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(out.resolve()):
        raise PipelineError(f"{out} and {root} overlap: the source is only read, so prepare elsewhere")
    raw = SOURCES[params.source](root, None if params.annotations is None else Path(params.annotations))
    facts = _inspect(sorted({item.image for item in raw.items}), console)
    fractions: dict[Split, float] = {"val": params.val_fraction, "test": params.test_fraction}
    items, defects = check_dataset(raw, root, facts, fractions, params.seed)
    stop_if_fatal(root, defects)
    show_defects(console, root, defects)
    names = flat_names(root, items)
    entries = [Entry(item.split, name, partial(_file_content, item)) for item, name in zip(items, names, strict=True)]
    return Plan(entries, raw.classes, raw.licence, tuple(defects))


def _inspect(images: Sequence[Path], console: Console) -> dict[Path, ImageFacts | str]:
    """Decode and hash images on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = _progress(console, "checking images", pool.map(inspect_image, images), len(images))
        return dict(zip(images, found, strict=True))


def flat_names(root: Path, items: Sequence[CheckedItem]) -> list[str]:
    """Name each image in the one flat folder: its own name, or a longer one where two stems are the same.

    The longer ones put the split before the stem, and where that is not enough a digest of the path after it. Stems
    that differ only in case count as the same: some file systems cannot tell them apart.
    """
    short = [item.image.stem for item in items]
    longer = [f"{item.split}_{item.image.stem}" for item in items]
    tags = [hashlib.sha256(relative(root, item.image).encode()).hexdigest()[:8] for item in items]
    longest = [f"{stem}_{tag}" for stem, tag in zip(longer, tags, strict=True)]
    stems = short
    for level in (longer, longest):
        counts = Counter(stem.lower() for stem in stems)
        stems = [new if counts[stem.lower()] > 1 else stem for stem, new in zip(stems, level, strict=True)]
    return [stem + item.image.suffix for stem, item in zip(stems, items, strict=True)]


def _file_content(item: CheckedItem) -> Content:
    content = item.image.read_bytes()
    if hashlib.sha256(content).hexdigest() != item.facts.sha256:
        raise PipelineError(f"{item.image} changed while it was prepared: run the stage again")
    return Content(upright_bytes(content), label_lines(item.class_ids, item.boxes, item.facts.size))


def plan_scenes(params: Prepare) -> Plan:
    """Plan the embedded dataset; the scenes are generated while they are written."""
    counts: dict[Split, int] = {
        "train": params.scenes.train_images,
        "val": params.scenes.val_images,
        "test": params.scenes.test_images,
    }
    entries = [
        Entry(split, f"{split}_{index:05d}.png", partial(_scene_content, params, split, index))
        for split in SPLITS
        for index in range(counts[split])
    ]
    return Plan(entries, scenes.CLASSES, SCENES_LICENCE)


def _scene_content(params: Prepare, split: Split, index: int) -> Content:
    side = params.image_size_px
    scene = scenes.make_scene(params.seed, split, index, side)
    labels = label_lines(scene.class_ids, scene.boxes, (side, side))
    return Content(_png(scene.image[..., ::-1]), labels, _png(scene.mask))


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode grey or BGR pixels."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def label_lines(class_ids: npt.ArrayLike, boxes: npt.ArrayLike, size: tuple[int, int]) -> str:
    """Format xyxy pixels (N, 4) as YOLO lines: class, then centre x, centre y, width, height over the image's sides."""
    xyxy = np.asarray(boxes, np.float64).reshape(-1, 2, 2) / size
    cxcywh = np.concatenate([xyxy.mean(1), xyxy[:, 1] - xyxy[:, 0]], 1)
    rows = zip(np.asarray(class_ids, np.int64), cxcywh, strict=True)
    return "".join(f"{class_id} {' '.join(f'{value:.6f}' for value in row)}\n" for class_id, row in rows)


def _write(plan: Plan, params: Prepare, folder: Path, console: Console) -> DatasetInfo:
    """Write a whole prepared dataset into a fresh folder."""
    for name in ("images", "labels", "splits", *(["masks"] if params.source == "scenes" else [])):
        (folder / name).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        written = pool.map(partial(_write_entry, folder), plan.entries)
        rows = list(_progress(console, "writing", written, len(plan.entries)))
    rows.sort(key=lambda row: row.name)
    by_split: dict[Split, list[Row]] = {split: [row for row in rows if row.split == split] for split in SPLITS}
    for split, part in by_split.items():
        _write_list(folder / "splits" / f"{split}.txt", [row.name for row in part])
    train = ranked([row.name for row in by_split["train"]], params.seed, "calibration")
    _write_list(folder / "calibration.txt", train[: params.calibration_images])
    write_defects(folder / "defects.json", plan.defects)
    info = _describe(plan, params, by_split)
    (folder / "dataset.json").write_text(info.model_dump_json(indent=2) + "\n")
    return info


def _progress(console: Console, what: str, items: Iterable[Item], total: int) -> Iterable[Item]:
    return track(items, f"prepare: {what}", total, console=console, disable=not console.is_terminal)


def _write_entry(folder: Path, entry: Entry) -> Row:
    content = entry.make()
    stem = Path(entry.name).stem
    (folder / "images" / entry.name).write_bytes(content.image)
    (folder / "labels" / f"{stem}.txt").write_text(content.labels)
    if content.mask is not None:
        (folder / "masks" / f"{stem}.png").write_bytes(content.mask)
    return Row(entry.split, entry.name, hashlib.sha256(content.image).hexdigest(), content.labels)


def _write_list(path: Path, names: Sequence[str]) -> None:
    path.write_text("".join(f"images/{name}\n" for name in names))


def _describe(plan: Plan, params: Prepare, by_split: dict[Split, list[Row]]) -> DatasetInfo:
    splits = {
        split: SplitInfo(
            images=len(rows),
            boxes=sum(row.labels.count("\n") for row in rows),
            digest=_digest([part for row in rows for part in (row.name, row.sha256, row.labels)]),
        )
        for split, rows in by_split.items()
    }
    whole = [*(info.digest for info in splits.values()), *plan.classes, str(params.image_size_px)]
    return DatasetInfo(
        source=params.source,
        licence=plan.licence,
        classes=list(plan.classes),
        image_size_px=params.image_size_px,
        splits=splits,
        digest=_digest(whole),
    )


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _refuse_other_folder(out: Path) -> None:
    """Keep a wrong path from deleting somebody's files.

    Raises:
        PipelineError: if `out` holds something that is no prepared dataset.

    """
    if out.exists() and not (out / "dataset.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"{out} exists and is no prepared dataset: expected no such folder; remove or rename it")


def _replace(fresh: Path, out: Path) -> None:
    """Move a finished folder into place; whatever stood there goes only after the new one is complete."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _show_counts(console: Console, out: Path, info: DatasetInfo) -> None:
    console.print(f"{out.name}: {info.source}, {len(info.classes)} classes, licence: {info.licence}", soft_wrap=True)
    table = Table()
    for heading in ("split", "images", "boxes"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for split, counts in info.splits.items():
        table.add_row(split, str(counts.images), str(counts.boxes))
    console.print(table)
