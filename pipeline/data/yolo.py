"""Read a detection dataset in Ultralytics' layout: a YAML file, image folders, and label files beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pipeline.data.defects import Defect
from pipeline.data.images import LOOKS_LIKE_IMAGE, upright_size
from pipeline.data.names import text_lines
from pipeline.data.prepared import SPLITS, Split
from pipeline.data.source import (
    SPLIT_NAMES,
    RawBox,
    RawDataset,
    RawItem,
    annotation_place,
    find_images,
    find_licence,
    inside,
    relative,
    unique_classes,
    unread_images,
    visible,
)
from pipeline.data.yolo_pairs import label_file, mismatches
from pipeline.data.yolo_rows import Text, read_rows
from pipeline.errors import PipelineError
from pipeline.yaml_file import read_yaml


@dataclass(frozen=True)
class Listed:
    """An image that a split lists, with the file and the line that name it."""

    image: Path
    split: Split
    file: str
    line: int


def read(root: Path, annotations: Path | None) -> RawDataset:
    """Read what a data.yaml describes.

    As Ultralytics does: `train`, `val` and `test` are each a folder (searched to any depth), a `.txt` list of images,
    or several of these; an image's labels stand where `/images/` in its path is `/labels/` (else beside it); no label
    file means background; a line with a polygon counts as its bounding box, and of one with keypoints the box is
    taken; labels refer to the upright image. Unlike it, a relative `path:` is looked up from the YAML file first, not
    from Ultralytics' settings.

    Args:
        root: the watched folder.
        annotations: the YAML file, relative to the root; None for `data.yaml` or the only YAML file there.

    Raises:
        PipelineError: if the YAML file is missing, unusable, or points outside the root.

    """
    file = _yaml_file(root, annotation_place(root, annotations, ["data.yaml"]))
    described = _load(file)
    classes = unique_classes(_names(file, described.get("names")), file)
    _check_count(file, described, classes)
    keypoints = _keypoints(file, described)
    defects: list[Defect] = []
    listed = _listed_images(root, file, described, defects)
    labels = {entry.image: label_file(root, entry.image) for entry in listed}
    boxes = _boxes(root, labels, len(classes), keypoints, defects)
    items = [RawItem(one.image, one.split, boxes.get(one.image, ()), one.file, one.line) for one in listed]
    defects += mismatches(root, labels)
    return RawDataset(classes, tuple(items), find_licence(root), tuple(defects))


def _yaml_file(root: Path, place: Path) -> Path:
    """Pick the YAML file out of what `prepare.annotations` names."""
    if place.is_file():
        return place
    found = [path for path in visible(place) if path.suffix in {".yaml", ".yml"}]
    if len(found) != 1:
        came = ", ".join(path.name for path in found) or "none"
        raise PipelineError(f"{place}: expected data.yaml or one YAML file, found {came}: set prepare.annotations")
    return inside(root, found[0])


def _load(file: Path) -> CommentedMap:
    described = read_yaml(file)
    if not isinstance(described, CommentedMap):
        raise PipelineError(f"{file}: expected keys such as train, val and names, got {type(described).__name__}")
    return described


def _names(file: Path, names: Any) -> list[str]:
    """Read class names from a list or from a mapping of 0, 1, 2, ... to names."""
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if isinstance(names, list) and not any(name is None or isinstance(name, list | dict) for name in names):
        return [str(name) for name in names]
    raise PipelineError(f"{file}: names: expected a list, or a mapping of 0, 1, 2, ... to class names, got {names!r}")


def _check_count(file: Path, described: CommentedMap, classes: Sequence[str]) -> None:
    """Refuse an `nc` that contradicts `names`: one of the two belongs to other labels."""
    count = described.get("nc")
    if count is not None and count != len(classes):
        where = f"{file}:{_line(described, 'nc')}"
        raise PipelineError(f"{where}: nc: expected {len(classes)}, the number of names, got {count!r}: correct one")


def _keypoints(file: Path, described: CommentedMap) -> tuple[int, int] | None:
    """Read `kpt_shape`: how many keypoints a box has, and of how many numbers each."""
    shape = described.get("kpt_shape")
    if shape is None:
        return None
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(one, int) for one in shape):
        count, numbers = shape
        if count > 0 and numbers in (2, 3):
            return count, numbers
    where = f"{file}:{_line(described, 'kpt_shape')}"
    raise PipelineError(
        f"{where}: kpt_shape: expected the number of keypoints and 2 or 3, as in [17, 3], got {shape!r}"
    )


def _line(described: CommentedMap, key: str) -> int:
    """Return the line of a key; 1 where it comes from a merged mapping."""
    return int(described.lc.data[key][0]) + 1 if key in described.lc.data else 1


def _base(root: Path, file: Path, path: Any) -> Path:
    """Find the folder that a `path:` key means; the root, too, if only its parents have changed since."""
    if path is None:
        return file.parent
    existing = [folder for folder in (file.parent / str(path), Path(str(path))) if _is(Path.is_dir, folder)]
    for folder in existing:
        if folder.resolve().is_relative_to(root.resolve()):
            return folder
    if Path(str(path)).name == root.resolve().name:
        return root
    if existing:
        return inside(root, existing[0])
    raise PipelineError(f"{file}: path: {path} is no folder, neither from {file.parent} nor from here: remove the key")


def _listed_images(root: Path, file: Path, described: CommentedMap, defects: list[Defect]) -> list[Listed]:
    """List the images of all splits; report those that do not exist, and places without any."""
    base = _base(root, file, described.get("path"))
    if not any(described.get(name) for name in SPLIT_NAMES["train"]):
        came = ", ".join(map(str, described))
        raise PipelineError(f"{file}: expected the key train with a folder or list of images, got {came}")
    listed = []
    for split in SPLITS:
        key = next((name for name in SPLIT_NAMES[split] if described.get(name)), None)
        if key is not None:
            line = _line(described, key)
            for text in described[key] if isinstance(described[key], list) else [described[key]]:
                place = _exists(base, str(text))
                if place is None:
                    raise PipelineError(f"{file}:{line}: {key}: {text} is not in {base}: correct it or remove the key")
                images = _images(root, base, place, Listed(file, split, relative(root, file), line), defects)
                if not images:
                    message = f"{key}: {text} has no image: put them there, or remove it"
                    cut = "" if split == "train" else f"; without the key {key}, {split} is cut out of train"
                    defects.append(Defect("empty_split", relative(root, file), line, message + cut))
                listed += images
    return listed


def _images(root: Path, base: Path, place: Path, key: Listed, defects: list[Defect]) -> list[Listed]:
    """List the images of a folder or a list; `key` says where the YAML file names it."""
    inside(root, place)
    if place.is_dir():
        defects += unread_images(root, place)
        return [replace(key, image=inside(root, image)) for image in find_images(place)]
    if place.suffix.lower() in LOOKS_LIKE_IMAGE:
        where = f"{root / key.file}:{key.line}"
        raise PipelineError(f"{where}: {relative(root, place)}: expected a folder or a list of images, got an image")
    return _from_list(root, base, place, key.split, defects)


def _exists(base: Path, text: str) -> Path | None:
    """Resolve a path from the YAML file; Roboflow writes `../train/images` and means `train/images`."""
    spellings = dict.fromkeys([text, text.replace("\\", "/")])  # as it is, and as Windows writes it
    candidates = (base / start for path in spellings for start in (path, path.removeprefix("../")))
    return next((path for path in candidates if _is(Path.exists, path)), None)


def _is(check: Callable[[Path], bool], path: Path) -> bool:
    """Check a path that a user wrote; one that the file system cannot hold does not exist."""
    try:
        return check(path)
    except OSError:
        return False


def _from_list(root: Path, base: Path, file: Path, split: Split, defects: list[Defect]) -> list[Listed]:
    """Read a list of images, one per line: relative to the list with `./`, else to the dataset."""
    name = relative(root, file)
    found: list[Listed] = []
    for line, text in enumerate(text_lines(file), 1):
        image = text.strip()
        spellings = dict.fromkeys([image, image.replace("\\", "/")])
        candidates = (
            folder / path
            for path in spellings
            for folder in ([file.parent] if path.startswith("./") else [base, file.parent])
        )
        existing = next((path for path in candidates if _is(Path.is_file, path)), None)
        if existing is not None:
            found.append(Listed(inside(root, existing), split, name, line))
        elif image:
            defects.append(Defect("missing_image", name, line, image))
    return found


def _boxes(
    root: Path, labels: dict[Path, Path], classes: int, keypoints: tuple[int, int] | None, defects: list[Defect]
) -> dict[Path, tuple[RawBox, ...]]:
    """Read all label files."""
    lines: list[Text] = []
    images: list[Path] = []
    for image, file in labels.items():
        size = upright_size(image)
        if size is not None and file.is_file():
            found = _rows(relative(root, inside(root, file)), file, size, defects)
            lines += found
            images += [image] * len(found)
    boxes: dict[Path, list[RawBox]] = {}
    rows, notes = read_rows(lines, classes, keypoints)
    defects += [*notes, *(row for row in rows if isinstance(row, Defect))]
    for image, row in zip(images, rows, strict=True):
        if isinstance(row, RawBox):
            boxes.setdefault(image, []).append(row)
    return {image: tuple(rows) for image, rows in boxes.items()}


def _rows(name: str, file: Path, size: tuple[int, int], defects: list[Defect]) -> list[Text]:
    """Read a label file's rows."""
    try:
        lines = text_lines(file)
    except PipelineError as error:
        line, _, message = str(error).removeprefix(f"{file}:").partition(": ")
        defects.append(Defect("broken_file", name, int(line), message))
        return []
    return [Text(text, name, line, size) for line, text in enumerate(lines, 1) if text.strip()]
