"""Read a segmentation dataset: folders of images, and folders of masks with the same names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.data.defects import Defect
from pipeline.data.legend import read_legend
from pipeline.data.prepared import Split
from pipeline.data.source import (
    SPLIT_NAMES_TEXT,
    RawDataset,
    RawItem,
    annotation_place,
    find_images,
    find_licence,
    inside,
    relative,
    split_folders,
    unread_images,
    visible,
)
from pipeline.errors import PipelineError
from pipeline.params import Masks

USUAL = "masks"
SEPARATORS = "_-. "  # between what two names share and what tells them apart


@dataclass(frozen=True)
class Folders:
    """A split's folder of images and its folder of masks, which may not exist, or be the same."""

    split: Split | None
    images: Path
    masks: Path


def read(root: Path, annotations: Path | None, params: Masks) -> RawDataset:
    """Pair images with masks.

    Images lie in `images/` (else the only folder with splits, else the root), either in `train`, `val` and `test` (or
    training, valid, validation, testing), or, without splits, in `images/` itself; masks likewise in `masks/`, or as
    SegNet has them, in `trainannot` beside `train`. Folders are searched to any depth. A mask has its image's path and
    name, up to `image_suffix` and `mask_suffix` and the extension; with a `mask_suffix` it may lie beside its image.

    Args:
        root: the watched folder.
        annotations: the masks' folder, relative to the root; None for `masks/`, else SegNet's.
        params: the classes file, what is ignored, and how the names of images and masks end.

    Raises:
        PipelineError: if there is no such folder, or the classes file is unusable.

    """
    legend = read_legend(inside(root, root / params.classes), params.ignore)
    items: list[RawItem] = []
    defects: list[Defect] = []
    for folders in _folders(root, annotations, params, defects):
        items += _items(root, folders, params, defects)
    return RawDataset((), tuple(items), find_licence(root), tuple(defects), legend, params.resize)


def _folders(root: Path, annotations: Path | None, params: Masks, defects: list[Defect]) -> list[Folders]:
    """List splits with their folders; report folders that belong to no split."""
    place = annotation_place(root, annotations, [USUAL])
    if not place.is_dir():
        raise PipelineError(f"{place}: expected the folder of masks: prepare.annotations names it")
    masks = None if place == root else place
    images = _images_folder(root, masks)
    found = [Folders(split, one, _masks_of(masks, one, split, params)) for split, one in split_folders(images)]
    if found and images != root:
        _report_others(root, images, masks, found, defects)
    if not found and masks is not None and images != root:
        found = [Folders(None, images, masks)]
    if not found and params.mask_suffix:
        found = [Folders(None, images, masks or images)]
    if not found:
        came = ", ".join(f"{path.name}/" for path in visible(root) if path.is_dir()) or "no folder"
        layouts = f"images/ and {USUAL}/, train, val and test folders in both, or train/ and trainannot/"
        raise PipelineError(f"{root}: expected {layouts}, found {came}: prepare.annotations names the masks' folder")
    return found


def _images_folder(root: Path, masks: Path | None) -> Path:
    """Find the folder of images: `images/`, or the only one beside the masks' that has splits, else the root."""
    if (root / "images").is_dir():
        return root / "images"
    others = [path for path in visible(root) if path.is_dir() and path != masks and split_folders(path)]
    return others[0] if masks is not None and len(others) == 1 and not split_folders(root) else root


def _masks_of(masks: Path | None, images: Path, split: Split, params: Masks) -> Path:
    """Choose the folder of masks for a split's folder of images."""
    if masks is None:
        segnet = images.with_name(f"{images.name}annot")
        return images if params.mask_suffix and not segnet.is_dir() else segnet
    same = masks / images.name
    return same if same.is_dir() else next((path for one, path in split_folders(masks) if one == split), same)


def _report_others(root: Path, images: Path, masks: Path | None, found: list[Folders], defects: list[Defect]) -> None:
    """Report folders of images that are no split's, and splits of masks that have no folder of images."""
    known = {masks, *(path for folders in found for path in (folders.images, folders.masks))}
    for path in visible(images):
        if path.is_dir() and path not in known:
            message = f"its name is none of {SPLIT_NAMES_TEXT}"
            defects.append(Defect("unused_folder", relative(root, path), None, message))
    splits = {folders.split for folders in found}
    for split, path in split_folders(masks) if masks is not None else []:
        if split not in splits:
            message = f"no folder {relative(root, images / path.name)}"
            defects.append(Defect("missing_image", relative(root, path), None, message))


