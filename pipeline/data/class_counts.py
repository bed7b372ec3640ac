"""How many labels each class has in each split: counted, checked, shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.data.defects import Defect
from pipeline.data.prepared import SPLITS, Split, SplitCounts
from pipeline.text import printable

CLASSES_SHOWN = 100
Labels = tuple[Sequence[int], Sequence[int]]  # of an image: the class of each box, and the pixels of each mask class
Counts = Mapping[Split, SplitCounts]


def count_labels(images: Iterable[Labels], classes: int, mask_classes: int) -> SplitCounts:
    """Count a split's images, and boxes and pixels by class."""
    class_boxes, class_images = np.zeros((2, classes), np.int64)
    mask_pixels, mask_images = np.zeros((2, mask_classes), np.int64)
    number = 0
    for class_ids, pixels in images:
        number += 1
        boxes = np.bincount(np.asarray(class_ids, np.int64), minlength=classes)
        class_boxes += boxes
        class_images += boxes > 0
        if len(pixels):
            mask_pixels += pixels
            mask_images += np.asarray(pixels) > 0
    return SplitCounts(
        images=number,
        boxes=int(class_boxes.sum()),
        class_boxes=class_boxes.tolist(),
        class_images=class_images.tolist(),
        mask_pixels=mask_pixels.tolist(),
        mask_images=mask_images.tolist(),
    )


def class_defects(counts: Counts, classes: Sequence[str], mask_classes: Sequence[str]) -> Iterator[Defect]:
    """Report classes of boxes that have none in train, and classes that look like one written in two ways."""
    boxes = {split: one.class_boxes for split, one in counts.items()}
    for index, name in enumerate(classes):
        if any(boxes["train"]) and not boxes["train"][index]:  # train without any box is reported itself
            others = ", ".join(f"{boxes[split][index]} in {split}" for split in SPLITS[1:])
            yield Defect("class_without_box", ".", None, f"{name}: 0 boxes in train, {others}")
    for names in (classes, mask_classes):
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(_folded(name), []).append(name)
        for same in alike.values():
            if len(same) > 1:
                yield Defect("alike_classes", ".", None, " and ".join(repr(name) for name in same))


def _folded(name: str) -> str:
    """Drop what people write now one way, now another: case, width, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def show_counts(console: Console, counts: Counts, classes: Sequence[str], mask_classes: Sequence[str]) -> None:
    """Print tables: images and boxes by split, and boxes and pixels by class and split."""
    table = _table("split", ["images", "boxes"] if classes else ["images"])
    for split, one in counts.items():
        table.add_row(split, *map(str, [one.images, one.boxes] if classes else [one.images]))
    console.print(table)
    if classes:
        boxes = {split: list(map(_cell, one.class_boxes, one.class_images)) for split, one in counts.items()}
        _show_classes(console, "boxes (images)", classes, boxes)
    if mask_classes:
        shares = {split: list(map(_cell, _percent(one.mask_pixels), one.mask_images)) for split, one in counts.items()}
        _show_classes(console, "pixels (images)", mask_classes, shares)


def _show_classes(console: Console, what: str, names: Sequence[str], cells: Mapping[Split, Sequence[str]]) -> None:
    table = _table(f"class: {what}", list(cells))
    for index, name in enumerate(names[:CLASSES_SHOWN]):
        table.add_row(Text(printable(name)), *(column[index] for column in cells.values()))
    console.print(table)
    if len(names) > CLASSES_SHOWN:
        console.print(
            f"and {len(names) - CLASSES_SHOWN} more classes: the prepare stage lists all in dataset/dataset.json"
        )


def _table(first: str, others: Sequence[str]) -> Table:
    table = Table(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _cell(labels: object, images: int) -> str:
    return f"{labels} ({images})"


def _percent(pixels: Sequence[int]) -> list[str]:
    """Give each class's share of the labelled pixels."""
    return [f"{100 * number / max(1, sum(pixels)):.3g} %" for number in pixels]
