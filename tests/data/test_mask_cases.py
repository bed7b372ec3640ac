"""What users' folders of masks hold: other names, other folders, classes files of other tools, masks of other kinds."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.defects import KINDS
from pipeline.data.legend import read_legend
from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import IGNORE, SPLITS, PreparedDataset, open_dataset
from pipeline.errors import PipelineError

SHAPE = (16, 24)  # height, width
NAMES = {"train": ["a", "b", "c"], "val": ["v"], "test": ["t"]}
Prepare = Callable[..., PreparedDataset]


def pixels(name: str, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(ord(name)).integers(0, 255, (*SHAPE, channels), np.uint8)


def ids_of(name: str) -> np.ndarray:
    """Return ids 0 and 1 in a pattern of its own for each name."""
    return pixels(name)[..., 0] % 2


def write(root: Path, image: str, mask: str, change: Callable[[np.ndarray], np.ndarray] = lambda ids: ids) -> None:
    """Write all images and masks; `image` and `mask` are paths with {split} and {name}."""
    for split, names in NAMES.items():
        for name in names:
            for place, content in ((image, pixels(name)), (mask, change(ids_of(name)))):
                path = root / place.format(split=split, name=name)
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with nothing but classes.txt."""
    root = tmp_path / "mine"
    root.mkdir()
    (root / "classes.txt").write_text("bg\nobj\n")
    return root


@pytest.fixture
def prepare(root: Path, make_params: Callable) -> Prepare:
    out = root.parent / "dataset"

    def run(*, annotations: str | None = None, cut: float = 0, **masks: object) -> PreparedDataset:
        section = {"classes": "classes.txt", "ignore": [], "resize": False} | masks
        changes = {"annotations": annotations, "val_fraction": cut, "test_fraction": cut}
        prepare_dataset(make_params(source="masks", path=str(root), masks=section, **changes), out)
        return open_dataset(out)

    return run


def failure(prepare: Prepare, **changes: object) -> str:
    with pytest.raises(PipelineError) as error:
        prepare(**changes)
    return str(error.value)


def check(dataset: PreparedDataset, images: tuple[int, ...] = (3, 1, 1)) -> None:
    """Check the splits' sizes, and that every mask is its image's."""
    assert tuple(dataset.info.splits[split].images for split in SPLITS) == images
    for split in SPLITS:
        for image in dataset.images(split):
            (name,) = (name for name in "abcvt" if (np.asarray(Image.open(image)) == pixels(name)).all())
            np.testing.assert_array_equal(dataset.mask(image), ids_of(name))


# Folders


@pytest.mark.parametrize(
    "names", [("training", "validation", "testing"), ("Train", "Val", "TEST"), ("train2017", "valid_2", "test-1")]
)
def test_folders__names_of_splits_are_understood(prepare, root, names):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    for split, name in zip(SPLITS, names, strict=True):
        (root / "images" / split).rename(root / "images" / name)
        if split != "val":  # images and masks need not agree
            (root / "masks" / split).rename(root / "masks" / name)
    check(prepare())


def test_folders__that_are_no_splits_are_reported(prepare, root, capsys):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    shutil.copytree(root / "images/train", root / "images/trial")
    check(prepare())
    expected = "images/trial: its name is none of train, training, val, valid, validation, test, testing"
    assert expected in capsys.readouterr().err
    (root / "images/train").rename(root / "images/first")
    message = failure(prepare)
    assert "images/first: its name is none of train" in message
    assert "masks/train: no folder images/train" in message


def test_folders__split_without_an_image_is_fatal(prepare, root):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    (root / "images/val/v.png").unlink()
    (root / "images/val/.keep").touch()
    expected = f"{root}/images/val: has no image: put them there, or remove it to cut val out of train"
    assert expected in failure(prepare, cut=0.3)


def test_folders__linked_into_themselves_are_read_once(prepare, root):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    for kind in ("images", "masks"):
        (root / kind / "train/loop").symlink_to(".")
        (root / kind / "train/up").symlink_to("../..")
    check(prepare())


def test_folders__annotations_that_is_a_file_is_refused(prepare, root):
    assert "classes.txt: expected the folder of masks" in failure(prepare, annotations="classes.txt")


def test_folders__masks_of_another_name_are_asked_for(prepare, root):
    write(root, "images/{split}/{name}.png", "annotations/{split}/{name}.png")
    assert "no folder images/trainannot: prepare.annotations names the masks' folder" in failure(prepare)
    check(prepare(annotations="annotations"))


# Names

