"""Check what a reader found against the image files, and cut it into splits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.data.defects import Defect
from pipeline.data.images import ImageFacts
from pipeline.data.legend import Legend
from pipeline.data.mask_files import MaskFacts
from pipeline.data.prepared import SPLITS, Split
from pipeline.data.similar import Look, find_similar
from pipeline.data.source import RawBox, RawDataset, RawItem, carve, relative

ROUNDING_PX = 0.5  # labels are rounded when written: less than this beyond the edge is no defect
FRACTION_SLACK = 0.01  # of a pixel: fractions may be rounded to a little beyond the image
VALUES_SHOWN = 3  # of one mask
DROPPED = frozenset(["malformed", "non_finite", "zero_area", "outside", "crowd"])
MIN_SHARE = 1e-6  # of an image's side: the prepared labels' last digit


@dataclass(frozen=True)
class CheckedItem:
    """One image that will be written: class ids and boxes (xyxy pixels, clipped, not empty) of the upright image.

    `mask` is None where the source has no masks.
    """

    image: Path
    split: Split
    facts: ImageFacts
    class_ids: tuple[int, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    mask: MaskFacts | None = None


@dataclass(frozen=True)
class Facts:
    """What `inspect_image` returned for every image, `inspect_mask` for every mask, and `look_at` where it could."""

    images: dict[Path, ImageFacts | str]
    masks: dict[Path, MaskFacts | str] = field(default_factory=dict)
    looks: dict[Path, Look] = field(default_factory=dict)


def check_dataset(
    raw: RawDataset, root: Path, facts: Facts, fractions: dict[Split, float], seed: int
) -> tuple[list[CheckedItem], list[Defect]]:
    """Check images and masks, cut splits, then check boxes.

    Args:
        raw: what the reader found.
        root: the watched folder.
        facts: of all images and masks of `raw`.
        fractions: of train, for splits that the source lacks.
        seed: of the cut.

    Returns:
        The images to write, and all defects, the reader's first.

    """
    defects = list(raw.defects)
    good = _readable(raw.items, root, facts.images, defects)
    masks = {} if raw.legend is None else _check_masks(raw, raw.legend, root, good, facts.masks, defects)
    kept = _without_duplicates(list(raw.items), root, good, masks, defects)
    kept = carve(kept, root, fractions, seed)
    _find_shared(kept, root, good, defects)
    defects += find_similar(kept, root, good, facts.looks)
    defects += _find_fractions(kept)
    checked = [_check_item(item, good[item.image], masks, raw.classes, defects) for item in kept]
    _find_empty(kept, checked, raw.legend, fractions, defects)
    return checked, defects


def _readable(
    items: Sequence[RawItem], root: Path, facts: dict[Path, ImageFacts | str], defects: list[Defect]
) -> dict[Path, ImageFacts]:
    """Report images that cannot be read or are not of the size that their annotation says."""
    good: dict[Path, ImageFacts] = {}
    for item in items:
        found = facts[item.image]
        if isinstance(found, str):
            defects.append(Defect("unreadable_image", relative(root, item.image), None, found))
            continue
        good[item.image] = found
        if item.declared_size and item.declared_size != found.size:
            said, is_ = (f"{width:.10g} x {height:.10g}" for width, height in (item.declared_size, found.size))
            message = f"says {said}, but {relative(root, item.image)} is {is_} (upright)"
            defects.append(Defect("size_mismatch", item.file, item.line, message))
    return good


def _check_masks(
    raw: RawDataset,
    legend: Legend,
    root: Path,
    good: dict[Path, ImageFacts],
    facts: dict[Path, MaskFacts | str],
    defects: list[Defect],
) -> dict[Path, MaskFacts]:
    """Report masks that cannot be read, do not fit their images, or hold values of no class; return the readable."""
    readable: dict[Path, MaskFacts] = {}
    for item in raw.items:
        if item.mask is None:
            continue
        file, found = relative(root, item.mask), facts[item.mask]
        if isinstance(found, str):
            defects.append(Defect("unreadable_mask", file, None, found))
            continue
        readable[item.mask] = found
        if found.unknown:
            defects.append(Defect("unknown_value", file, None, _values(found, legend)))
        elif not found.labelled:
            defects.append(Defect("blank_mask", file, None, "every pixel is ignored"))
        if item.image in good and found.size != (size := good[item.image].size):
            is_, wanted = (f"{width} x {height}" for width, height in (found.size, size))
            turned = found.size == size[::-1]  # scaling would hide that it was made before EXIF turned the image
            kind = "resized_mask" if raw.resize_masks and not turned else "mask_size"
            message = f"is {is_}, but {relative(root, item.image)} is {wanted} (upright)"
            defects.append(Defect(kind, file, None, message))
    return readable


def _values(mask: MaskFacts, legend: Legend) -> str:
    """Name a mask's values without a class."""
    shown = [
        f"{legend.text(one.value)} at {one.pixels} pixels, the first at x {one.x}, y {one.y}"
        for one in mask.unknown[:VALUES_SHOWN]
    ]
    more = len(mask.unknown) - len(shown)
    return "; ".join(shown) + (f"; and {more} other values" if more else "")


