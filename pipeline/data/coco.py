"""Read a detection dataset in COCO's layout: one JSON file of instances per split."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.data.coco_masks import segmentation_box
from pipeline.data.defects import Defect
from pipeline.data.json_lists import walk
from pipeline.data.prepared import SPLITS, Split
from pipeline.data.source import (
    SPLIT_NAMES,
    RawBox,
    RawDataset,
    RawItem,
    annotation_place,
    files_below,
    find_licence,
    first_file,
    inside,
    is_hidden,
    parse_size,
    relative,
    spellings,
    unique_classes,
)
from pipeline.errors import PipelineError
from pipeline.files import read_text
from pipeline.text import printable

Key = int | str  # COCO's image ids are numbers; some tools write names
Listed = tuple[int | None, Any]  # a line, None where the whole file is one, and what begins on it
Categories = dict[int, tuple[int | None, str]]  # of a file: id -> line and name
Numbers = dict[int, tuple[int, str]]  # of a file: category id -> class id and name
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,30})")
OTHER_KINDS = ("captions", "panoptic", "stuff", "person_keypoints", "image_info")  # of COCO's files, by their names
SHOWN = 60  # characters of a value, and ids of categories


@dataclass(frozen=True)
class Instances:
    """One JSON file."""

    file: str
    split: Split | None
    images: list[Listed]
    annotations: list[Listed]
    categories: list[Listed]
    licences: list[str]


def read(root: Path, annotations: Path | None, keep_crowds: bool = False) -> RawDataset:
    """Read COCO instances.

    The files are those whose names, or else folders, say train, val (valid, validation) or test; where several do for
    one split, those named `instances*`. One single file without such a name holds everything, and has no splits.
    Category ids may have gaps: classes are in their order. Files that number the same classes differently are matched
    by name. Crowd regions are skipped and reported. A missing bbox is taken from the segmentation. Boxes refer to the
    upright image. An image of the JSON without annotations is background; image files that no JSON names are not
    looked at.

    Args:
        root: the watched folder; images are found by `file_name` (LVIS: the end of `coco_url`) in it, in `images/`,
            in a folder named like the split (also `train2017`), in `images/<split>/`, or beside the JSON.
        annotations: the file or the folder of the JSON files, relative to the root; None for `annotations/`, else
            the root.
        keep_crowds: take annotations with `iscrowd` as objects: CVAT sets it for every brush mask.

    Raises:
        PipelineError: if there is no such file, or it is unclear which one, or its categories contradict another's.

    """
    place = annotation_place(root, annotations, ["annotations"])
    defects: list[Defect] = []
    files = [_load(root, file, split, defects) for split, file in _files(root, place)]
    names, numbers = _classes(root, files, defects)
    classes = unique_classes(names, place) if names or not defects else ()  # a broken file says more than no class
    items = [
        item for file, ids in zip(files, numbers, strict=True) for item in _items(root, file, ids, keep_crowds, defects)
    ]
    licence = ", ".join(sorted(set(chain.from_iterable(file.licences for file in files)))) or find_licence(root)
    return RawDataset(classes, tuple(items), licence, tuple(defects))


def _files(root: Path, place: Path) -> list[tuple[Split | None, Path]]:
    """Find which JSON file is which split's."""
    if place.is_file():
        return [(None, place)]
    found = sorted(
        inside(root, path)
        for path in files_below(place)
        if path.suffix == ".json" and not is_hidden(path.relative_to(place)) and path.is_file()
    )
    by_split = {split: [path for path in found if _split_of(path.relative_to(place)) == split] for split in SPLITS}
    if not any(by_split.values()) and len(found) == 1:
        return [(None, found[0])]
    chosen: list[tuple[Split | None, Path]] = []
    for split, paths in by_split.items():
        instances = [path for path in paths if path.name.startswith("instances")]
        candidates = instances or [path for path in paths if not path.name.startswith(OTHER_KINDS)] or paths
        if len(candidates) > 1:
            names = ", ".join(relative(root, path) for path in candidates)
            raise PipelineError(f"{place}: several files for {split}: {names}: set prepare.annotations to one folder")
        chosen += [(split, path) for path in candidates]
    if not chosen:
        names = ", ".join(path.name for path in found) or "no JSON file"
        raise PipelineError(f"{place}: expected *train*.json, *val*.json, *test*.json or one JSON file, found {names}")
    if not by_split["train"]:
        names = ", ".join(relative(root, path) for path in found)
        raise PipelineError(f"{place}: expected a JSON file named like train, found {names}: rename the one that is it")
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
    parts: dict[str, list[Listed]] = {"images": [], "annotations": [], "categories": [], "licenses": []}
    text = read_text(path)
    one_line = text.find("\n", 0, len(text) - 1) < 0
    line: int | None
    try:
        for key, line, value in walk(text, parts):
            if key in parts:
                parts[key].append((None if one_line else line, value))
    except (ValueError, RecursionError) as error:  # JSONDecodeError is a ValueError
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        defects.append(Defect("broken_file", name, line, f"not the JSON of COCO instances: {error}"))
    else:
        defects += _not_instances(name, split, parts)
    named = [item["name"] for _, item in parts["licenses"] if isinstance(item, dict) and item.get("name")]
    licences = [printable(name) for name in named]
    return Instances(name, split, parts["images"], parts["annotations"], parts["categories"], licences)


