"""Defects of the input: what they are called, which ones stop the stage, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from pipeline.errors import PipelineError

SHOWN_PER_KIND = 10


@dataclass(frozen=True)
class Kind:
    """A kind of defect. `remedy` is what was done about it, or for a fatal one what the user should do."""

    title: str
    fatal: bool
    remedy: str


KINDS: dict[str, Kind] = {
    "clipped": Kind("box reaches outside its image", False, "clipped to the image"),
    "outside": Kind("box outside its image", False, "box dropped"),
    "zero_area": Kind("box of zero or negative area", False, "box dropped"),
    "non_finite": Kind("box with a number that is not finite", False, "box dropped"),
    "malformed": Kind("annotation that cannot be read", False, "annotation dropped"),
    "duplicate_box": Kind("box written twice", False, "one kept"),
    "fraction_box": Kind("box within one pixel", True, "write pixels, not fractions of the image's sides"),
    "crowd": Kind(
        "crowd region",
        False,
        "skipped, as it outlines many objects; CVAT marks brush masks so: `prepare.coco.keep_crowds: true` takes them",
    ),
    "renumbered": Kind("class numbered differently in two files", False, "classes matched by name"),
    "listed_twice": Kind("image listed twice in one file", False, "its boxes joined"),
    "duplicate_image": Kind("image twice in one split", False, "the first one kept"),
    "near_duplicate": Kind(
        "image that looks like one of another split",
        False,
        "kept; if they are copies remove one: a score on images seen in training is too good",
    ),
    "val_in_test": Kind("val image that also stands in test", False, "kept: choices made on val favour it"),
    "resized_mask": Kind("mask of another size than its image", False, "resized, nearest neighbour"),
    "blank_mask": Kind("mask without a labelled pixel", False, "kept: nothing is learnt from its image"),
    "other_list": Kind("split list of another task", False, "used, as ImageSets/Main has none"),
    "unlisted": Kind("annotation file outside the split folders", False, "left out"),
    "class_without_box": Kind("class without a box in train", False, "kept, but no model can learn it"),
    "alike_classes": Kind("classes of almost the same name", False, "kept as different classes"),
    "unannotated": Kind("image without an annotation file", False, "left out"),
    "broken_file": Kind("annotation file that cannot be parsed", True, "mend or remove it"),
    "unknown_class": Kind("unknown class", True, "add it to the classes, or correct the annotation"),
    "missing_image": Kind("image that does not exist", True, "put it there, or remove its annotation"),
    "unreadable_image": Kind(
        "unreadable image",
        True,
        "replace it or remove its annotation: leaving it out unasked would change the data",
    ),
    "size_mismatch": Kind(
        "image of another size than its annotation says", True, "boxes would be off: export again, or correct the size"
    ),
    "missing_mask": Kind("image without a mask", True, "put it there, or remove the image"),
    "second_annotation": Kind("second annotation file of one image", True, "keep one"),
    "second_mask": Kind("second mask of one image", True, "keep one"),
    "unreadable_mask": Kind("mask that cannot be read", True, "export it again"),
    "unknown_value": Kind(
        "mask with values of no class",
        True,
        "correct the mask, add the value to prepare.masks.classes, or name it in prepare.masks.ignore",
    ),
    "mask_size": Kind(
        "mask of another size than its upright image",
        True,
        "export it again, or set prepare.masks.resize if it was only scaled",
    ),
    "leak": Kind("train image that also stands in val or test", True, "remove it from one of them"),
    "empty_split": Kind("split without images or labels", True, "every split needs both"),
}


@dataclass(frozen=True)
class Defect:
    """One defect: a key of KINDS, a file relative to the root, a line (None for images), and what exactly is wrong."""

    kind: str
    file: str
    line: int | None
    message: str


def stop_if_fatal(root: Path, defects: Sequence[Defect]) -> None:
    """Stop on defects that leave nothing sensible to train on.

    Raises:
        PipelineError: one error that lists all fatal defects, grouped by kind with counts.

    """
    fatal = [defect for defect in defects if KINDS[defect.kind].fatal]
    if fatal:
        raise PipelineError("\n".join([f"{root} cannot be prepared; nothing was written", *_grouped(root, fatal)]))


def show_defects(console: Console, root: Path, defects: Sequence[Defect]) -> None:
    """Print the defects grouped by kind, one line each, the first ten of a kind."""
    for line in _grouped(root, defects, rest=" (the prepare stage lists all in dataset/defects.json)"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def write_defects(path: Path, defects: Sequence[Defect]) -> None:
    """Write all defects as a JSON list."""
    path.write_text(json.dumps([asdict(defect) for defect in defects], indent=2, ensure_ascii=False) + "\n")


def _grouped(root: Path, defects: Sequence[Defect], rest: str = "") -> list[str]:
    lines = []
    for name, kind in KINDS.items():
        group = [defect for defect in defects if defect.kind == name]
        if group:
            lines.append(f"{len(group)} x {kind.title} ({kind.remedy}):")
            lines += [f"  {_where(root, defect)}: {defect.message}" for defect in group[:SHOWN_PER_KIND]]
        if len(group) > SHOWN_PER_KIND:
            lines.append(f"  and {len(group) - SHOWN_PER_KIND} more{rest}")
    return lines


def _where(root: Path, defect: Defect) -> str:
    path = (root / defect.file).as_posix()
    return path if defect.line is None else f"{path}:{defect.line}"
