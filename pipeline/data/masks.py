"""Read a segmentation dataset: folders of images, and folders of masks with the same names."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.defects import Defect
from pipeline.data.legend import read_legend
from pipeline.data.prepared import SPLITS, Split
from pipeline.data.source import (
    SPLIT_NAMES,
    RawDataset,
    RawItem,
    annotation_place,
    find_images,
    find_licence,
    inside,
    relative,
)
from pipeline.errors import PipelineError
from pipeline.params import Masks

USUAL = "masks"


def read(root: Path, annotations: Path | None, params: Masks) -> RawDataset:
    """Pair images with masks.

    Images lie in `images/` (else the root), either in `train`, `val` (valid, validation) and `test`, or, without
    splits, in `images/` itself; masks likewise in `masks/`, or as SegNet has them, in `trainannot` beside `train`.
    Folders are searched to any depth. A mask has its image's path and name, up to the suffix.

    Args:
        root: the watched folder.
        annotations: the masks' folder, relative to the root; None for `masks/`, else SegNet's.
        params: the classes file and what is ignored.

    Raises:
        PipelineError: if there is no such folder, or the classes file is unusable.

    """
    legend = read_legend(inside(root, root / params.classes), params.ignore)
    items: list[RawItem] = []
    defects: list[Defect] = []
    for split, images, masks in _folders(root, annotations):
        items += _items(root, split, images, masks, defects)
    return RawDataset((), tuple(items), find_licence(root), tuple(defects), legend, params.resize)


def _folders(root: Path, annotations: Path | None) -> list[tuple[Split | None, Path, Path]]:
    """List splits with their folders of images and of masks; the latter may not exist."""
    place = annotation_place(root, annotations, [USUAL])
    masks = None if place == root else place
    images = root / "images" if (root / "images").is_dir() else root
    found: list[tuple[Split | None, Path, Path]] = [
        (split, images / name, _masks_of(masks, images / name, split))
        for split in SPLITS
        for name in SPLIT_NAMES[split]
        if (images / name).is_dir()
    ]
    if not found and masks is not None and images != root:
        found = [(None, images, masks)]
    if not found:
        came = ", ".join(sorted(f"{path.name}/" for path in root.iterdir() if path.is_dir())) or "no folder"
        layouts = f"images/ and {USUAL}/, train, val and test folders in both, or train/ and trainannot/"
        raise PipelineError(f"{root}: expected {layouts}, found {came}: prepare.annotations names the masks' folder")
    return found


def _masks_of(masks: Path | None, images: Path, split: Split) -> Path:
    """Choose the folder of masks for a split's folder of images."""
    if masks is None:
        return images.with_name(f"{images.name}annot")
    return next((masks / name for name in SPLIT_NAMES[split] if (masks / name).is_dir()), masks / images.name)


def _items(root: Path, split: Split | None, images: Path, masks: Path, defects: list[Defect]) -> list[RawItem]:
    """Pair two folders; an image without a mask is reported and still listed, so that it is checked as well."""
    if not masks.is_dir():
        defects.append(Defect("missing_mask", relative(root, images), None, f"no folder {relative(root, masks)}"))
    by_name = _by_name(root, masks, defects)
    items = []
    used: set[str] = set()
    for image in find_images(images):
        name = _name(images, image)
        mask = None if name in used else by_name.get(name)
        if mask is None and masks.is_dir():
            wanted = f"{relative(root, masks / name)}.png"
            message = f"{wanted} is another image's already" if name in used else f"no {wanted}"
            defects.append(Defect("missing_mask", relative(root, image), None, message))
        used.add(name)
        items.append(RawItem(inside(root, image), split, (), relative(root, image), None, mask=mask))
    defects += [
        Defect("missing_image", relative(root, mask), None, f"no {relative(root, images / name)}.*")
        for name, mask in by_name.items()
        if name not in used
    ]
    return items


def _by_name(root: Path, masks: Path, defects: list[Defect]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for mask in find_images(masks):
        first = found.setdefault(_name(masks, mask), inside(root, mask))
        if first != mask:
            message = f"{relative(root, first)} is its image's mask already"
            defects.append(Defect("second_mask", relative(root, mask), None, message))
    return found


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