def _not_instances(name: str, split: Split | None, parts: dict[str, list[Listed]]) -> list[Defect]:
    """Report a file of another kind, whose annotations are then left out, or a split's file without images."""
    annotations = [annotation for _, annotation in parts["annotations"] if isinstance(annotation, dict)]
    if annotations and not any({"bbox", "segmentation"} & set(annotation) for annotation in annotations):
        keys, line = _short(", ".join(map(str, annotations[0]))), parts["annotations"][0][0]
        parts["annotations"].clear()
        kind = "panoptic annotations" if "segments_info" in annotations[0] else "other annotations"
        message = f"holds {kind}, not instances: none has a bbox or a segmentation, the first has {keys}"
        return [Defect("broken_file", name, line, message)]
    if split is not None and not parts["images"]:
        cut = "" if split == "train" else f": remove the file to cut {split} out of train"
        return [Defect("empty_split", name, None, f"{split} has no image{cut}")]
    return []


def _classes(root: Path, files: list[Instances], defects: list[Defect]) -> tuple[list[str], list[Numbers]]:
    """List the classes by category id, as the first file that has a class numbers it, and map each file's ids to them.

    Raises:
        PipelineError: if an id names two classes, and the files do not just number the same ones differently.

    """
    categories = [_categories(root, file) for file in files]
    for index, one in enumerate(categories):
        for earlier, other in zip(files[:index], categories[:index], strict=True):
            _compare_numbering(root, (files[index], one), (earlier, other), defects)
    numbers: dict[str, int] = {}
    for one in categories:
        for number, (_, name) in sorted(one.items()):
            numbers.setdefault(name, number)
    names = sorted(numbers, key=numbers.__getitem__)
    ids = {name: index for index, name in enumerate(names)}
    return names, [{number: (ids[name], name) for number, (_, name) in one.items()} for one in categories]


def _categories(root: Path, file: Instances) -> Categories:
    """Map a file's category ids to line and name.

    Raises:
        PipelineError: if one cannot be read, or an id or a name stands for two.

    """
    found: Categories = {}
    for line, category in file.categories:
        number = _key(category.get("id")) if isinstance(category, dict) else None
        name = _class_name(category.get("name")) if isinstance(category, dict) else ""
        if not isinstance(number, int) or not name or name.encode(errors="ignore").decode() != name:
            came = _short(repr(category))
            raise PipelineError(
                f"{_where(root, file, line)}: expected a category with a whole id and a name, got {came}"
            )
        if found.setdefault(number, (line, name))[1] != name:
            raise PipelineError(_two_names(root, file, line, number, name, found[number][1]))
    if found:
        unique_classes([name for _, name in found.values()], root / file.file)
    return found