def _items(root: Path, folders: Folders, params: Masks, defects: list[Defect]) -> list[RawItem]:
    """Pair two folders; an image without a mask is reported and still listed, so that it is checked as well."""
    masks = _masks_by_name(root, folders.masks, params, defects)
    images = _images(root, folders, params, defects)
    if not images and folders.split is not None:
        message = f"has no image: put them there, or remove it to cut {folders.split} out of train"
        defects.append(Defect("empty_split", relative(root, folders.images), None, message))
    if not folders.masks.is_dir():
        message = f"no folder {relative(root, folders.masks)}: prepare.annotations names the masks' folder"
        defects.append(Defect("missing_mask", relative(root, folders.images), None, message))
    elif images and masks and not {name for name, _ in images} & masks.keys():
        message = _why_unpaired(root, folders, [name for name, _ in images], masks)
        defects.append(Defect("missing_mask", relative(root, folders.images), None, message))
    else:
        defects += _unpaired(root, folders, images, masks, params)
    items = []
    used: set[str] = set()
    for name, image in images:
        mask = None if name in used else masks.get(name)
        used.add(name)
        items.append(RawItem(inside(root, image), folders.split, (), relative(root, image), None, mask=mask))
    return items


def _images(root: Path, folders: Folders, params: Masks, defects: list[Defect]) -> list[tuple[str, Path]]:
    """List images with the names that their masks should have."""
    found = []
    defects += unread_images(root, folders.images)
    masks_too = params.mask_suffix and folders.masks == folders.images
    for image in find_images(folders.images):
        name = _name(folders.images, image, params.image_suffix)
        if masks_too and _name(folders.images, image, params.mask_suffix) is not None:
            continue
        if name is None:
            defects.append(Defect("other_name", relative(root, image), None, f"expected *{params.image_suffix}.*"))
        else:
            found.append((name, image))
    return found


def _masks_by_name(root: Path, masks: Path, params: Masks, defects: list[Defect]) -> dict[str, Path]:
    """List masks by name; other files are none where masks have a suffix, as in Cityscapes."""
    found: dict[str, Path] = {}
    for mask in find_images(masks) if masks.is_dir() else []:
        name = _name(masks, mask, params.mask_suffix)
        if name is not None and (first := found.setdefault(name, inside(root, mask))) != mask:
            message = f"{relative(root, first)} is its image's mask already"
            defects.append(Defect("second_mask", relative(root, mask), None, message))
    return found


def _unpaired(
    root: Path, folders: Folders, images: list[tuple[str, Path]], masks: dict[str, Path], params: Masks
) -> list[Defect]:
    """Report images without a mask, and masks without an image."""
    defects = []
    used: set[str] = set()
    for name, image in images:
        if name in used or name not in masks:
            wanted = f"{relative(root, folders.masks / name)}{params.mask_suffix}.png"
            message = f"{wanted} is another image's already" if name in used else f"no {wanted}"
            defects.append(Defect("missing_mask", relative(root, image), None, message))
        used.add(name)
    wanted = f"{params.image_suffix}.*"
    return defects + [
        Defect("missing_image", relative(root, mask), None, f"no {relative(root, folders.images / name)}{wanted}")
        for name, mask in masks.items()
        if name not in used
    ]


def _why_unpaired(root: Path, folders: Folders, images: list[str], masks: dict[str, Path]) -> str:
    """Say how names of images and masks differ where none are the same, and which suffixes would pair them."""
    first = images[0]
    shared = max(_shared(first, mask) for mask in masks)
    closest = [mask for mask in masks if _shared(first, mask) == shared]
    message = f"no mask in {relative(root, folders.masks)} has the name of an image: {first} here, {closest[0]} there"
    start = len(first[:shared].rstrip(SEPARATORS))
    image_suffix, mask_suffixes = first[start:], [mask[start:] for mask in closest]
    if start > first.rfind("/") + 1 and 2 * _count_pairs(images, masks, image_suffix, mask_suffixes[0]) >= len(images):
        quoted = " or ".join(f'"{suffix}"' for suffix in mask_suffixes)
        message += f'; set prepare.masks.image_suffix: "{image_suffix}" and mask_suffix: {quoted}'
    return message


def _shared(one: str, other: str) -> int:
    """Count the characters that two names begin with alike."""
    return next(
        (number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _count_pairs(images: list[str], masks: dict[str, Path], image_suffix: str, mask_suffix: str) -> int:
    """Count the images that would have a mask with these suffixes."""
    names = (image.removesuffix(image_suffix) for image in images if image.endswith(image_suffix))
    return sum(f"{name}{mask_suffix}" in masks for name in names)


def _name(folder: Path, path: Path, suffix: str) -> str | None:
    """Return what an image and its mask share of their paths; None if the name does not end with the suffix."""
    name = path.relative_to(folder).as_posix()
    ending = next((one for one in (suffix + path.suffix, suffix) if one and name.endswith(one)), None)
    return None if ending is None else name.removesuffix(ending)
