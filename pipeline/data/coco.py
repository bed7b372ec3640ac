"""Read a detection dataset in COCO's layout: one JSON file of instances per split."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.data.defects import Defect
from pipeline.data.prepared import SPLITS, Split
from pipeline.data.source import (
    SPLIT_NAMES,
    RawBox,
    RawDataset,
    RawItem,
    annotation_place,
    find_licence,
    inside,
    relative,
    unique_classes,
)
from pipeline.errors import PipelineError

Key = int | str  # COCO's image ids are numbers; some tools write names
BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Instances:
    """One JSON file. Each list holds (line, object)."""

    file: str
    split: Split | None
    images: list[tuple[int, Any]]
    annotations: list[tuple[int, Any]]
    categories: list[tuple[int, Any]]
    licences: list[str]


def read(root: Path, annotations: Path | None) -> RawDataset:
    """Read COCO instances.

    The files are those whose names, or else folders, say train, val (valid, validation) or test; where several do for
    one split, those named `instances*`. One single file without such a name holds everything, and has no splits.
    Category ids may have gaps: classes are in their order. Crowd regions are skipped and reported. Boxes refer to the
    upright image. An image of the JSON without annotations is background; image files that no JSON names are not
    looked at.

    Args:
        root: the watched folder; images are found by `file_name` in it, in `images/`, in a folder named like the
            split (also `train2017`), in `images/<split>/`, or beside the JSON.
        annotations: the file or the folder of the JSON files, relative to the root; None for `annotations/`, else
            the root.

    Raises:
        PipelineError: if there is no such file, or it is unclear which one, or its categories contradict another's.

    """
    place = annotation_place(root, annotations, ["annotations"])
    defects: list[Defect] = []
    files = [_load(root, file, split, defects) for split, file in _files(root, place)]
    numbers = _categories(root, files)
    items = list(chain.from_iterable(_items(root, file, numbers, defects) for file in files))
    names = [name for name, _ in numbers.values()]
    classes = unique_classes(names, place) if names or not defects else ()  # a broken file says more than no class
    licence = ", ".join(sorted(set(chain.from_iterable(file.licences for file in files)))) or find_licence(root)
    return RawDataset(classes, tuple(items), licence, tuple(defects))


def _files(root: Path, place: Path) -> list[tuple[Split | None, Path]]:
    """Find which JSON file is which split's."""
    if place.is_file():
        return [(None, place)]
    found = sorted(inside(root, path) for path in place.rglob("*.json"))
    by_split = {split: [path for path in found if _split_of(path.relative_to(place)) == split] for split in SPLITS}
    if not any(by_split.values()) and len(found) == 1:
        return [(None, found[0])]
    chosen: list[tuple[Split | None, Path]] = []
    for split, paths in by_split.items():
        candidates = [path for path in paths if path.name.startswith("instances")] or paths
        if len(candidates) > 1:
            names = ", ".join(relative(root, path) for path in candidates)
            raise PipelineError(f"{place}: several files for {split}: {names}: set prepare.annotations to one folder")
        chosen += [(split, path) for path in candidates]
    if not chosen:
        names = ", ".join(path.name for path in found) or "no JSON file"
        raise PipelineError(f"{place}: expected *train*.json, *val*.json, *test*.json or one JSON file, found {names}")
    return chosen


def _split_of(path: Path) -> Split | None:
    """Read the split off a file's name, or off its folders' from the innermost."""
    for part in (path.stem, *reversed(path.parent.parts)):
        for split, names in SPLIT_NAMES.items():
            if re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", part.lower()):
                return split
    return None


def _load(root: Path, path: Path, split: Split | None, defects: list[Defect]) -> Instances:
    """Parse one file; what cannot be parsed is reported and counts as empty."""
    name = relative(root, path)
    parts: dict[str, list[tuple[int, Any]]] = {"images": [], "annotations": [], "categories": [], "licenses": []}
    try:
        for key, line, value in _walk(path.read_text(encoding="utf-8-sig")):
            if key in parts:
                parts[key].append((line, value))
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are both ValueErrors
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        defects.append(Defect("broken_file", name, line, f"not the JSON of COCO instances: {error}"))
    licences = [str(item["name"]) for _, item in parts["licenses"] if isinstance(item, dict) and item.get("name")]
    return Instances(name, split, parts["images"], parts["annotations"], parts["categories"], licences)


def _walk(text: str) -> Iterator[tuple[str, int, Any]]:
    """Parse a JSON object of lists, keeping the line on which each element of a list begins.

    Yields:
        Key, line and element.

    Raises:
        JSONDecodeError: if the text is something else.

    """
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    position, more = _open(text, 0, "{}")
    while more:
        key, position = decoder.raw_decode(text, _step(text, position, '"') - 1)
        position = _skip(text, _step(text, position, ":"))
        if text.startswith("[", position):
            position, inner = _open(text, position, "[]")
            while inner:
                line, counted = line + text.count("\n", counted, position), position
                value, position = decoder.raw_decode(text, position)
                yield key, line, value
                position, inner = _next(text, position, "]")
        else:
            _, position = decoder.raw_decode(text, position)
        position, more = _next(text, position, "}")