def _class_name(value: Any) -> str:
    """Read a class name, which may be a number; empty for anything else."""
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _compare_numbering(
    root: Path, one: tuple[Instances, Categories], other: tuple[Instances, Categories], defects: list[Defect]
) -> None:
    """Report a category id that names different classes in two files.

    Raises:
        PipelineError: if neither class is known to both files: then it may be one class under two names.

    """
    (file, here), (earlier, there) = one, other
    different = [number for number in here if number in there and here[number][1] != there[number][1]]
    names_here, names_there = ({name for _, name in names.values()} for names in (here, there))
    for number in different:
        line, name = here[number]
        if name not in names_there and there[number][1] not in names_here:
            raise PipelineError(_two_names(root, file, line, number, name, there[number][1]))
    if different:
        line, name = here[different[0]]
        message = f"category {different[0]} is {name!r}, in {earlier.file} {there[different[0]][1]!r}"
        defects.append(Defect("renumbered", file.file, line, message))


def _two_names(root: Path, file: Instances, line: int | None, number: int, name: str, other: str) -> str:
    return f"{_where(root, file, line)}: category {number} is {name!r}, elsewhere {other!r}: give each id one name"


def _where(root: Path, file: Instances, line: int | None) -> str:
    return f"{root / file.file}" if line is None else f"{root / file.file}:{line}"


def _items(root: Path, file: Instances, numbers: Numbers, keep_crowds: bool, defects: list[Defect]) -> list[RawItem]:
    """Join a file's images with their annotations; one that it lists twice has the boxes of both."""
    images = _images(file, defects)
    boxes: dict[Key, list[RawBox]] = {number: [] for number in images}
    for line, annotation in file.annotations:
        found = _annotation(annotation, file.file, line, boxes, numbers, keep_crowds)
        if isinstance(found, Defect):
            defects.append(found)
        else:
            boxes[found[0]].append(found[1])
    items: dict[str, RawItem] = {}
    for number, (line, image) in images.items():
        path = _image(root, file, line, image)
        if isinstance(path, Defect):
            defects.append(path)
            continue
        size = parse_size(image.get("width"), image.get("height"))
        item = RawItem(path, file.split, tuple(boxes[number]), file.file, line, size)
        first = items.setdefault(relative(root, path), item)
        if first is not item:
            items[relative(root, path)] = replace(first, boxes=first.boxes + item.boxes)
            defects.append(Defect("listed_twice", file.file, line, f"image {number}: {relative(root, path)}"))
    return list(items.values())


def _images(file: Instances, defects: list[Defect]) -> dict[Key, tuple[int | None, dict[str, Any]]]:
    """Index a file's images by id."""
    images: dict[Key, tuple[int | None, dict[str, Any]]] = {}
    for line, image in file.images:
        number = _key(image.get("id")) if isinstance(image, dict) else None
        if number is None or not _names(image):
            message = f"expected an image with id and file_name, got {_short(repr(image))}"
            defects.append(Defect("malformed", file.file, line, message))
        elif number not in images:
            images[number] = (line, image)
        elif _names(images[number][1]) == _names(image):
            defects.append(Defect("malformed", file.file, line, f"a second image with id {number}"))
        else:
            first, second = (_names(one)[0] for one in (images[number][1], image))
            message = f"images {first} and {second} both have id {number}: whose are its annotations?"
            defects.append(Defect("broken_file", file.file, line, message))
    return images


