"""The prepare stage: from a source to the prepared layout, whole or not at all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.data import coco, masks, scenes, voc, yolo
from pipeline.data.check import CheckedItem, Facts, check_dataset
from pipeline.data.defects import show_defects, stop_if_fatal
from pipeline.data.images import inspect_image, upright_bytes
from pipeline.data.legend import Legend
from pipeline.data.mask_files import encode_png, inspect_mask, prepared_mask
from pipeline.data.pool import in_threads
from pipeline.data.prepared import SPLITS, DatasetInfo, Split
from pipeline.data.source import RawDataset, relative
from pipeline.data.write import Content, Entry, Plan, label_lines, write_dataset
from pipeline.errors import PipelineError
from pipeline.files import replacing_folder
from pipeline.params import Prepare
from pipeline.text import PlainConsole

BOX_SOURCES: dict[str, Callable[[Path, Path | None], RawDataset]] = {
    "yolo": yolo.read,
    "coco": coco.read,
    "voc": voc.read,
}
SCENES_LICENCE = "CC0-1.0"


def prepare_dataset(params: Prepare, out: Path) -> DatasetInfo:
    """Write the prepared dataset of `params.source` to `out`, replacing an earlier one; the source is only read.

    Writes `images/`, `labels/` and `masks/` (what the source has of the two), `splits/`, `calibration.txt`,
    `dataset.json` and `defects.json`. The same input gives the same bytes. Progress and defects go to stderr.

    Raises:
        PipelineError: on fatal defects of the input, all in one message; `out` is then as it was.

    """
    console = PlainConsole(stderr=True)
    _refuse_other_folder(out)
    plan = plan_scenes(params) if params.source == "scenes" else plan_files(params, out, console)
    with replacing_folder(out) as fresh:
        info = write_dataset(plan, params, fresh, console)
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
    raw = _read(params, root)
    facts = _inspect(raw, console)
    fractions: dict[Split, float] = {"val": params.val_fraction, "test": params.test_fraction}
    items, defects = check_dataset(raw, root, facts, fractions, params.seed)
    stop_if_fatal(root, defects)
    show_defects(console, root, defects)
    names = flat_names(root, items)
    entries = [
        Entry(item.split, name, partial(_file_content, item, raw.legend))
        for item, name in zip(items, names, strict=True)
    ]
    mask_classes = () if raw.legend is None else raw.legend.names
    return Plan(entries, raw.classes, mask_classes, raw.licence, tuple(defects))


def _read(params: Prepare, root: Path) -> RawDataset:
    annotations = None if params.annotations is None else Path(params.annotations)
    if params.source == "masks":
        return masks.read(root, annotations, params.masks)
    return BOX_SOURCES[params.source](root, annotations)


def _inspect(raw: RawDataset, console: Console) -> Facts:
    """Decode and hash all images and masks."""
    images = sorted({item.image for item in raw.items})
    of_images = dict(zip(images, in_threads(console, "checking images", inspect_image, images), strict=True))
    if raw.legend is None:
        return Facts(of_images)
    files = sorted({item.mask for item in raw.items if item.mask is not None})
    of_masks = in_threads(console, "checking masks", partial(inspect_mask, raw.legend), files)
    return Facts(of_images, dict(zip(files, of_masks, strict=True)))


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


def _file_content(item: CheckedItem, legend: Legend | None) -> Content:
    image = upright_bytes(_unchanged(item.image, item.facts.sha256))
    if legend is None or item.mask is None:
        return Content(image, label_lines(item.class_ids, item.boxes, item.facts.size), None)
    mask = _unchanged(item.mask.file, item.mask.sha256)
    return Content(image, None, prepared_mask(mask, legend, item.facts.size))


def _unchanged(file: Path, sha256: str) -> bytes:
    """Read a file that was checked before.

    Raises:
        PipelineError: if its bytes are others than then.

    """
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise PipelineError(f"{file} changed while it was prepared: run the stage again")
    return content


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
    return Plan(entries, scenes.CLASSES, ("background", *scenes.CLASSES), SCENES_LICENCE)


def _scene_content(params: Prepare, split: Split, index: int) -> Content:
    side = params.image_size_px
    scene = scenes.make_scene(params.seed, split, index, side)
    labels = label_lines(scene.class_ids, scene.boxes, (side, side))
    return Content(encode_png(scene.image[..., ::-1]), labels, encode_png(scene.mask))


def _refuse_other_folder(out: Path) -> None:
    """Keep a wrong path from deleting somebody's files.

    Raises:
        PipelineError: if `out` holds something that is no prepared dataset.

    """
    if out.exists() and not (out / "dataset.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"{out} exists and is no prepared dataset: expected no such folder; remove or rename it")


def _show_counts(console: Console, out: Path, info: DatasetInfo) -> None:
    kinds = {"boxes": info.classes, "masks": info.mask_classes}
    classes = ", ".join(f"{len(names)} classes of {kind}" for kind, names in kinds.items() if names)
    console.print(f"{out.name}: {info.source}, {classes}, licence: {info.licence}", soft_wrap=True)
    headings = ["images", *(kind for kind, names in kinds.items() if names)]
    table = Table("split")
    for heading in headings:
        table.add_column(heading, justify="right")
    for split, counts in info.splits.items():
        cells = {"images": counts.images, "boxes": counts.boxes, "masks": counts.images}  # every image has a mask
        table.add_row(split, *(str(cells[heading]) for heading in headings))
    console.print(table)
