"""Read a detection dataset in Pascal VOC's layout: one XML file per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from xml.parsers import expat

from pipeline.data.defects import Defect
from pipeline.data.images import LOOKS_LIKE_IMAGE
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

Listing = Callable[[Path], dict[str, list[Path]]]
CLASSES_FILE = "classes.txt"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


class DefectError(Exception):
    """Carry a defect that makes a whole file useless."""

    def __init__(self, defect: Defect) -> None:
        super().__init__(defect.message)
        self.defect = defect


@dataclass
class Node:
    """An XML element that remembers its line."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def child(self, tag: str) -> Node | None:
        """Return the first direct child of that name: VOC's `part` elements nest the same names deeper."""
        return next((node for node in self.children if node.tag == tag), None)

    def value(self, tag: str) -> str:
        """Return the text of a direct child, stripped; empty if there is none."""
        node = self.child(tag)
        return "" if node is None else node.text.strip()


def read(root: Path, annotations: Path | None) -> RawDataset:
    """Read Pascal VOC annotations.

    Either one folder of XML files, with splits from `ImageSets/Main/{train,val,test}.txt` or none, or folders
    `train`, `val` (or `valid`) and `test` of XML files. The image is the file of the same stem (else the one that
    `<filename>` names) in `JPEGImages/`, `images/`, the split's folder in either, the root, or beside the XML; an
    image there without XML is left out and reported. Classes are those of `classes.txt` in the root (a name a line),
    else all names found, sorted. `difficult` objects count like others. Boxes refer to the upright image, and their
    coordinates are taken as written, as today's tools do; the original VOC counts from 1 and includes both ends, so
    its boxes lose their first row and column of pixels.

    Args:
        root: the watched folder.
        annotations: the folder of XML files or of their split folders, relative to the root; None for `Annotations/`
            or `annotations/`, else the root.

    Raises:
        PipelineError: if there is no XML file, or no class.

    """
    place = annotation_place(root, annotations, ["Annotations", "annotations"])
    defects: list[Defect] = []
    images_in = cache(_by_stem)  # each folder is listed once
    parsed: list[tuple[RawItem, list[Node]]] = []
    for xml, split in _list(root, place, defects):
        try:
            tree = _parse(root, xml)
            item = RawItem(_image(root, xml, split, tree, images_in), split, (), relative(root, xml), 1, _size(tree))
            parsed.append((item, [node for node in tree.children if node.tag == "object"]))
        except DefectError as error:
            defects.append(error.defect)
    names = sorted({name for _, objects in parsed for node in objects if (name := node.value("name"))})
    classes = _classes(root, place, names) if names or not defects else ()  # a broken file says more than no class
    items = []
    for item, objects in parsed:
        found = [_box(item.file, node, classes) for node in objects]
        defects += [defect for defect in found if isinstance(defect, Defect)]
        items.append(replace(item, boxes=tuple(box for box in found if isinstance(box, RawBox))))
    defects += _unannotated(root, place, items, images_in)
    return RawDataset(classes, tuple(items), find_licence(root), tuple(defects))


def _list(root: Path, place: Path, defects: list[Defect]) -> list[tuple[Path, Split | None]]:
    """List the XML files with their splits.

    Raises:
        PipelineError: if there are none.

    """
    folders = [(split, place / name) for split in SPLITS for name in SPLIT_NAMES[split] if (place / name).is_dir()]
    lists = _image_sets(root)
    found: list[tuple[Path, Split | None]]
    if folders:
        found = [(inside(root, xml), split) for split, folder in folders for xml in sorted(folder.glob("*.xml"))]
    elif lists:
        found = [(xml, split) for split, file in lists.items() for xml in _read_list(root, place, file, defects)]
    else:
        found = [(inside(root, xml), None) for xml in sorted(place.glob("*.xml"))]
    if not found and not defects:
        raise PipelineError(
            f"{place}: expected XML files, or train, val, test folders of them: set prepare.annotations"
        )
    return found


