"""Defects of the input: what they are called, which ones stop the stage, and how they are shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from pipeline.errors import PipelineError
from pipeline.text import printable

SHOWN_PER_KIND = 10


@dataclass(frozen=True)
class Kind:
    """A kind of defect. `remedy` is what was done about it, or for a fatal one what the user should do."""

    title: str
    fatal: bool
    remedy: str


KINDS: dict[str, Kind] = {
    "clipped": Kind("box reaches outside its image", False, "clipped to the image"),
    "polygon": Kind("polygons or oriented boxes", False, "their enclosing boxes are taken"),
    "keypoints": Kind("boxes with keypoints", False, "the boxes are taken"),
    "border_polygon": Kind(
        "polygons that end with the whole number 1",
        False,
        "kept: if that is the track id of a prediction, remove it and the confidence before it",
    ),
    "unread_type": Kind("file of an image type that is not read", False, "left out"),
    "unpaired_labels": Kind("label file without an image", False, "left out"),
    "unlabeled": Kind("image without a label file", False, "counts as background"),
    "unlisted_images": Kind("images that no split names", False, "left out"),
    "unused_folder": Kind("folder that is no split's", False, "left out"),
    "other_name": Kind("image whose name does not end with prepare.masks.image_suffix", False, "left out"),
    "absent_class": Kind("class without a pixel in train", False, "it cannot be learned"),
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
    "duplicate_image": Kind("image twice in one split", False, "one kept, with its labels"),
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
    "unusable_name": Kind(
        "file name with a line break, a control character or bytes that are not UTF-8", True, "rename it"
    ),
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
        "correct the mask; or give the value a class in prepare.masks.classes, as in `255 object`; or, if it means "
        "no label, name it in prepare.masks.ignore",
    ),
    "mask_size": Kind(
        "mask of another size than its upright image",
        True,
        "export it again, or set prepare.masks.resize if it was only scaled",
    ),
    "other_labels": Kind("image twice in one split, with different labels", True, "keep the copy that is right"),
    "one_class": Kind("train masks of a single class", True, "nothing can be learned: correct masks or classes"),
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
        PipelineError: one error with a summary of the fatal defects, then the tolerated ones, which are often the
            cause, then the fatal ones; each grouped by kind with counts.

    """
    groups = _groups(defects)
    fatal = {name: group for name, group in groups.items() if KINDS[name].fatal}
    if not fatal:
        return
    summary = ", ".join(f"{len(group)} x {KINDS[name].title}" for name, group in fatal.items())
    lines = [f"{root} cannot be prepared; nothing was written: {summary}"]
    if tolerated := [line for name, group in groups.items() if name not in fatal for line in _listed(root, group)]:
        lines += ["Tolerated:", *tolerated, "Fatal:"]
    raise PipelineError("\n".join([*lines, *(line for group in fatal.values() for line in _listed(root, group))]))


def show_defects(console: Console, root: Path, defects: Sequence[Defect]) -> None:
    """Print the defects grouped by kind, one line each, the first ten of a kind."""
    for group in _groups(defects).values():
        for line in _listed(root, group, rest=" (the prepare stage lists all in dataset/defects.json)"):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def write_defects(path: Path, defects: Sequence[Defect]) -> None:
    """Write all defects as a JSON list; bytes of file names that are not UTF-8 become JSON's escapes."""
    text = json.dumps([asdict(defect) for defect in defects], indent=2, ensure_ascii=False)
    path.write_bytes(f"{text}\n".encode(errors="backslashreplace"))


def _groups(defects: Sequence[Defect]) -> dict[str, list[Defect]]:
    """Group by kind, in the order of KINDS."""
    found = {name: [defect for defect in defects if defect.kind == name] for name in KINDS}
    return {name: group for name, group in found.items() if group}


def _listed(root: Path, group: Sequence[Defect], rest: str = "") -> list[str]:
    """List defects of one kind below its title."""
    kind = KINDS[group[0].kind]
    lines = [f"{len(group)} x {kind.title} ({kind.remedy}):"]
    lines += [printable(f"  {_where(root, defect)}: {defect.message}") for defect in group[:SHOWN_PER_KIND]]
    if len(group) > SHOWN_PER_KIND:
        lines.append(f"  and {len(group) - SHOWN_PER_KIND} more{rest}")
    return lines


def _where(root: Path, defect: Defect) -> str:
    path = (root / defect.file).as_posix()
    return path if defect.line is None else f"{path}:{defect.line}"