CITYSCAPES = (
    "leftImg8bit/{split}/city/{name}_1_leftImg8bit.png",
    "gtFine/{split}/city/{name}_1_gtFine_labelTrainIds.png",
)
SUFFIXES = {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelTrainIds"}
PAIRED: dict[str, tuple[str, str, dict[str, object]]] = {
    "Cityscapes": (*CITYSCAPES, {"annotations": "gtFine", **SUFFIXES}),
    "with extensions": (
        *CITYSCAPES,
        {"annotations": "gtFine", **{key: f"{suffix}.png" for key, suffix in SUFFIXES.items()}},
    ),
    "suffixes of both": (
        "images/{split}/{name}_image.png",
        "masks/{split}/{name}_annotation.tif",
        {"image_suffix": "_image", "mask_suffix": "_annotation"},
    ),
    "suffix of masks": ("images/{split}/{name}.png", "masks/{split}/{name}_mask.png", {"mask_suffix": "_mask"}),
    "suffix of images": ("images/{split}/{name}_rgb.png", "masks/{split}/{name}.png", {"image_suffix": "_rgb"}),
    "in one folder": (
        "{split}/{name}_image.png",
        "{split}/{name}_annotation.png",
        {"image_suffix": "_image", "mask_suffix": "_annotation"},
    ),
    "in one folder below images": (
        "images/{split}/{name}.png",
        "images/{split}/{name}_seg.png",
        {"mask_suffix": "_seg"},
    ),
}


@pytest.mark.parametrize("case", PAIRED)
def test_names__are_paired_up_to_their_suffixes(prepare, root, case):
    image, mask, params = PAIRED[case]
    write(root, image, mask)
    check(prepare(**params))


def test_names__other_files_of_an_image_are_left_alone(prepare, root):
    write(root, *CITYSCAPES)
    for path in list(root.glob("gtFine/*/*/*.png")):
        shutil.copy(path, path.with_name(path.name.replace("labelTrainIds", "color")))
    check(prepare(annotations="gtFine", **SUFFIXES))
    shutil.copy(root / "leftImg8bit/train/city/a_1_leftImg8bit.png", root / "leftImg8bit/train/city/a_1.png")
    check(prepare(annotations="gtFine", **SUFFIXES))


def test_names__images_without_the_suffix_are_reported(prepare, root, capsys):
    write(root, "images/{split}/{name}_rgb.png", "masks/{split}/{name}.png")
    Image.fromarray(pixels("x")).save(root / "images/train/x.png")
    check(prepare(image_suffix="_rgb"))
    assert "images/train/x.png: expected *_rgb.*" in capsys.readouterr().err


def test_names__flat_folder_of_both_is_cut(prepare, root):
    write(root, "{name}.png", "{name}_mask.png")
    check(prepare(cut=0.2, mask_suffix="_mask"), (3, 1, 1))


@pytest.mark.parametrize(
    ("image", "mask", "annotations", "suffixes"),
    [
        (*CITYSCAPES, "gtFine", ("_leftImg8bit", "_gtFine_labelTrainIds")),
        ("images/{split}/{name}_image.png", "masks/{split}/{name}_annotation.png", None, ("_image", "_annotation")),
        ("images/{split}/{name}.png", "masks/{split}/{name}-mask.png", None, ("", "-mask")),
        ("images/{split}/{name}1_image.png", "masks/{split}/{name}1_mask.png", None, ("_image", "_mask")),
    ],
)
def test_names__that_differ_are_explained_once_with_the_suffixes_to_set(
    prepare, root, image, mask, annotations, suffixes
):
    write(root, image, mask)
    message = failure(prepare, annotations=annotations)
    assert f"3 x {KINDS['missing_mask'].title}" in message  # a line for each split
    assert KINDS["missing_image"].title not in message
    assert f'set prepare.masks.image_suffix: "{suffixes[0]}" and mask_suffix: "{suffixes[1]}"' in message
    check(prepare(annotations=annotations, image_suffix=suffixes[0], mask_suffix=suffixes[1]))


def test_names__that_have_nothing_in_common_are_explained(prepare, root):
    write(root, "images/{split}/image_{name}.png", "masks/{split}/mask_{name}.png")
    message = failure(prepare)
    assert "images/train: no mask in masks/train has the name of an image: image_a here, mask_a there" in message
    assert "suffix" not in message


def test_names__several_masks_of_an_image_are_all_named(prepare, root):
    write(root, "images/{split}/{name}_rgb.png", "masks/{split}/{name}_ids.png")
    write(root, "images/{split}/{name}_rgb.png", "masks/{split}/{name}_color.png")
    assert 'image_suffix: "_rgb" and mask_suffix: "_color" or "_ids"' in failure(prepare)


def test_names__that_would_break_a_list_are_refused(prepare, root):
    write(root, "images/{split}/{name}\n.png", "masks/{split}/{name}\n.png")
    message = failure(prepare)
    assert f"5 x {KINDS['unusable_name'].title}" in message
    assert r"images/train/a\n.png: reads 'images/train/a\n.png'" in message


@pytest.mark.parametrize("name", ["犬 と 猫", "a#b", "50%"])
def test_names__of_any_script_are_kept(prepare, root, name):
    write(root, "images/{split}/{name}" + f"{name}.png", "masks/{split}/{name}" + f"{name}.png")
    check(prepare())


# Classes that the masks do not hold


def binary(root: Path) -> None:
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png", lambda ids: ids * 255)


def test_classes__object_of_255_that_is_ignored_is_fatal_and_explained(prepare, root):
    binary(root)
    message = failure(prepare, ignore=[255])
    assert "every labeled pixel of train is bg" in message
    assert "class obj has no pixel in 3 images; if the ignored id 255 is this class, write `255 obj`" in message


def test_classes__object_of_255_is_taken_by_its_id(prepare, root):
    binary(root)
    assert "as in `255 object`" in failure(prepare)
    (root / "classes.txt").write_text("0 bg\n255 obj\n")
    check(prepare())


def test_classes__one_of_many_that_train_lacks_is_reported(prepare, root, capsys):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    (root / "classes.txt").write_text("bg\nobj\nrare\n")
    check(prepare())
    printed = capsys.readouterr().err
    assert f"1 x {KINDS['absent_class'].title}" in printed
    assert f"{root}: class rare has no pixel in 3 images\n" in printed


def test_classes__ignored_border_is_no_reason_to_complain(prepare, root, capsys):
    write(
        root,
        "images/{split}/{name}.png",
        "masks/{split}/{name}.png",
        lambda ids: np.where(ids.cumsum() % 7 == 0, 255, ids.ravel()).reshape(ids.shape).astype(np.uint8),
    )
    dataset = prepare(ignore=[255])
    assert {0, 1, IGNORE} == set(np.unique(dataset.mask(dataset.root / "images/a.png")))
    assert KINDS["absent_class"].title not in capsys.readouterr().err


def test_classes__colours_of_panoptic_masks_are_explained(prepare, root):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png", lambda ids: np.stack([ids + 7, ids, ids], -1))
    message = failure(prepare)
    assert "panoptic PNGs number segments, another way in each image: convert these to class ids" in message
    assert KINDS["absent_class"].title not in message


@pytest.mark.parametrize("same", [True, False])
def test_copies__of_an_image_are_one_if_their_masks_hold_the_same(prepare, root, same):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    shutil.copy(root / "images/train/a.png", root / "images/train/a2.png")
    ids = ids_of("a") if same else 1 - ids_of("a")
    Image.fromarray(ids.astype(np.uint16)).save(root / "masks/train/a2.tif")  # other bytes in any case
    if same:
        check(prepare())
    else:
        assert "images/train/a2.png has the bytes of images/train/a.png, with another mask" in failure(prepare)


# Files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes"),
        (b"hello", "not an image: expected BMP, PNG or TIFF data"),
        (b"\0\0\0\x18ftypheic" + bytes(90), "holds HEIC data: convert it to BMP, PNG or TIFF"),
        (None, "no such file"),
    ],
)
def test_files__that_are_no_masks_are_named_without_a_memory_address(prepare, root, content, message):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    mask = root / "masks/train/a.png"
    mask.unlink()
    if content is None:
        mask.symlink_to("gone.png")
    else:
        mask.write_bytes(content)
    found = failure(prepare)
    assert f"{mask}: {message}" in found
    assert "0x" not in found