def _open(text: str, position: int, brackets: str) -> tuple[int, bool]:
    """Step into a list or object; say whether it holds anything."""
    position = _skip(text, _step(text, position, brackets[0]))
    return (position + 1, False) if text.startswith(brackets[1], position) else (position, True)


def _next(text: str, position: int, end: str) -> tuple[int, bool]:
    """Step over a comma or the closing bracket; say whether more follows."""
    position = _skip(text, position)
    if text.startswith(end, position):
        return position + 1, False
    return _skip(text, _step(text, position, ",")), True


def _step(text: str, position: int, character: str) -> int:
    """Step over blanks and one expected character."""
    position = _skip(text, position)
    if not text.startswith(character, position):
        raise json.JSONDecodeError(f"expected {character!r}", text, position)
    return position + 1


def _skip(text: str, position: int) -> int:
    match = BLANK.match(text, position)
    return position if match is None else match.end()


def _categories(root: Path, files: list[Instances]) -> dict[int, tuple[str, int]]:
    """Map category ids, sorted, to their names and contiguous class ids."""
    names: dict[int, str] = {}
    for file in files:
        for line, category in file.categories:
            where = f"{root / file.file}:{line}"
            if not isinstance(category, dict) or not isinstance(category.get("id"), int) or "name" not in category:
                raise PipelineError(f"{where}: expected a category with a whole id and a name, got {category!r}")
            number, name = category["id"], str(category["name"])
            if names.setdefault(number, name) != name:
                came = f"{name!r}, elsewhere {names[number]!r}"
                raise PipelineError(f"{where}: category {number} is {came}: give each id one name")
    return {number: (names[number], index) for index, number in enumerate(sorted(names))}


def _items(
    root: Path, file: Instances, categories: dict[int, tuple[str, int]], defects: list[Defect]
) -> Iterator[RawItem]:
    """Join a file's images with their annotations."""
    images: dict[Key, tuple[int, dict[str, Any]]] = {}
    for line, image in file.images:
        if not isinstance(image, dict) or not isinstance(image.get("id"), Key) or "file_name" not in image:
            defects.append(
                Defect("malformed", file.file, line, f"expected an image with id and file_name, got {image!r}")
            )
        elif image["id"] in images:
            defects.append(Defect("malformed", file.file, line, f"a second image with id {image['id']}"))
        else:
            images[image["id"]] = (line, image)
    boxes: dict[Key, list[RawBox]] = {number: [] for number in images}
    for line, annotation in file.annotations:
        found = _box(annotation, file.file, line, boxes, categories)
        if isinstance(found, Defect):
            defects.append(found)
        else:
            boxes[annotation["image_id"]].append(found)
    for number, (line, image) in images.items():
        path = _image(root, file, str(image["file_name"]))
        if path is None:
            defects.append(Defect("missing_image", file.file, line, str(image["file_name"])))
        else:
            yield RawItem(path, file.split, tuple(boxes[number]), file.file, line, _size(image))


def _box(
    annotation: Any, file: str, line: int, images: dict[Key, list[RawBox]], categories: dict[int, tuple[str, int]]
) -> RawBox | Defect:
    """Read one annotation: `bbox` is x, y, width, height in pixels."""
    name = f"annotation {annotation.get('id')}" if isinstance(annotation, dict) else "annotation"
    try:
        x, y, width, height = [float(number) for number in annotation["bbox"]]
        image, category = annotation["image_id"], annotation["category_id"]
        known = image in images, category in categories
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        expected = "expected image_id, category_id and a bbox of 4 numbers"
        return Defect("malformed", file, line, f"{name}: {expected}: {type(error).__name__} {error}")
    if not known[0]:
        return Defect("malformed", file, line, f"{name}: no image has its image_id {image}")
    if not known[1]:
        numbers = ", ".join(str(number) for number in categories)
        return Defect("unknown_class", file, line, f"{name}: category_id {category}, but categories has {numbers}")
    if annotation.get("iscrowd", 0):
        return Defect("crowd", file, line, f"{name}: {categories[category][0]}")
    return RawBox(categories[category][1], (x, y, x + width, y + height), file, line)


def _image(root: Path, file: Instances, name: str) -> Path | None:
    """Find an image file by its `file_name`; a single JSON may well be named after the folder of its images."""
    folders = [root, root / "images"]
    split = file.split or _split_of(Path(file.file))
    if split is not None:
        splits = [*SPLIT_NAMES[split], f"{split}2017"]
        folders += [parent / split for parent in (root, root / "images") for split in splits]
    folders.append((root / file.file).parent)
    return next((inside(root, folder / name) for folder in folders if (folder / name).is_file()), None)


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None
