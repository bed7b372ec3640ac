"""Read a detection dataset in Pascal VOC's layout: one XML file per image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pipeline.data.defects import Defect
from pipeline.data.images import LOOKS_LIKE_IMAGE
from pipeline.data.names import text_lines
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
    visible,
)
from pipeline.data.voc_xml import Node, XmlError, parse
from pipeline.errors import PipelineError
from pipeline.files import read_text

Listing = Callable[[Path], dict[str, list[Path]]]
CLASSES_FILE = "classes.txt"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
USUAL = ("Annotations", "annotations")
LISTS = ("ImageSets/Main", "ImageSets", "ImageSets/Segmentation", "ImageSets/Layout")
FLAG = re.compile(r"\s+-?[01]$")  # what lists of one class have behind each name


@dataclass(frozen=True)
class Folders:
    """Where one VOC dataset lies: its base, which holds the images, its XML files, and the split of them all."""

    base: Path
    place: Path
    split: Split | None = None


@dataclass(frozen=True)
class Annotation:
    """An XML file, its split, and the folder that its path counts from: the images may lie in the same subfolders."""

    xml: Path
    split: Split | None
    top: Path


class DefectError(Exception):
    """Carry a defect that makes a whole file useless."""

    def __init__(self, defect: Defect) -> None:
        super().__init__(defect.message)
        self.defect = defect


def read(root: Path, annotations: Path | None) -> RawDataset:
    """Read Pascal VOC annotations.

    Either one folder of XML files, with splits from `ImageSets/Main/{train,val,test}.txt` or none, or folders
    `train`, `val` (or `valid`) and `test` of XML files, all searched to any depth. A folder of such datasets, as
    VOCdevkit, is read as one. The image is the file of the same stem (else the one that `<filename>` names) in
    `JPEGImages/`, `images/`, the split's folder in either, the root, or beside the XML; an image there without XML is
    left out and reported. Classes are those of `classes.txt` in the root (a name a line), else all names found,
    sorted. `difficult` objects count like others. Boxes refer to the upright image, and their coordinates are taken
    as written, as today's tools do; the original VOC counts from 1 and includes both ends, so its boxes lose their
    first row and column of pixels.

    Args:
        root: the watched folder.
        annotations: the folder of XML files or of their split folders, relative to the root; None for `Annotations/`
            or `annotations/`, else the root.

    Raises:
        PipelineError: if there is no XML file, or no class.

    """
    defects: list[Defect] = []
    images_in = cache(_by_stem)  # each folder is listed once
    parsed: list[tuple[RawItem, list[Node]]] = []
    places = _places(root, annotations)
    for folders in places:
        for annotation in _list(root, folders, defects):
            try:
                parsed.append(_read(root, folders, annotation, images_in, defects))
            except DefectError as error:
                defects.append(error.defect)
    place = places[0].place if len(places) == 1 else root
    if not parsed and not defects:
        raise PipelineError(
            f"{place}: expected XML files, or train, val, test folders of them: set prepare.annotations"
        )
    names = sorted({name for _, objects in parsed for node in objects if (name := node.value("name"))})
    classes = _classes(root, place, names) if names or not defects else ()  # a broken file says more than no class
    items = _one_per_image(root, [_with_boxes(item, objects, classes, defects) for item, objects in parsed], defects)
    defects += _unannotated(root, places, items, images_in)
    return RawDataset(classes, tuple(items), find_licence(root), tuple(defects))


def _places(root: Path, annotations: Path | None) -> list[Folders]:
    """Find the dataset, or the several of a VOCdevkit, which may have one for each split."""
    asked = annotation_place(root, annotations, USUAL)
    place = next((asked / name for name in USUAL if (asked / name).is_dir()), asked)
    if place != root:
        own = any((place.parent / name).is_dir() for name in ("JPEGImages", "ImageSets"))
        return [Folders(place.parent if own else root, place)]
    direct = [root, *(folder for folder in _below(root) if _split_of(folder.name))]
    if any(any(folder.glob("*.xml")) for folder in direct):
        return [Folders(root, root)]
    for pattern in ("*", "*/*"):
        found = {folder.parent for name in USUAL for folder in root.glob(f"{pattern}/{name}") if folder.is_dir()}
        if found:
            return [_devkit(base) for base in sorted(found) if not is_hidden(base.relative_to(root))]
    return [Folders(root, root)]


def _devkit(base: Path) -> Folders:
    place = next(base / name for name in USUAL if (base / name).is_dir())
    return Folders(base, place, _split_of(base.name))


def _split_of(name: str) -> Split | None:
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def _list(root: Path, folders: Folders, defects: list[Defect]) -> list[Annotation]:
    """List the XML files with their splits; a split folder or list without any is reported."""
    place = folders.place
    by_split = [(split, folder) for split in SPLITS for folder in _below(place) if _split_of(folder.name) == split]
    lists = _image_sets(root, folders.base, defects)
    found: list[Annotation] = []
    if folders.split is not None or not (by_split or lists):
        found = [Annotation(inside(root, xml), folders.split, place) for xml in _xml_files(place)]
        if folders.split is not None and not found:
            defects.append(_empty(root, folders.split, place, "annotation file"))
        return found
    if by_split:
        for split, folder in by_split:
            part = [Annotation(inside(root, xml), split, folder) for xml in _xml_files(folder)]
            found += part
            if not part and any(_xml_files(other) for _, other in by_split):
                defects.append(_empty(root, split, folder, "annotation file"))
        defects += _outside(root, place, [folder for _, folder in by_split])
        return found
    for split, file in lists.items():
        listed = _read_list(root, place, file, defects)
        found += [Annotation(xml, split, place) for xml in listed]
        if not listed:
            defects.append(_empty(root, split, file, "annotation file that exists"))
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _empty(root: Path, split: Split, place: Path, of_what: str) -> Defect:
    message = f"no {of_what}: remove it to cut {split} out of train"
    return Defect("empty_split", relative(root, place), None, message)


def _xml_files(folder: Path) -> list[Path]:
    """List the XML files below a folder."""
    found = (path for path in files_below(folder) if path.suffix.lower() == ".xml" and path.is_file())
    return sorted(path for path in found if not is_hidden(path.relative_to(folder)))


def _outside(root: Path, place: Path, folders: list[Path]) -> Iterator[Defect]:
    """Report XML files beside the split folders, unless the root, which may hold anything, is where they lie."""
    for xml in _xml_files(place) if place != root else []:
        if not any(xml.is_relative_to(folder) for folder in folders):
            names = ", ".join(folder.name for folder in folders)
            yield Defect("unlisted", relative(root, xml), None, f"is in none of the folders {names}")


def _image_sets(root: Path, base: Path, defects: list[Defect]) -> dict[Split, Path]:
    """Find the lists of the splits; a trainval.txt is train where there is neither of its parts."""
    for folder in LISTS:
        found = visible(base / folder) if (base / folder).is_dir() else []
        files = {path.stem.lower(): inside(root, path) for path in found if path.suffix == ".txt"}
        lists = {split: files[name] for split in SPLITS for name in SPLIT_NAMES[split] if name in files}
        if "trainval" in files and not {"train", "val"} & set(lists):
            lists = {"train": files["trainval"], **lists}
        elif "trainval" in files and "train" not in lists:
            val = lists["val"].name
            message = f"holds train and val, beside {val}: write train.txt, or remove {val} to cut val out of train"
            defects.append(Defect("empty_split", relative(root, files["trainval"]), None, message))
        if lists:
            if folder not in LISTS[:2]:
                defects += [Defect("other_list", relative(root, file), None, split) for split, file in lists.items()]
            return lists
    return {}


def _read_list(root: Path, place: Path, file: Path, defects: list[Defect]) -> list[Path]:
    """Read one list of ImageSets: a stem a line, or an image's name."""
    by_stem: dict[str, Path] = {}
    found: list[Path] = []
    for line, text in enumerate(text_lines(file), 1):
        if not (name := text.strip()):
            continue
        names = [spelling for one in (name, FLAG.sub("", name)) for spelling in spellings(one)]
        names += [str(Path(one).with_suffix("")) for one in names if Path(one).suffix.lower() in LOOKS_LIKE_IMAGE]
        xml = first_file([place], [f"{one}.xml" for one in names])
        if xml is None and not by_stem:
            by_stem = {path.stem: path for path in reversed(_xml_files(place))}
        xml = xml or next((by_stem[Path(one).name] for one in names if Path(one).name in by_stem), None)
        if xml is not None:
            found.append(inside(root, xml))
        else:
            message = f"{relative(root, place / name)}.xml does not exist"
            defects.append(Defect("broken_file", relative(root, file), line, message))
    return found