def _key(value: Any) -> Key | None:
    """Read an id: a whole number, also as 1.0 or as text, or else a name; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if WHOLE.fullmatch(value) else value
    return value if isinstance(value, int) else None


def _names(image: dict[str, Any]) -> list[str]:
    """List what an image's file may be called; LVIS states the URL, whose end is folder and name."""
    if name := image.get("file_name"):
        return list(spellings(str(name)))
    parts = str(image.get("coco_url") or "").rsplit("/", 2)
    return ["/".join(parts[1:]), parts[2]] if len(parts) == 3 and parts[2] else []


def _annotation(
    annotation: Any,
    file: str,
    line: int | None,
    images: dict[Key, list[RawBox]],
    numbers: Numbers,
    keep_crowds: bool,
) -> tuple[Key, RawBox] | Defect:
    """Read one annotation: the image's id, and the box."""
    name = f"annotation {_short(str(annotation.get('id')))}" if isinstance(annotation, dict) else "annotation"
    try:
        corners = _corners(annotation)
        raw_image, raw_category = annotation["image_id"], annotation["category_id"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        expected = "expected image_id, category_id and a bbox of 4 numbers"
        return Defect("malformed", file, line, f"{name}: {expected}{_what_came(annotation, error)}")
    image, category = _key(raw_image), _key(raw_category)
    if image is None or image not in images:
        return Defect("malformed", file, line, f"{name}: no image has its image_id {_short(repr(raw_image))}")
    if category is None:
        came = _short(repr(raw_category))
        return Defect("malformed", file, line, f"{name}: expected a whole number as category_id, got {came}")
    if not isinstance(category, int) or category not in numbers:
        known = _short(", ".join(str(number) for number in numbers)) or "none"
        came = _short(repr(raw_category))
        return Defect("unknown_class", file, line, f"{name}: category_id {came}, but categories has {known}")
    class_id, class_name = numbers[category]
    if not keep_crowds and annotation.get("iscrowd") not in (None, 0, "", "0"):
        return Defect("crowd", file, line, f"{name}: {class_name}")
    return image, RawBox(class_id, corners, file, line, name)


def _what_came(annotation: Any, error: Exception) -> str:
    """Say what an annotation that cannot be read has instead."""
    if not isinstance(annotation, dict):
        return f", got {_short(repr(annotation))}"
    if missing := [key for key in ("image_id", "category_id") if key not in annotation]:
        return f", got no {' and no '.join(missing)}"
    if not annotation.get("bbox") and (segmentation := annotation.get("segmentation")):
        return f" or a segmentation, got the segmentation {_short(repr(segmentation))}: {_short(str(error))}"
    return f", got {_short(repr(annotation['bbox']))}" if "bbox" in annotation else ", got no bbox"


def _corners(annotation: Any) -> tuple[float, float, float, float]:
    """Read `bbox`, x, y, width and height in pixels, or bound the segmentation where there is none."""
    bbox = annotation.get("bbox") if isinstance(annotation, dict) else annotation["bbox"]
    if not bbox and annotation.get("segmentation"):
        return segmentation_box(annotation["segmentation"])
    if not isinstance(bbox, list):
        raise TypeError(f"bbox is {bbox!r}")
    x, y, width, height = (float(number) for number in bbox)
    return x, y, x + width, y + height


def _image(root: Path, file: Instances, line: int | None, image: dict[str, Any]) -> Path | Defect:
    """Find an image file; a single JSON may well be named after the folder of its images."""
    folders = [root, root / "images"]
    split = file.split or _split_of(Path(file.file))
    if split is not None:
        splits = [*SPLIT_NAMES[split], f"{split}2017"]
        folders += [parent / split for parent in (root, root / "images") for split in splits]
    folders.append((root / file.file).parent)
    names = _names(image)
    path = first_file(folders, names)
    if path is not None:
        return inside(root, path)
    where = ", ".join(dict.fromkeys(relative(root, folder) for folder in folders if folder.is_dir()))
    return Defect("missing_image", file.file, line, f"{names[0]} is in none of the folders {where}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
