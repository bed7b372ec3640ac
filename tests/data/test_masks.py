"""Reading folders of masks, and the masks of the prepared dataset."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.defects import KINDS
from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import IGNORE, SPLITS, PreparedDataset, open_dataset
from pipeline.errors import PipelineError

SHARED = Path(__file__).parents[2].parent / "shared"
SIZE = (24, 16)  # width, height
NAMES = {"train": ["a", "b", "c"], "val": ["d"], "test": ["e"]}
NUMBERS = {name: number for number, name in enumerate("abcde")}
Prepare = Callable[..., PreparedDataset]


def image_of(name: str) -> Image.Image:
    return Image.fromarray(np.random.default_rng(NUMBERS[name]).integers(0, 255, (*SIZE[::-1], 3), np.uint8))


def ids_of(name: str, classes: int = 3) -> np.ndarray:
    """Return every id of 0 to classes - 1 in a pattern that differs for every name and in every direction."""
    return np.random.default_rng(100 + NUMBERS[name]).integers(0, classes, SIZE[::-1], np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with images/<split>/*.jpg, masks/<split>/*.png of ids 0 to 2, and classes.txt."""
    root = tmp_path / "mine"
    for split, names in NAMES.items():
        (root / "images" / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
        for name in names:
            image_of(name).save(root / f"images/{split}/{name}.jpg")
            Image.fromarray(ids_of(name)).save(root / f"masks/{split}/{name}.png")
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    return root


@pytest.fixture
def prepare(root: Path, make_params: Callable) -> Prepare:
    out = root.parent / "dataset"

    def run(*, annotations: str | None = None, val: float = 0, test: float = 0, **masks: object) -> PreparedDataset:
        section = {"classes": "classes.txt", "ignore": [], "resize": False} | masks
        changes = {"annotations": annotations, "val_fraction": val, "test_fraction": test}
        prepare_dataset(make_params(source="masks", path=str(root), masks=section, **changes), out)
        return open_dataset(out)

    return run


def mask_of(dataset: PreparedDataset, name: str) -> np.ndarray:
    return dataset.mask(dataset.root / f"images/{name}.jpg")


def rewrite(root: Path, change: Callable[[np.ndarray], object]) -> None:
    """Write every mask anew, from what `change` makes of its ids."""
    for path in root.glob("masks/*/*.png"):
        made = change(ids_of(path.stem))
        (made if isinstance(made, Image.Image) else Image.fromarray(made)).save(path)


def palette(ids: np.ndarray) -> Image.Image:
    """Return a palette image whose colours 0, 1, 2 are red, green, blue."""
    image = Image.fromarray(ids, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


# What masks may look like

LOOKS: dict[str, Callable[[np.ndarray], object]] = {
    "8-bit grey": lambda ids: ids,
    "16-bit grey": lambda ids: ids.astype(np.uint16),
    "palette": palette,
    "grey RGB": lambda ids: np.stack([ids] * 3, -1),
    "grey RGBA": lambda ids: np.dstack([ids, ids, ids, np.full_like(ids, 255)]),
    "grey with alpha": lambda ids: Image.fromarray(ids).convert("LA"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_masks__ids_come_out_whatever_holds_them(prepare, root, look):
    rewrite(root, LOOKS[look])
    dataset = prepare()
    assert dataset.info.mask_classes == ["sky", "road", "car"]
    assert dataset.info.classes == []
    for split, names in NAMES.items():
        assert [image.stem for image in dataset.images(split)] == names
        for name in names:
            np.testing.assert_array_equal(mask_of(dataset, name), ids_of(name))


def test_masks__one_bit_is_ids_0_and_1(prepare, root):
    rewrite(root, lambda ids: Image.fromarray(ids > 0))
    np.testing.assert_array_equal(mask_of(prepare(), "a"), ids_of("a") > 0)


COLOURS = np.array([(128, 64, 128), (0, 0, 0), (64, 0, 192)], np.uint8)
COLOUR_LINES = "128 64 128\troad\n0 0 0 void\n64 0 192 car\n"


@pytest.mark.parametrize("alpha", [False, True])
def test_masks__colours_are_the_classes_files(prepare, root, alpha):
    (root / "classes.txt").write_text(COLOUR_LINES)
    rewrite(root, lambda ids: Image.fromarray(COLOURS[ids]).convert("RGBA" if alpha else "RGB"))
    np.testing.assert_array_equal(mask_of(prepare(), "a"), ids_of("a"))


def test_masks__palette_counts_by_index_or_by_colour_as_the_classes_file_says(prepare, root):
    rewrite(root, palette)
    np.testing.assert_array_equal(mask_of(prepare(), "a"), ids_of("a"))
    (root / "classes.txt").write_text("0 0 255 blue\n0 255 0 green\n255 0 0 red\n")
    np.testing.assert_array_equal(mask_of(prepare(), "a"), 2 - ids_of("a"))


def test_masks__ids_may_have_gaps_and_stand_in_any_order(prepare, root):
    (root / "classes.txt").write_text("700 car\n7 sky\n# a comment\n\n33 traffic light # not a sign\n")
    rewrite(root, lambda ids: np.array([700, 7, 33], np.uint16)[ids])
    dataset = prepare()
    assert dataset.info.mask_classes == ["car", "sky", "traffic light"]
    np.testing.assert_array_equal(mask_of(dataset, "a"), ids_of("a"))


@pytest.mark.parametrize("ignore", [[1], ["road"], [1, "road"]])
def test_masks__ignored_classes_become_255_and_ids_close_up(prepare, ignore):
    dataset = prepare(ignore=ignore)
    assert dataset.info.mask_classes == ["sky", "car"]
    np.testing.assert_array_equal(mask_of(dataset, "a"), np.array([0, IGNORE, 1])[ids_of("a")])


def test_masks__ignored_id_need_not_be_in_the_classes_file(prepare, root):
    rewrite(root, lambda ids: np.where(ids == 2, 255, ids).astype(np.uint8))
    dataset = prepare(ignore=[255])
    assert dataset.info.mask_classes == ["sky", "road", "car"]
    np.testing.assert_array_equal(mask_of(dataset, "a"), np.array([0, 1, IGNORE])[ids_of("a")])


def test_masks__ignored_colour_goes_by_its_name(prepare, root):
    (root / "classes.txt").write_text(COLOUR_LINES)
    rewrite(root, lambda ids: COLOURS[ids])
    np.testing.assert_array_equal(mask_of(prepare(ignore=["void"]), "a"), np.array([0, IGNORE, 1])[ids_of("a")])


# Where they lie


def test_masks__segnets_folders_are_found(prepare, root):
    for split in NAMES:
        (root / "images" / split).rename(root / split)
        (root / "masks" / split).rename(root / f"{split}annot")
    (root / "images").rmdir()
    (root / "masks").rmdir()
    dataset = prepare()
    assert [dataset.info.splits[split].images for split in SPLITS] == [3, 1, 1]
    np.testing.assert_array_equal(mask_of(dataset, "d"), ids_of("d"))


def test_masks__annotations_names_their_folder_and_valid_means_val(prepare, root):
    (root / "masks").rename(root / "labels")
    (root / "images/val").rename(root / "images/valid")
    dataset = prepare(annotations="labels")
    np.testing.assert_array_equal(mask_of(dataset, "d"), ids_of("d"))
    with pytest.raises(PipelineError, match=r"no folder images/trainannot|prepare\.annotations"):
        prepare()


def flatten(root: Path) -> None:
    for path in [*root.glob("images/*/*.jpg"), *root.glob("masks/*/*.png")]:
        path.rename(path.parents[1] / path.name)
    for folder in [*root.glob("images/*/"), *root.glob("masks/*/")]:
        if folder.is_dir():
            folder.rmdir()


def test_masks__flat_folders_are_cut_into_splits_and_masks_follow(prepare, root):
    flatten(root)
    dataset = prepare(val=0.2, test=0.4)
    assert [dataset.info.splits[split].images for split in SPLITS] == [2, 1, 2]
    for name in NUMBERS:
        np.testing.assert_array_equal(mask_of(dataset, name), ids_of(name))


def test_masks__folders_below_a_split_keep_images_and_masks_together(prepare, root):
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        for name, folder in (("a", "bonn"), ("b", "ulm")):
            (root / kind / "train" / folder).mkdir()
            (root / f"{kind}/train/{name}.{suffix}").rename(root / f"{kind}/train/{folder}/x.{suffix}")
    dataset = prepare()
    found = {image.name: dataset.mask(image) for image in dataset.images("train")}
    tagged = [mask for name, mask in found.items() if name.startswith("train_x_")]
    assert sorted(map(np.ndarray.tobytes, tagged)) == sorted(ids_of(name).tobytes() for name in "ab")


def test_masks__images_folder_is_the_only_other_one_with_splits(prepare, root):
    (root / "images").rename(root / "pictures")
    (root / "notes").mkdir()
    np.testing.assert_array_equal(mask_of(prepare(), "a"), ids_of("a"))
    (root / "depth/train").mkdir(parents=True)
    with pytest.raises(PipelineError, match=r"expected images/ and masks/.*found depth/, masks/, notes/, pictures/"):
        prepare()


def turn(root: Path, mask: str) -> np.ndarray:
    """Store image a with an EXIF rotation, its mask upright, tagged like it, or as it was; return the upright ids."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise when shown
    image_of("a").save(root / "images/train/a.jpg", exif=exif)
    upright = np.rot90(ids_of("a"), -1)
    if mask == "tagged":
        Image.fromarray(ids_of("a")).save(root / "masks/train/a.png", exif=exif)
    if mask == "upright":
        Image.fromarray(np.ascontiguousarray(upright)).save(root / "masks/train/a.png")
    return upright


@pytest.mark.parametrize("mask", ["upright", "tagged"])
def test_masks__mask_of_an_exif_rotated_image_is_upright(prepare, root, mask):
    upright = turn(root, mask)
    dataset = prepare()
    np.testing.assert_array_equal(mask_of(dataset, "a"), upright)
    assert cv2.imread(str(dataset.root / "images/a.jpg")).shape[:2] == upright.shape


@pytest.mark.parametrize("resize", [False, True])
def test_masks__mask_made_before_exif_turned_the_image_is_refused(prepare, root, resize):
    turn(root, "as it was")
    message = r"masks/train/a\.png: is 24 x 16, but images/train/a\.jpg is 16 x 24 \(upright\)"
    with pytest.raises(PipelineError, match=message):
        prepare(resize=resize)


# Defects


def failure(prepare: Prepare, **params: object) -> str:
    with pytest.raises(PipelineError, match="nothing was written") as error:
        prepare(**params)
    return str(error.value)


def spoil(path: Path, value: object) -> None:
    """Change the pixels (x 5, y 2), (7, 2) and (0, 9)."""
    pixels = np.array(Image.open(path))
    pixels[[2, 2, 9], [5, 7, 0]] = value
    Image.fromarray(pixels).save(path)


def test_masks__unknown_id_is_named_with_file_and_position(prepare, root):
    spoil(root / "masks/train/b.png", 77)
    message = failure(prepare)
    assert f"1 x {KINDS['unknown_value'].title}" in message
    assert f"{root}/masks/train/b.png: id 77 at 3 pixels, the first at x 5, y 2" in message


def test_masks__unknown_colour_is_named_with_file_and_position(prepare, root):
    (root / "classes.txt").write_text(COLOUR_LINES)
    rewrite(root, lambda ids: COLOURS[ids])
    spoil(root / "masks/val/d.png", (129, 64, 128))
    expected = "masks/val/d.png: colour #814080 (129 64 128) at 3 pixels, the first at x 5, y 2"
    assert expected in failure(prepare)


def test_masks__many_unknown_values_are_counted_most_pixels_first(prepare, root):
    pixels = ids_of("a")
    pixels[0, :3] = 50, 51, 50
    pixels[1, :3] = 52, 53, 54
    Image.fromarray(pixels).save(root / "masks/train/a.png")
    message = failure(prepare)
    assert "a.png: id 50 at 2 pixels, the first at x 0, y 0; id 51 at 1 pixels, the first at x 1, y 0; id 52" in message
    assert message.rstrip().endswith("; and 2 other values")


def test_masks__id_of_an_ignored_class_alone_is_no_unknown_value(prepare, root):
    spoil(root / "masks/train/b.png", 77)
    assert (mask_of(prepare(ignore=[77]), "b") == IGNORE).sum() == 3


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "jpeg": (lambda path: Image.fromarray(ids_of("a")).save(path, "JPEG"), "holds JPEG data"),
    "colours": (
        lambda path: Image.fromarray(COLOURS[ids_of("a")]).save(path),
        "holds colours, but the classes file has ids",
    ),
    "text": (lambda path: path.write_text("no image"), "not an image: expected BMP, PNG or TIFF data"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:90]), "is truncated: its end is missing"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_masks__unreadable_mask_is_named(prepare, root, case):
    spoil_file, expected = UNREADABLE[case]
    spoil_file(root / "masks/train/a.png")
    message = failure(prepare)
    assert f"1 x {KINDS['unreadable_mask'].title}" in message
    assert f"{root}/masks/train/a.png: {expected}" in message


def test_masks__16_bit_grey_is_no_colour(prepare, root):
    (root / "classes.txt").write_text("0 0 0 sky\n1 1 1 road\n2 2 2 car\n")
    assert (mask_of(prepare(), "a") == ids_of("a")).all()
    rewrite(root, lambda ids: ids.astype(np.uint16))
    assert "is 16-bit grey, but the classes file has colours" in failure(prepare)


def test_masks__unpaired_files_are_named(prepare, root):
    (root / "masks/train/a.png").unlink()
    (root / "images/train/b.jpg").unlink()
    shutil.copy(root / "masks/train/c.png", root / "masks/train/c.tif")
    image_of("e").save(root / "images/val/d.png")
    message = failure(prepare)
    assert f"2 x {KINDS['missing_mask'].title}" in message
    assert f"{root}/images/train/a.jpg: no masks/train/a.png\n" in message
    assert f"{root}/images/val/d.png: masks/val/d.png is another image's already" in message
    assert f"{root}/masks/train/b.png: no images/train/b.*" in message
    assert f"{root}/masks/train/c.tif: masks/train/c.png is its image's mask already" in message


def test_masks__split_without_a_folder_of_masks_is_one_defect(prepare, root):
    shutil.rmtree(root / "masks/train")
    message = failure(prepare)
    assert f"1 x {KINDS['missing_mask'].title}" in message
    assert f"{root}/images/train: no folder masks/train" in message


def test_masks__other_size_is_fatal_unless_resizing_is_allowed(prepare, root, capsys):
    ids = np.random.default_rng(0).integers(0, 3, (8, 12), np.uint8)
    Image.fromarray(ids).save(root / "masks/train/a.png")
    expected = "masks/train/a.png: is 12 x 8, but images/train/a.jpg is 24 x 16 (upright)"
    assert expected in failure(prepare)
    capsys.readouterr()
    dataset = prepare(resize=True)
    np.testing.assert_array_equal(mask_of(dataset, "a"), ids.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(mask_of(dataset, "b"), ids_of("b"))
    assert expected in capsys.readouterr().err
    (written,) = json.loads((dataset.root / "defects.json").read_text())
    assert written["kind"] == "resized_mask"


def test_masks__mask_of_ignored_pixels_only_is_reported_and_a_split_of_them_is_fatal(prepare, root, capsys):
    for path in root.glob("masks/*/[ad].png"):
        Image.fromarray(np.full(SIZE[::-1], 2, np.uint8)).save(path)
    message = failure(prepare, ignore=["car"])
    assert "val has 1 images and every pixel of their masks is ignored" in message
    assert message.count("of their masks is ignored") == 1
    Image.fromarray(ids_of("d")).save(root / "masks/val/d.png")
    prepare(ignore=["car"])
    assert "masks/train/a.png: every pixel is ignored" in capsys.readouterr().err


def test_masks__images_are_checked_as_for_other_sources(prepare, root, capsys):
    shutil.copy(root / "images/train/a.jpg", root / "images/train/a2.jpg")
    shutil.copy(root / "masks/train/a.png", root / "masks/train/a2.png")
    dataset = prepare()
    assert "images/train/a2.jpg has the bytes of images/train/a.jpg\n" in capsys.readouterr().err
    assert [image.name for image in dataset.images("train")] == ["a.jpg", "b.jpg", "c.jpg"]
    shutil.copy(root / "images/train/b.jpg", root / "images/train/b2.jpg")
    shutil.copy(root / "masks/train/c.png", root / "masks/train/b2.png")
    shutil.copy(root / "images/train/a.jpg", root / "images/test/e.jpg")
    (root / "images/train/c.jpg").write_text("no image")
    message = failure(prepare)
    assert "images/train/b2.jpg has the bytes of images/train/b.jpg, with another mask" in message
    assert "images/test/e.jpg in test has the bytes of images/train/a.jpg in train" in message
    assert "images/train/c.jpg: not an image" in message


def test_masks__mask_that_changes_while_prepared_is_refused(prepare, root, monkeypatch):
    def meddle(*_: object) -> None:
        Image.fromarray(1 - ids_of("a") % 2).save(root / "masks/train/a.png")

    monkeypatch.setattr("pipeline.data.prepare.show_defects", meddle)
    with pytest.raises(PipelineError, match=r"masks/train/a\.png changed while it was prepared"):
        prepare()


# The prepared dataset


def test_prepared__same_masks_give_same_bytes_and_another_mask_another_digest(prepare, root):
    first = prepare()
    files = {path.name: path.read_bytes() for path in (first.root / "masks").iterdir()}
    second = prepare()
    assert {path.name: path.read_bytes() for path in (second.root / "masks").iterdir()} == files
    assert second.info == first.info
    spoil(root / "masks/val/d.png", 1)
    third = prepare().info
    assert third.digest != first.info.digest
    assert third.splits["val"].digest != first.info.splits["val"].digest
    assert third.splits["train"] == first.info.splits["train"]
    (root / "classes.txt").write_text("sky\nroad\ntruck\n")
    assert prepare().info.digest != third.digest


def test_prepared__counts_show_masks_and_no_boxes(prepare, capsys):
    dataset = prepare()
    printed = capsys.readouterr().err
    assert "dataset: masks, 3 classes of masks, licence: unknown" in printed
    assert "boxes" not in printed
    assert dataset.info.splits["train"].boxes == 0
    assert not (dataset.root / "labels").exists()


def test_prepared__mask_that_cannot_be_read_is_named(prepare):
    dataset = prepare()
    path = dataset.root / "masks/a.png"
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(
        PipelineError, match=r"masks/a\.png: expected 8-bit grey pixels, got uint8 of shape \(4, 4, 3\)"
    ):
        mask_of(dataset, "a")
    path.write_text("no image")
    with pytest.raises(PipelineError, match=r"masks/a\.png: .*got no image"):
        mask_of(dataset, "a")
    path.unlink()
    with pytest.raises(PipelineError, match=r"masks/a\.png, the mask of a\.jpg, does not exist"):
        mask_of(dataset, "a")


def test_prepared__task_needs_its_labels(prepare, make_params, tmp_path):
    masks = prepare()
    assert masks.task_classes("segment") == ["sky", "road", "car"]
    with pytest.raises(PipelineError, match=r"has no boxes, which task detect needs: set prepare\.source to"):
        masks.task_classes("detect")
    prepare_dataset(make_params(), tmp_path / "scenes")
    scenes = open_dataset(tmp_path / "scenes")
    assert scenes.task_classes("segment") == ["background", *scenes.task_classes("detect")]
    assert set(np.unique(scenes.mask(scenes.images("train")[0]))) <= set(range(len(scenes.info.mask_classes)))
    boxes = PreparedDataset(scenes.root, scenes.info.model_copy(update={"mask_classes": []}))
    with pytest.raises(PipelineError, match=r"has no masks, which task segment needs: set prepare\.source to"):
        boxes.task_classes("segment")


@pytest.mark.shared
def test_camvid__masks_come_out_as_they_are_with_void_ignored(tmp_path, make_params):
    source = SHARED / "data/camvid"
    section = {"classes": "classes.txt", "ignore": ["Unlabelled"], "resize": False}
    prepare_dataset(make_params(source="masks", path=str(source), masks=section), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert [dataset.info.splits[split].images for split in SPLITS] == [367, 101, 233]
    assert len(dataset.info.mask_classes) == 11
    assert (dataset.info.mask_classes[0], dataset.info.mask_classes[-1]) == ("Sky", "Bicyclist")
    for image in dataset.images("val"):
        original = cv2.imread(str(source / f"masks/val/{image.stem}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(dataset.mask(image), np.where(original == 11, IGNORE, original))