@pytest.mark.parametrize("channels", [3, 4])
def test_files__of_16_bits_per_channel_are_not_halved(prepare, root, channels):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    pixels = np.repeat(ids_of("a")[..., None].astype(np.uint16), channels, axis=-1)
    cv2.imwrite(str(root / "masks/train/a.png"), pixels)
    assert "masks/train/a.png: has 16 bits per channel, of which 8 would be lost" in failure(prepare)


@pytest.mark.parametrize("bits", [2, 4])
def test_files__of_2_or_4_bit_grey_are_not_spread(prepare, root, bits):
    write(root, "images/{split}/{name}.png", "masks/{split}/{name}.png")
    (root / "masks/train/a.png").write_bytes(grey_png(ids_of("a"), bits))
    assert f"masks/train/a.png: is {bits}-bit grey, which readers spread over 0 to 255" in failure(prepare)
    Image.fromarray(ids_of("a"), "P").save(root / "masks/train/a.png", bits=bits)  # palettes are not spread
    check(prepare())


def grey_png(values: np.ndarray, bits: int) -> bytes:
    """Write a PNG of 2- or 4-bit grey, which Pillow and OpenCV cannot write."""
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    data = b"".join(b"\0" + int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in chunks
    )


# The classes file

REFUSED: dict[str, tuple[str, int]] = {
    "CSV with a header": ("id,name\n0,bg\n1,obj\n", 2),
    "CSV": ("1,obj\n0,bg\n", 1),
    "CSV with spaces": ("1, obj\n0, bg\n", 1),
    "CSV of names and ids": ("obj,1\nbg,0\n", 1),
    "semicolons": ("0;bg\n1;obj\n", 1),
    "colons": ("0: bg\n1: obj\n", 1),
    "equals signs": ("bg = 0\nobj = 1\n", 1),
    "numbered list": ("1. bg\n2. obj\n", 1),
    "spaces around a colon": ("0 : bg\n1 : obj\n", 1),
    "spaces around a dash": ("1 - obj\n0 - bg\n", 1),
    "dashes": ("1-obj\n0-bg\n", 1),
    "underscores": ("1_obj\n0_bg\n", 1),
    "ids in brackets": ("[1] obj\n[0] bg\n", 1),
    "ids last in brackets": ("obj (1)\nbg (0)\n", 1),
    "ids last": ("obj 1\nbg 0\n", 1),
    "CVAT's labelmap": ("# label:color_rgb:parts:actions\nbg:0,0,0::\nobj:128,0,0::\n", 2),
    "CSV of colours": ("128,64,128,road\n0,0,0,sky\n", 1),
    "spaced CSV of colours": ("128, 64, 128, road\n0, 0, 0, sky\n", 1),
    "header of one column": ("name\nbg\nobj\n", 1),
    "header in capitals": ("Class\nbg\nobj\n", 1),
    "header over ids": ("id name\n0 bg\n1 obj\n", 2),
    "header over colours": ("r g b name\n0 0 0 bg\n1 1 1 obj\n", 2),
    "separator of another script": ("bg\nob\u2028j\n", 2),
    "control character": ("bg\nob\x1bj\n", 2),
    "huge number": (f"{'9' * 5000} bg\n1 obj\n", 1),
    "another encoding": ("bg\ncaf\udce9\n", 2),
}


