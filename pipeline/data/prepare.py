"""The prepare stage: from a source to the prepared layout, atomically."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from pipeline.data import coco, masks, scenes, voc, yolo
from pipeline.data.check import CheckedItem, Facts, check_dataset
from pipeline.data.class_counts import Counts, Labels, class_defects, count_labels, show_counts
from pipeline.data.defects import show_defects, stop_if_fatal
from pipeline.data.images import ImageFacts, inspect_image, upright_bytes
from pipeline.data.legend import Legend
from pipeline.data.mask_files import class_pixels, encode_png, inspect_mask, prepared_mask
from pipeline.data.pool import in_threads
from pipeline.data.prepared import SPLITS, DatasetInfo, Split
from pipeline.data.similar import look_at
from pipeline.data.source import RawDataset, relative, without_unusable_names
from pipeline.data.write import Content, Entry, Plan, label_lines, write_dataset
from pipeline.errors import PipelineError
from pipeline.files import replacing_folder, user_path
from pipeline.params import Prepare
from pipeline.text import PlainConsole

BOX_SOURCES: dict[str, Callable[[Path, Path | None], RawDataset]] = {
    "yolo": yolo.read,
    "voc": voc.read,
}
MAX_STEM_BYTES = 200  # of the 255 that file systems allow
SCENES_LICENCE = "CC0-1.0"
MASK_CLASSES: Final = ("background", *scenes.CLASSES)


def prepare_dataset(params: Prepare, out: Path) -> DatasetInfo:
    """Write the prepared dataset of `params.source` to `out`, replacing an earlier one; the source is only read.

    Writes `images/`, `labels/` and `masks/` (what the source has of the two), `splits/`, `calibration.txt`,
    `dataset.json` and `defects.json`. The same input gives the same bytes. Progress and defects go to stderr.

    Raises:
        PipelineError: on fatal defects of the input, all in one message; `out` is then as it was.

    """
    console = PlainConsole(stderr=True)
    _refuse_other_folder(out)
    plan = _plan(params, out, console)
    with replacing_folder(out) as folder:
        info = write_dataset(plan, params, folder, console)
    _show(console, f"{out.name}: {params.source}", plan, info.splits)
    return info


def check_data(params: Prepare, out: Path) -> None:
    """Read and check what `prepare_dataset` would write to `out`, print defects and counts to stderr; write nothing.

    Raises:
        PipelineError: on fatal defects of the input, all in one message.

    """
    console = PlainConsole(stderr=True)
    plan = _plan(params, out, console)
    _show(console, params.source, plan, plan.counts or _count_content(plan, console))


def _plan(params: Prepare, out: Path, console: Console) -> Plan:
    return plan_scenes(params) if params.source == "scenes" else plan_files(params, out, console)


def plan_files(params: Prepare, out: Path, console: Console) -> Plan:
    """Read and check a user's data; the images are copied while they are written.

    Raises:
        PipelineError: on fatal defects, all in one message.

    """
    root = user_path(params.path)
    if not root.is_dir():
        raise PipelineError(f"{root} is no folder: prepare.path should name the folder of the {params.source} data")
    if out.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(out.resolve()):
        raise PipelineError(f"{out} and {root} overlap: the source is only read, so prepare elsewhere")
    raw = without_unusable_names(root, _read(params, root))
    facts = _inspect(raw, console)
    fractions: dict[Split, float] = {"val": params.val_fraction, "test": params.test_fraction}
    items, defects = check_dataset(raw, root, facts, fractions, params.seed)
    mask_classes = () if raw.legend is None else raw.legend.names
    counts = _count_items(items, len(raw.classes), len(mask_classes))
    defects += class_defects(counts, raw.classes, mask_classes)
    stop_if_fatal(root, defects)
    show_defects(console, root, defects)
    names = flat_names(root, items)
    entries = [
        Entry(item.split, name, partial(_file_content, item, raw.legend))
        for item, name in zip(items, names, strict=True)
    ]
    cut = tuple(split for split, fraction in fractions.items() if _is_cut(raw, split, fraction))
    return Plan(entries, raw.classes, mask_classes, raw.licence, tuple(defects), counts, cut)


def _is_cut(raw: RawDataset, split: Split, fraction: float) -> bool:
    return fraction > 0 and all(item.split != split for item in raw.items)


def _count_items(items: Sequence[CheckedItem], classes: int, mask_classes: int) -> Counts:
    return {
        split: count_labels(
            [(item.class_ids, item.mask.pixels if item.mask else ()) for item in items if item.split == split],
            classes,
            mask_classes,
        )
        for split in SPLITS
    }


def _count_content(plan: Plan, console: Console) -> Counts:
    """Make every image of a plan, only to count its labels."""
    labels = in_threads(console, "counting", _labels, plan.entries)
    by_split = {
        split: [one for one, entry in zip(labels, plan.entries, strict=True) if entry.split == split]
        for split in SPLITS
    }
    return {split: count_labels(part, len(plan.classes), len(plan.mask_classes)) for split, part in by_split.items()}


def _labels(entry: Entry) -> Labels:
    content = entry.make()
    return content.class_ids, content.pixels


def _read(params: Prepare, root: Path) -> RawDataset:
    annotations = None if params.annotations is None else Path(params.annotations)
    if params.source == "masks":
        return masks.read(root, annotations, params.masks)
    if params.source == "coco":
        return coco.read(root, annotations, params.coco.keep_crowds)
    return BOX_SOURCES[params.source](root, annotations)


def _inspect(raw: RawDataset, console: Console) -> Facts:
    """Decode and hash all images and masks."""
    images = sorted({item.image for item in raw.items})
    of_images = dict(zip(images, in_threads(console, "checking images", inspect_image, images), strict=True))
    readable = [(image, facts) for image, facts in of_images.items() if isinstance(facts, ImageFacts)]
    looks = zip(readable, in_threads(console, "comparing images", look_at, readable), strict=True)
    of_looks = {image: look for (image, _), look in looks if look is not None}
    if raw.legend is None:
        return Facts(of_images, looks=of_looks)
    files = sorted({item.mask for item in raw.items if item.mask is not None})
    of_masks = in_threads(console, "checking masks", partial(inspect_mask, raw.legend), files)
    return Facts(of_images, dict(zip(files, of_masks, strict=True)), of_looks)


def flat_names(root: Path, items: Sequence[CheckedItem]) -> list[str]:
    """Name each image in the one flat folder: its own name, or a longer one where two stems are the same.

    The longer ones put the split before the stem, and where that is not enough a digest of the path after it. Stems
    that differ only in case count as the same: some file systems cannot tell them apart. Very long ones are cut.
    """
    tags = [hashlib.sha256(relative(root, item.image).encode()).hexdigest()[:8] for item in items]
    short = [_shortened(item.image.stem, tag) for item, tag in zip(items, tags, strict=True)]
    longer = [f"{item.split}_{stem}" for item, stem in zip(items, short, strict=True)]
    longest = [f"{stem}_{tag}" for stem, tag in zip(longer, tags, strict=True)]
    stems = short
    for level in (longer, longest):
        counts = Counter(stem.lower() for stem in stems)
        stems = [new if counts[stem.lower()] > 1 else stem for stem, new in zip(stems, level, strict=True)]
    return [stem + item.image.suffix for stem, item in zip(stems, items, strict=True)]


def _shortened(stem: str, tag: str) -> str:
    """Leave room in a file name for what is put before and behind it."""
    encoded = stem.encode()
    if len(encoded) <= MAX_STEM_BYTES:
        return stem
    return f"{encoded[: MAX_STEM_BYTES - len(tag) - 1].decode(errors='ignore')}_{tag}"


def _file_content(item: CheckedItem, legend: Legend | None) -> Content:
    image = upright_bytes(_unchanged(item.image, item.facts.sha256))
    if legend is None or item.mask is None:
        return Content(image, label_lines(item.class_ids, item.boxes, item.facts.size), None, item.class_ids)
    mask = _unchanged(item.mask.file, item.mask.sha256)
    return Content(image, None, prepared_mask(mask, legend, item.facts.size), pixels=item.mask.pixels)


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
    return Plan(entries, scenes.CLASSES, MASK_CLASSES, SCENES_LICENCE)


def _scene_content(params: Prepare, split: Split, index: int) -> Content:
    side = params.image_size_px
    scene = scenes.make_scene(params.seed, split, index, side)
    labels = label_lines(scene.class_ids, scene.boxes, (side, side))
    pixels = class_pixels(scene.mask, len(MASK_CLASSES))
    return Content(encode_png(scene.image[..., ::-1]), labels, encode_png(scene.mask), scene.class_ids.tolist(), pixels)


def _refuse_other_folder(out: Path) -> None:
    """Keep a wrong path from deleting somebody's files.

    Raises:
        PipelineError: if `out` holds something that is no prepared dataset.

    """
    if out.exists() and not (out / "dataset.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise PipelineError(f"{out} exists and is no prepared dataset: expected no such folder; remove or rename it")


def _show(console: Console, what: str, plan: Plan, counts: Counts) -> None:
    """Print what was read, which splits were cut, and counts."""
    kinds = {"boxes": plan.classes, "masks": plan.mask_classes}
    classes = [f"{len(names)} class{'es'[: 2 * (len(names) != 1)]} of {kind}" for kind, names in kinds.items() if names]
    lines = [", ".join([what, *classes, f"licence: {plan.licence}"])]
    lines += [f"{split}: cut out of train (prepare.{split}_fraction), as the source has none" for split in plan.cut]
    console.print("\n".join(lines), soft_wrap=True, highlight=False)
    show_counts(console, counts, plan.classes, plan.mask_classes)
