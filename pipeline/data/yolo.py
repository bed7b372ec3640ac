"""Read a detection dataset in Ultralytics' layout: a YAML file, image folders, and label files beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pipeline.data.defects import Defect
from pipeline.data.images import upright_size
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
)
from pipeline.errors import PipelineError
from pipeline.yaml_file import read_yaml


def read(root: Path, annotations: Path | None) -> RawDataset:
    """Read what a data.yaml describes.

    As Ultralytics does: `train`, `val` and `test` are each a folder (searched to any depth), a `.txt` list of images,
    or several of these; an image's labels stand where `/images/` in its path is `/labels/` (else beside it); no label
    file means background; a line with a polygon counts as its bounding box; labels refer to the upright image.
    Unlike it, a relative `path:` is looked up from the YAML file first, not from Ultralytics' settings.

    Args:
        root: the watched folder.
        annotations: the YAML file, relative to the root; None for `data.yaml` or the only YAML file there.

    Raises:
        PipelineError: if the YAML file is missing, unusable, or points outside the root.

    """
    file = _yaml_file(root, annotation_place(root, annotations, ["data.yaml"]))
    described = _load(file)
    classes = unique_classes(_names(file, described.get("names")), file)
    base = _base(root, file, described.get("path"))
    defects: list[Defect] = []
    items = []
    for split in SPLITS:
        for image, listing, line in _images(root, base, file, split, described):
            if isinstance(image, Defect):
                defects.append(image)
                continue
            found = _boxes(root, image, len(classes))
            defects += [box for box in found if isinstance(box, Defect)]
            boxes = tuple(box for box in found if isinstance(box, RawBox))
            items.append(RawItem(image, split, boxes, listing, line))
    return RawDataset(classes, tuple(items), find_licence(root), tuple(defects))


def _yaml_file(root: Path, place: Path) -> Path:
    """Pick the YAML file out of what `prepare.annotations` names."""
    if place.is_file():
        return place
    found = sorted([*place.glob("*.yaml"), *place.glob("*.yml")])
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
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        return [str(names[index]) for index in range(len(names))]
    raise PipelineError(f"{file}: names: expected a list, or a mapping of 0, 1, 2, ... to class names, got {names!r}")


def _base(root: Path, file: Path, path: Any) -> Path:
    """Find the folder that a `path:` key means; the root, too, if only its parents have changed since."""
    if path is None:
        return file.parent
    existing = [folder for folder in (file.parent / str(path), Path(str(path))) if folder.is_dir()]
    for folder in existing:
        if folder.resolve().is_relative_to(root.resolve()):
            return folder
    if Path(str(path)).name == root.resolve().name:
        return root
    if existing:
        return inside(root, existing[0])
    raise PipelineError(f"{file}: path: {path} is no folder, neither from {file.parent} nor from here: remove the key")


def _images(
    root: Path, base: Path, file: Path, split: Split, described: CommentedMap
) -> list[tuple[Path | Defect, str, int]]:
    """List a split's images, or the defect in place of one, each with the file and line that names it."""
    key = next((name for name in SPLIT_NAMES[split] if described.get(name)), None)
    if key is None:
        return []
    places = described[key] if isinstance(described[key], list) else [described[key]]
    line = described.lc.data[key][0] + 1
    found: list[tuple[Path | Defect, str, int]] = []
    for text in places:
        place = _exists(base, str(text))
        if place is None:
            raise PipelineError(f"{file}:{line}: {key}: {text} is not in {base}: correct it or remove the key")
        if place.is_dir():
            found += [(inside(root, image), relative(root, file), line) for image in find_images(place)]
        else:
            found += _listed(root, base, inside(root, place))
    return found


def _exists(base: Path, text: str) -> Path | None:
    """Resolve a path from the YAML file; Roboflow writes `../train/images` and means `train/images`."""
    for candidate in (base / text, base / text.removeprefix("../")):
        if candidate.exists():
            return candidate
    return None


def _listed(root: Path, base: Path, file: Path) -> list[tuple[Path | Defect, str, int]]:
    """Read a list of images, one per line: relative to the list with `./`, else to the dataset."""
    name = relative(root, file)
    found: list[tuple[Path | Defect, str, int]] = []
    for line, text in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        image = text.strip()
        candidates = [file.parent / image] if image.startswith("./") else [base / image, file.parent / image]
        existing = next((path for path in candidates if path.is_file()), None)
        if existing is not None:
            found.append((inside(root, existing), name, line))
        elif image:
            found.append((Defect("missing_image", name, line, image), name, line))
    return found


def _boxes(root: Path, image: Path, classes: int) -> list[RawBox | Defect]:
    """Read an image's label file."""
    size = upright_size(image)
    labels = _label_file(root, image)
    if size is None or not labels.is_file():
        return []
    name = relative(root, inside(root, labels))
    lines = labels.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [_box(text, name, line, size, classes) for line, text in enumerate(lines, 1) if text.strip()]


def _label_file(root: Path, image: Path) -> Path:
    """Swap the last folder named images for labels, below the root."""
    parts = list(image.relative_to(root).parts) if image.is_relative_to(root) else list(image.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return (root / Path(*parts)).with_suffix(".txt")


def _box(row: str, file: str, line: int, size: tuple[int, int], classes: int) -> RawBox | Defect:
    """Read `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`, both over the image's sides."""
    try:
        class_number, *numbers = [float(word) for word in row.split()]
    except ValueError:
        return Defect("malformed", file, line, f"expected numbers, got {_short(row)!r}")
    if not (len(numbers) == 4 or (len(numbers) >= 6 and len(numbers) % 2 == 0)):
        expected = "a class and 4 numbers (a box), or a class and 3 or more pairs (a polygon)"
        return Defect("malformed", file, line, f"expected {expected}, got {len(numbers) + 1} numbers: {_short(row)!r}")
    if not math.isfinite(class_number) or class_number != int(class_number):
        return Defect("malformed", file, line, f"expected a whole class number, got {_short(row)!r}")
    if not 0 <= class_number < classes:
        return Defect("unknown_class", file, line, f"class {int(class_number)}, but names has 0 to {classes - 1}")
    return RawBox(int(class_number), _corners(numbers, size), file, line)


def _corners(numbers: list[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Turn a normalised box or polygon into xyxy pixels."""
    width, height = size
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        return (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height
    xs, ys = numbers[0::2], numbers[1::2]
    if not all(map(math.isfinite, numbers)):
        return math.nan, math.nan, math.nan, math.nan
    return min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height


def _short(text: str) -> str:
    return text.strip() if len(text.strip()) <= 60 else f"{text.strip()[:57]}..."
