"""What every reader of a user's data returns, and where a reader may look."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.defects import Defect
from pipeline.data.images import LOOKS_LIKE_IMAGE, SUPPORTED
from pipeline.data.legend import Legend
from pipeline.data.names import check_class_name, is_usable
from pipeline.data.prepared import Split
from pipeline.errors import PipelineError
from pipeline.text import printable

# What people call the splits; the first is ours.
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_NAMES_TEXT = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
UNREAD = frozenset([".jfif", ".jpe", ".ppm", ".pgm", ".pnm", ".tga", ".psd", ".svg", ".exr", ".hdr", ".nef", ".cr2"])


@dataclass(frozen=True)
class RawBox:
    """One box as it was written: xyxy pixels of the upright image, not yet checked or clipped.

    `name` is what its file calls the annotation; `line` is None where a line says nothing.
    """

    class_id: int
    xyxy: tuple[float, float, float, float]
    file: str
    line: int | None
    name: str = ""


@dataclass(frozen=True)
class RawItem:
    """One image with its boxes. `split` is None where the source has no splits; `file` and `line` name the image.

    `declared_size` is the width and height that the annotation states, None where it states none. `mask` is None where
    the source has no masks, or none for this image.
    """

    image: Path
    split: Split | None
    boxes: tuple[RawBox, ...]
    file: str
    line: int | None
    declared_size: tuple[float, float] | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class RawDataset:
    """All that a reader found, defects included. File names in it are relative to the root.

    `classes` are those of boxes. `legend` explains the masks, None where the source has none; `resize_masks` allows
    masks of other sizes than their images.
    """

    classes: tuple[str, ...]
    items: tuple[RawItem, ...]
    licence: str
    defects: tuple[Defect, ...] = ()
    legend: Legend | None = None
    resize_masks: bool = False


def inside(root: Path, path: Path) -> Path:
    """Return `path` if DVC sees changes to it when it watches `root`.

    Raises:
        PipelineError: if it lies elsewhere, or in a symlinked folder, which DVC does not follow.

    """
    folder = path if path.is_dir() else path.parent
    if not folder.resolve().is_relative_to(root.resolve()):
        raise PipelineError(
            f"{path} lies outside {root} (or behind a symlinked folder in it), where DVC would not see it change: "
            f"move it under {root}, or set prepare.path to a folder that holds all of the data"
        )
    return path


def relative(root: Path, path: Path) -> str:
    """Name a file inside the root as `labels/train/a.txt`, the same on every machine."""
    return Path(os.path.relpath(path, root)).as_posix()


def spellings(path: str) -> tuple[str, ...]:
    r"""List a path from a file as it is written and, where it holds the `\` of Windows, with `/` in its place."""
    return tuple(dict.fromkeys([path, path.replace("\\", "/")]))


def first_file(folders: Iterable[Path], names: Iterable[str]) -> Path | None:
    """Find a file by one of its names, the first name in the first folder; names that no file can have are none."""
    candidates = (folder / name for name in names if name for folder in folders)
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def is_hidden(path: Path) -> bool:
    """Tell the files that nobody looks at, such as macOS's `._a.xml`; `path` is relative to the folder looked at."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def parse_size(width: object, height: object) -> tuple[float, float] | None:
    """Read the size that an annotation states, also `640.0` or text; None where it states none."""
    try:
        size = float(str(width)), float(str(height))
    except ValueError:
        return None
    return size if all(size) else None


def annotation_place(root: Path, annotations: Path | None, usual: Iterable[str]) -> Path:
    """Find the annotation file or folder: the one asked for, or the first of the usual places, or the root.

    Raises:
        PipelineError: if the one asked for does not exist or lies outside the root.

    """
    if annotations is None:
        return next((root / name for name in usual if (root / name).exists()), root)
    place = inside(root, root / annotations)
    if not place.exists():
        raise PipelineError(f"{place} does not exist: prepare.annotations is a file or folder relative to {root}")
    return place


def find_images(folder: Path) -> list[Path]:
    """List everything below a folder that looks like an image, sorted; unsupported formats are found later.

    Symlinked folders are followed, each folder once and by its own path where it has one below `folder`; links to a
    folder above it are not followed. Hidden files and folders are left out.

    Raises:
        PipelineError: if a folder cannot be read.

    """
    return sorted(path for path in files_below(folder) if path.suffix.lower() in LOOKS_LIKE_IMAGE)


def unread_images(root: Path, folder: Path) -> list[Defect]:
    """Report images below a folder that `find_images` does not find."""
    return [
        Defect("unread_type", relative(root, path), None, f"convert it to one of {' '.join(SUPPORTED)}")
        for path in sorted(files_below(folder))
        if path.suffix.lower() in UNREAD
    ]


def files_below(folder: Path) -> Iterator[Path]:
    """List the files below a folder, in no order; links and hidden ones are taken as `find_images` says.

    Raises:
        PipelineError: if a folder cannot be read.

    """
    seen = {_identity(parent) for parent in folder.resolve().parents}
    real, links = [folder], list[Path]()
    try:
        while real or links:
            here = real.pop() if real else links.pop(0)
            if _identity(here) in seen:
                continue
            seen.add(_identity(here))
            for path in visible(here):
                if not path.is_dir():
                    yield path
                elif path.is_symlink():
                    links.append(path)
                else:
                    real.append(path)
    except OSError as error:
        raise PipelineError(f"{error.filename} cannot be read: {error.strerror}") from None


def visible(folder: Path) -> list[Path]:
    """List what a folder holds, sorted, without hidden entries such as macOS' `._a.txt`.

    Raises:
        PipelineError: if it cannot be read.

    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise PipelineError(f"{folder} cannot be read: {error.strerror}") from None


def _identity(folder: Path) -> tuple[int, int]:
    """Return what two paths of one folder have in common."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def split_folders(parent: Path) -> list[tuple[Split, Path]]:
    """List the folders in `parent` that are named like a split in any case, also as `train2017`, in order of splits."""
    folders = sorted(path for path in parent.iterdir() if path.is_dir())
    return [
        (split, path)
        for split, names in SPLIT_NAMES.items()
        for path in folders
        if re.fullmatch(rf"({'|'.join(names)})[-_]?\d*", path.name.lower())
    ]


def without_unusable_names(root: Path, raw: RawDataset) -> RawDataset:
    """Take out, and report, images whose names would break the lists of file names that later stages read."""
    unusable = {item.image for item in raw.items if not is_usable(relative(root, item.image))}
    defects = [
        Defect("unusable_name", relative(root, image), None, f"reads {relative(root, image)!a}")
        for image in sorted(unusable)
    ]
    items = tuple(item for item in raw.items if item.image not in unusable)
    return replace(raw, items=items, defects=(*raw.defects, *defects))


def unique_classes(classes: Sequence[str], where: Path) -> tuple[str, ...]:
    """Check a list of class names.

    Raises:
        PipelineError: if it is empty, names a class twice, or holds a name that a list of names could not hold.

    """
    if not classes:
        raise PipelineError(f"{where}: no class found: nothing to detect")
    for number, name in enumerate(classes):
        check_class_name(name, f"{where}: class {number}")
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise PipelineError(f"{where}: classes named more than once: {', '.join(twice)}: give each its own name")
    return tuple(classes)


def find_licence(root: Path) -> str:
    """Return the first line of a licence file in the root, or `unknown`."""
    for path in sorted(root.iterdir()):
        if path.stem.lower() in {"license", "licence", "copying"} and path.is_file():
            lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
            return next((printable(line) for line in lines if line), "unknown")
    return "unknown"


def ranked(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Shuffle names by a hash of each: an order that depends on no listing, and that a new name does not reshuffle."""
    return sorted(names, key=lambda name: (hashlib.sha256(f"{purpose}:{seed}:{name}".encode()).digest(), name))


def carve(items: Sequence[RawItem], root: Path, fractions: dict[Split, float], seed: int) -> list[RawItem]:
    """Move a share of train into each split that the source lacks.

    A split that the source has is left as it is, and its fraction unused. Items without a split count as train.
    The count is the fraction of train rounded, at least 1; one image stays in train. Which images are taken depends on
    the seed and on their names relative to the root.
    """
    items = [replace(item, split=item.split or "train") for item in items]
    order = ranked({relative(root, item.image) for item in items if item.split == "train"}, seed, "split")
    present = {item.split for item in items}
    moved: dict[str, Split] = {}
    for split, fraction in fractions.items():
        if split not in present and fraction > 0:
            count = max(1, round(fraction * len(order)))
            moved |= dict.fromkeys(order[len(moved) : min(len(moved) + count, len(order) - 1)], split)
    return [
        replace(item, split=moved.get(relative(root, item.image), "train")) if item.split == "train" else item
        for item in items
    ]