@pytest.mark.parametrize("case", REFUSED)
def test_legend__names_that_would_be_shifted_are_refused_with_their_line(tmp_path, case):
    text, line = REFUSED[case]
    file = tmp_path / "classes.txt"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(
        PipelineError, match=rf"classes\.txt:{line}: .*(expected|looks like a header|seems to hold an id)"
    ):
        read_legend(file, [])


TAKEN = {
    "words": ("traffic light\nguard rail, left\nperson/rider\n", ["traffic light", "guard rail, left", "person/rider"]),
    "alternatives": ("wall;brick\ndoor;gate\n", ["wall;brick", "door;gate"]),
    "numbers of one kind": ("zone 1\nzone 2\n", ["zone 1", "zone 2"]),
    "numbers in some names": ("3-wheeler\n18-wheeler\nboat 7\n", ["3-wheeler", "18-wheeler", "boat 7"]),
    "ordinals": ("1st floor\n2nd floor\n", ["1st floor", "2nd floor"]),
    "types": ("boeing 737\nairbus 320\n", ["boeing 737", "airbus 320"]),
    "any name with an id": ("1 zone 1: north\n0 3. floor\n", ["zone 1: north", "3. floor"]),
    "another script": ("背景\nçok\n", ["背景", "çok"]),
    "Windows": ("\ufeffbg\r\nobj\r\n", ["bg", "obj"]),
}


@pytest.mark.parametrize("case", TAKEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_legend__other_names_are_taken(tmp_path, case, encoding):
    text, names = TAKEN[case]
    (tmp_path / "classes.txt").write_bytes(text.removeprefix("\ufeff" if encoding == "utf-16" else "").encode(encoding))
    assert list(read_legend(tmp_path / "classes.txt", []).names) == names


@pytest.mark.parametrize("name", ["gone.txt", ".", "a\0b"])
def test_legend__that_cannot_be_read_is_named_once(tmp_path, name):
    with pytest.raises(
        PipelineError, match=r"cannot be read: prepare\.masks\.classes should name a text file"
    ) as error:
        read_legend(tmp_path / name, [])
    assert str(error.value).count(str(tmp_path)) == 1