def _read(
    root: Path, folders: Folders, annotation: Annotation, images_in: Listing, defects: list[Defect]
) -> tuple[RawItem, list[Node]]:
    """Parse an XML file and find its image; report objects that are not where VOC has them.

    Raises:
        DefectError: if one of them cannot be had.

    """
    file = relative(root, annotation.xml)
    try:
        tree = parse(annotation.xml.read_bytes())
    except XmlError as error:
        raise DefectError(Defect("broken_file", file, error.line, str(error))) from None
    size = tree.child("size") or Node("size", 0)
    image = _image(root, folders.base, annotation, tree, images_in)
    declared = parse_size(size.value("width"), size.value("height"))
    item = RawItem(image, annotation.split, (), file, 1, declared)
    objects = [node for node in tree.children if node.tag == "object"]
    usual = {id(node) for node in objects}
    for node in tree.below("object"):
        if id(node) not in usual:
            message = f"<{node.tag}>: expected <object> directly in <annotation>"
            defects.append(Defect("malformed", file, node.line, message))
    return item, objects


def _image(root: Path, base: Path, annotation: Annotation, tree: Node, images_in: Listing) -> Path:
    """Find the image of an XML file.

    Raises:
        DefectError: if there is none.

    """
    xml, split = annotation.xml, annotation.split
    parents = [base / "JPEGImages", base / "images"]
    if split is not None:
        names = dict.fromkeys([annotation.top.name, *SPLIT_NAMES[split]])
        parents += [parent / name for parent in (*parents, base) for name in names]
    deeper = xml.parent.relative_to(annotation.top)
    tops = dict.fromkeys([*parents, base, root])
    folders = list(dict.fromkeys([*(top / deeper for top in tops), *tops, xml.parent]))
    name = tree.value("filename")
    for folder in folders:
        candidates = images_in(folder).get(xml.stem, [])
        if candidates:
            return inside(root, next((path for path in candidates if path.name == name), candidates[0]))
    spelled = spellings(name)
    image = first_file(folders, [*spelled, *(Path(one).name for one in spelled)])
    if image is None and Path(xml.stem).suffix.lower() in LOOKS_LIKE_IMAGE:  # a.jpg.xml
        image = first_file(folders, [xml.stem])
    if image is not None:
        return inside(root, image)
    line = (tree.child("filename") or tree).line
    where = ", ".join(relative(root, folder) for folder in folders if folder.is_dir())
    raise DefectError(Defect("missing_image", relative(root, xml), line, f"no {xml.stem}.* or {name!r} in {where}"))


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """List a folder's images by stem."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in LOOKS_LIKE_IMAGE and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    return found


def _classes(root: Path, place: Path, found: list[str]) -> tuple[str, ...]:
    file = root / CLASSES_FILE
    if file.is_file():
        lines = [line.strip() for line in read_text(inside(root, file)).splitlines()]
        return unique_classes([line for line in lines if line], file)
    return unique_classes(found, place)


def _with_boxes(item: RawItem, objects: list[Node], classes: tuple[str, ...], defects: list[Defect]) -> RawItem:
    found = [_box(item.file, node, classes) for node in objects]
    defects += [defect for defect in found if isinstance(defect, Defect)]
    return replace(item, boxes=tuple(box for box in found if isinstance(box, RawBox)))


def _box(file: str, node: Node, classes: tuple[str, ...]) -> RawBox | Defect:
    """Read one `<object>`."""
    name, corners = node.value("name"), node.child("bndbox")
    if (number := sum(child.tag == "bndbox" for child in node.children)) > 1:
        message = f"{name or 'object'}: expected one <bndbox>, got {number}: write an object for each"
        return Defect("malformed", file, node.line, message)
    texts = [] if corners is None else [corners.value(tag) for tag in CORNERS]
    try:
        xmin, ymin, xmax, ymax = map(float, texts)
    except ValueError:
        came = "no <bndbox>" if corners is None else f"{texts}"
        return Defect("malformed", file, node.line, f"{name or 'object'}: expected {' '.join(CORNERS)}, got {came}")
    if not name:
        return Defect("malformed", file, node.line, "an object without <name>")
    if name not in classes:
        return Defect("unknown_class", file, node.line, f"{name}, but {CLASSES_FILE} has {', '.join(classes)}")
    return RawBox(classes.index(name), (xmin, ymin, xmax, ymax), file, node.line)


def _one_per_image(root: Path, items: list[RawItem], defects: list[Defect]) -> list[RawItem]:
    """Report XML files of one image in one split that say different things; keep the first."""
    first: dict[tuple[Split | None, Path], RawItem] = {}
    for item in items:
        kept = first.setdefault((item.split, item.image), item)
        boxes, others = ([(box.class_id, box.xyxy) for box in one.boxes] for one in (kept, item))
        if boxes != others:
            message = f"says other boxes of {relative(root, item.image)} than {kept.file}"
            defects.append(Defect("second_annotation", item.file, None, message))
    return list(first.values())


def _unannotated(root: Path, places: list[Folders], items: list[RawItem], images_in: Listing) -> list[Defect]:
    """Find images that stand among the annotated ones and have no XML: a background has one without objects."""
    annotated = {xml.stem for folders in places for xml in _xml_files(folders.place)}
    used = {item.image for item in items}
    return [
        Defect("unannotated", relative(root, path), None, f"no {stem}.xml")
        for folder in sorted({image.parent for image in used})
        for stem, paths in images_in(folder).items()
        for path in paths
        if path not in used and stem not in annotated
    ]