def _without_duplicates(
    items: list[RawItem],
    root: Path,
    good: dict[Path, ImageFacts],
    masks: dict[Path, MaskFacts],
    defects: list[Defect],
) -> list[RawItem]:
    """Keep one of the readable images with the same bytes in one split: the first by name that has labels.

    An image that is listed twice gets the boxes of both. Copies with different labels are reported: one is wrong.
    """
    copies: dict[tuple[Split | None, str], dict[Path, RawItem]] = {}
    for item in sorted((item for item in items if item.image in good), key=lambda item: relative(root, item.image)):
        same = copies.setdefault((item.split, good[item.image].sha256), {})
        if item.image in same:
            message = f"{relative(root, item.image)} is listed again"
            defects.append(Defect("duplicate_image", item.file, item.line, message))
            boxes = tuple(dict.fromkeys([*same[item.image].boxes, *item.boxes]))
            same[item.image] = replace(same[item.image], boxes=boxes)
        same.setdefault(item.image, item)
    return [_one_of(list(same.values()), root, masks, defects) for same in copies.values()]


def _one_of(copies: list[RawItem], root: Path, masks: dict[Path, MaskFacts], defects: list[Defect]) -> RawItem:
    """Choose the copy of an image that is kept, and report the others."""
    kept = next((item for item in copies if item.boxes), copies[0])
    for item in copies:
        if item is not kept:
            difference = _difference(kept, item, masks)
            message = f"{relative(root, item.image)} has the bytes of {relative(root, kept.image)}{difference}"
            kind = "other_labels" if difference else "duplicate_image"
            defects.append(Defect(kind, item.file, item.line, message))
    return kept


def _difference(first: RawItem, second: RawItem, masks: dict[Path, MaskFacts]) -> str:
    """Say how the labels of two equal images differ; empty if they do not, or if one has none."""
    one, other = (sorted((box.class_id, *box.xyxy) for box in item.boxes) for item in (first, second))
    if one and other and not _same_boxes(one, other):
        return ", with other boxes"
    labels = {masks[item.mask].labels_sha256 for item in (first, second) if item.mask in masks}
    return ", with another mask" if len(labels) > 1 else ""