def _image_sets(root: Path) -> dict[Split, Path]:
    lists = {split: root / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
    return {split: inside(root, file) for split, file in lists.items() if file.is_file()}


def _read_list(root: Path, place: Path, file: Path, defects: list[Defect]) -> list[Path]:
    """Read one list of ImageSets: a stem a line."""
    found = []
    for line, text in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        xml = place / f"{text.strip()}.xml"
        if text.strip() and xml.is_file():
            found.append(inside(root, xml))
        elif text.strip():
            defects.append(Defect("broken_file", relative(root, file), line, f"{relative(root, xml)} does not exist"))
    return found


def _parse(root: Path, xml: Path) -> Node:
    """Parse an XML file.

    Raises:
        DefectError: if it is not valid, or not an annotation.

    """
    parser = expat.ParserCreate()
    stack = [Node("", 0)]

    def start(tag: str, _: dict[str, str]) -> None:
        node = Node(tag, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def text(content: str) -> None:
        stack[-1].text += content

    parser.StartElementHandler, parser.CharacterDataHandler = start, text
    parser.EndElementHandler = lambda _: stack.pop()
    try:
        parser.Parse(xml.read_bytes(), True)
    except expat.ExpatError as error:
        raise DefectError(Defect("broken_file", relative(root, xml), error.lineno, f"not valid XML: {error}")) from None
    tree = stack[0].children[0]
    if tree.tag != "annotation":
        message = f"expected <annotation>, got <{tree.tag}>"
        raise DefectError(Defect("broken_file", relative(root, xml), tree.line, message))
    return tree


def _image(root: Path, xml: Path, split: Split | None, tree: Node, images_in: Listing) -> Path:
    """Find the image of an XML file.

    Raises:
        DefectError: if there is none.

    """
    parents = [root / "JPEGImages", root / "images"]
    if split is not None:
        parents += [parent / name for parent in (*parents, root) for name in SPLIT_NAMES[split]]
    folders = [*parents, root, xml.parent]
    name = tree.value("filename")
    for folder in folders:
        candidates = images_in(folder).get(xml.stem, [])
        if candidates:
            return inside(root, next((path for path in candidates if path.name == name), candidates[0]))
    for folder in folders:
        if name and (folder / name).is_file():
            return inside(root, folder / name)
    line = (tree.child("filename") or tree).line
    where = ", ".join(relative(root, folder) for folder in folders if folder.is_dir())
    raise DefectError(Defect("missing_image", relative(root, xml), line, f"no {xml.stem}.* or {name!r} in {where}"))


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """List a folder's images by stem."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in LOOKS_LIKE_IMAGE:
            found.setdefault(path.stem, []).append(path)
    return found


def _classes(root: Path, place: Path, found: list[str]) -> tuple[str, ...]:
    file = root / CLASSES_FILE
    if file.is_file():
        lines = [line.strip() for line in inside(root, file).read_text(encoding="utf-8-sig").splitlines()]
        return unique_classes([line for line in lines if line], file)
    return unique_classes(found, place)


def _box(file: str, node: Node, classes: tuple[str, ...]) -> RawBox | Defect:
    """Read one `<object>`."""
    name, corners = node.value("name"), node.child("bndbox")
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


def _size(tree: Node) -> tuple[int, int] | None:
    """Read `<size>`; some tools leave it out or write 0."""
    node = tree.child("size")
    width, height = ("", "") if node is None else (node.value("width"), node.value("height"))
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None


def _unannotated(root: Path, place: Path, items: list[RawItem], images_in: Listing) -> list[Defect]:
    """Find images that stand among the annotated ones and have no XML: a background has one without objects."""
    annotated = {xml.stem for xml in place.rglob("*.xml")}
    used = {item.image for item in items}
    return [
        Defect("unannotated", relative(root, path), None, f"no {stem}.xml")
        for folder in sorted({image.parent for image in used})
        for stem, paths in images_in(folder).items()
        for path in paths
        if path not in used and stem not in annotated
    ]
