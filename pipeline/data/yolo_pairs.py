"""Pair images with label files in Ultralytics' layout, and find what has no partner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from os.path import normpath
from pathlib import Path

from pipeline.data.defects import Defect
from pipeline.data.images import LOOKS_LIKE_IMAGE
from pipeline.data.names import text_lines
from pipeline.data.source import find_images, relative, visible
from pipeline.data.yolo_rows import is_label
from pipeline.errors import PipelineError


def label_file(root: Path, image: Path) -> Path:
    """Swap the last folder named images for labels, below the root."""
    return _swapped(root, image, "images", "labels").with_suffix(".txt")


def _swapped(root: Path, path: Path, old: str, new: str) -> Path:
    """Replace the last folder of a name in a path, below the root."""
    parts = list(path.relative_to(root).parts) if path.is_relative_to(root) else list(path.parts)
    if old in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(old)] = new
    return root / Path(*parts)


def mismatches(root: Path, labels: dict[Path, Path]) -> list[Defect]:
    """Report images without labels, labels without an image, and images that no split lists.

    Args:
        root: the watched folder.
        labels: the listed images, with the label file of each, which may not exist.

    """
    return [*_unlabeled(root, labels), *_unpaired(root, labels), *_unlisted(root, labels)]


def _unlabeled(root: Path, labels: dict[Path, Path]) -> list[Defect]:
    """Find images without a label file: backgrounds, or labels that lie elsewhere."""
    return [
        Defect("unlabeled", relative(root, image), None, f"no {relative(root, file)}")
        for image, file in labels.items()
        if not file.is_file()
    ]


def _unpaired(root: Path, labels: dict[Path, Path]) -> list[Defect]:
    """Find files with label rows that belong to no image, among those that do."""
    used = set(labels.values())
    found = []
    for folder in sorted({file.parent for file in used}):
        for path in visible(folder) if folder.is_dir() else []:
            if path.suffix.lower() == ".txt" and path not in used and _has_labels(path):
                found += _why_unpaired(root, path, used)
    return found


def _has_labels(path: Path) -> bool:
    """Say whether the first row of a text file looks like labels; names of classes and lists of images do not."""
    try:
        return is_label(next((line for line in text_lines(path) if line.strip()), ""))
    except PipelineError:
        return False


def _why_unpaired(root: Path, path: Path, used: Set[Path]) -> list[Defect]:
    """Say which image's labels a file may be meant to be; nothing if its image exists and no split lists it."""
    name = relative(root, path)
    if (right := path.with_suffix(".txt")) in used:
        if right.is_file() and right.samefile(path):  # a file system that does not tell .TXT from .txt
            return []
        return [Defect("unpaired_labels", name, None, f"expected the name {right.name}")]
    if _like_image(path.with_suffix("")) and (right := path.with_suffix("").with_suffix(".txt")) in used:
        return [Defect("unpaired_labels", name, None, f"expected the name {right.name}")]
    image = _swapped(root, path, "labels", "images").with_suffix("")
    beside = visible(image.parent) if image.parent.is_dir() else []
    if any(_like_image(one) and not one.is_dir() for one in beside if one.stem == path.stem):
        return []
    return [Defect("unpaired_labels", name, None, f"no image {relative(root, image)}.* of a supported type")]


def _like_image(path: Path) -> bool:
    return path.suffix.lower() in LOOKS_LIKE_IMAGE


def _unlisted(root: Path, labels: dict[Path, Path]) -> list[Defect]:
    """Count, per folder, the images with labels that no split lists."""
    names = {normpath(image) for image in labels}
    others = [
        image for image in find_images(root) if normpath(image) not in names and label_file(root, image).is_file()
    ]
    listed = {image.resolve() for image in labels} if others else set()  # a list may name an image behind a link
    counts = Counter(image.parent for image in others if image.resolve() not in listed)
    return [
        Defect("unlisted_images", relative(root, folder), None, f"{count} with labels")
        for folder, count in sorted(counts.items())
    ]