def _same_boxes(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    """Compare classes and corners, these to what rounding leaves open."""
    return len(one) == len(other) and bool(np.allclose(one, other, rtol=0, atol=ROUNDING_PX, equal_nan=True))


def _find_shared(items: list[RawItem], root: Path, good: dict[Path, ImageFacts], defects: list[Defect]) -> None:
    """Report images whose bytes stand in two splits."""
    by_bytes: dict[str, list[RawItem]] = {}
    for item in items:
        by_bytes.setdefault(good[item.image].sha256, []).append(item)
    for same in by_bytes.values():
        first, *others = sorted(same, key=lambda item: SPLITS.index(item.split or "train"))
        for item in others:
            kind = "leak" if first.split == "train" else "val_in_test"
            here, there = (f"{relative(root, one.image)} in {one.split}" for one in (item, first))
            defects.append(Defect(kind, item.file, item.line, f"{here} has the bytes of {there}"))


def _find_fractions(items: Sequence[RawItem]) -> Iterator[Defect]:
    """Report splits whose boxes mostly lie within the first pixel: they are divided by the image's sides."""
    for split in SPLITS:
        boxes = [box for item in items if item.split == split for box in item.boxes]
        boxes = [box for box in boxes if box.xyxy[0] < box.xyxy[2] and box.xyxy[1] < box.xyxy[3]]
        tiny = [box for box in boxes if min(box.xyxy) >= -FRACTION_SLACK and max(box.xyxy) <= 1 + FRACTION_SLACK]
        if 2 * len(tiny) > len(boxes):
            corners = " ".join(f"{number:g}" for number in tiny[0].xyxy)
            message = f"{len(tiny)} of {len(boxes)} boxes of {split} lie within the first pixel, as xyxy {corners}"
            yield Defect("fraction_box", tiny[0].file, tiny[0].line, message)


def _check_item(
    item: RawItem,
    facts: ImageFacts,
    masks: dict[Path, MaskFacts],
    classes: Sequence[str],
    defects: list[Defect],
) -> CheckedItem:
    """Clip or drop an image's boxes, and report each one so treated."""
    kept: dict[tuple[int, tuple[float, float, float, float]], None] = {}  # in order, and quick to look up
    for box in item.boxes:
        kind, clipped = _check_box(box, facts.size)
        if clipped is not None and (box.class_id, clipped) in kept:
            kind, clipped = "duplicate_box", None
        if kind is not None:
            numbers = " ".join(f"{number:g}" for number in box.xyxy)
            width, height = facts.size
            name = f"{box.name}: {classes[box.class_id]}" if box.name else classes[box.class_id]
            message = f"{name}: xyxy {numbers} in {width} x {height} pixels of {item.image.name}"
            defects.append(Defect(kind, box.file, box.line, message))
        if clipped is not None:
            kept[box.class_id, clipped] = None
    class_ids, boxes = tuple(number for number, _ in kept), tuple(box for _, box in kept)
    mask = None if item.mask is None else masks.get(item.mask)
    return CheckedItem(item.image, item.split or "train", facts, class_ids, boxes, mask)


def _check_box(box: RawBox, size: tuple[int, int]) -> tuple[str | None, tuple[float, float, float, float] | None]:
    """Return the kind of defect, None for a good box, and the box inside its image, None for one to drop."""
    width, height = size
    if not all(map(math.isfinite, box.xyxy)):
        return "non_finite", None
    x1, y1, x2, y2 = box.xyxy
    if x2 - x1 < MIN_SHARE * width or y2 - y1 < MIN_SHARE * height:
        return "zero_area", None
    clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if clipped[2] - clipped[0] < MIN_SHARE * width or clipped[3] - clipped[1] < MIN_SHARE * height:
        return "outside", None
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    return ("clipped" if beyond > ROUNDING_PX else None), clipped


def _find_empty(
    items: list[RawItem],
    checked: list[CheckedItem],
    legend: Legend | None,
    fractions: dict[Split, float],
    defects: list[Defect],
) -> None:
    """Report splits without images, or without a single box or labelled pixel, and mask classes that train lacks."""
    for split in SPLITS:
        part = [item for item in checked if item.split == split]
        if not part:
            defects.append(Defect("empty_split", ".", None, _why_empty(split, len(checked), fractions)))
        elif legend is None and not any(item.boxes for item in part):
            example = next(item for item in items if item.split == split)
            message = f"{split} has {len(part)} images and no box: {_why_no_box(defects)}"
            defects.append(Defect("empty_split", example.file, example.line, message))
        elif legend is not None and all(item.mask is not None and not item.mask.labelled for item in part):
            message = f"{split} has {len(part)} images and every pixel of their masks is ignored"
            defects.append(Defect("empty_split", ".", None, message))
        elif legend is not None and split == "train":
            _find_absent(part, legend, defects)


def _why_empty(split: Split, images: int, fractions: dict[Split, float]) -> str:
    """Say why a split has no image."""
    message = f"{split} has no image"
    if fractions.get(split) == 0:
        return f"{message} and prepare.{split}_fraction is 0: give it images, or a fraction of train"
    if split in fractions:
        return f"{message}: {images} in all are too few to cut it out of train"
    return message


def _why_no_box(defects: Sequence[Defect]) -> str:
    """Say where boxes may have gone."""
    dropped = sum(defect.kind in DROPPED for defect in defects)
    looked = "are the annotations where the reader looks?"
    return f"{dropped} annotations were dropped (listed above); {looked}" if dropped else looked


def _find_absent(train: Sequence[CheckedItem], legend: Legend, defects: list[Defect]) -> None:
    """Report classes that no mask of train holds; if all but one are missing, that is fatal."""
    masks = [item.mask for item in train if item.mask is not None and not item.mask.unknown]
    if len(masks) < len(train):  # the classes of the others are not known
        return
    present = {number for mask in masks for number, pixels in enumerate(mask.pixels) if pixels}
    ignored = legend.ignored_ids() if any(mask.ignored_pixels for mask in masks) else []
    for name in (name for number, name in enumerate(legend.names) if number not in present):
        message = f"class {name} has no pixel in {len(train)} images"
        if ignored:
            message += f"; if the ignored id {ignored[-1]} is this class, write `{ignored[-1]} {name}` in "
            message += "prepare.masks.classes, with ids for the other classes too, and do not ignore it"
        defects.append(Defect("absent_class", ".", None, message))
    if len(present) == 1:
        message = f"every labeled pixel of train is {legend.names[next(iter(present))]}"
        defects.append(Defect("one_class", ".", None, message))
