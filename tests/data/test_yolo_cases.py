"""What users' YOLO folders hold beside plain boxes: other rows, other names, other files, other encodings."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.data import yolo
from pipeline.data.defects import KINDS
from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import SPLITS, PreparedDataset, open_dataset
from pipeline.data.source import RawDataset
from pipeline.errors import PipelineError

SIDE = 100  # pixels
NAMES = {"train": ["a", "b", "c"], "val": ["v"], "test": ["t"]}
YAML = "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n"
PLAIN = "0 0.5 0.5 0.2 0.2"
BOX = (40, 40, 60, 60)
Prepare = Callable[..., PreparedDataset]


def write_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix if path.suffix in {".png", ".jpg"} else ".jpg", pixels)[1].tobytes())


def write_label(root: Path, name: str, *rows: str) -> None:
    path = root / f"labels/{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with images of SIDE pixels, a plain box in each, and data.yaml."""
    root = tmp_path / "mine"
    for number, (split, name) in enumerate((split, name) for split, names in NAMES.items() for name in names):
        write_image(root / f"images/{split}/{name}.png", number)
        write_label(root, f"{split}/{name}", PLAIN)
    (root / "data.yaml").write_text(YAML)
    return root


@pytest.fixture
def prepare(root: Path, make_params: Callable) -> Prepare:
    out = root.parent / "dataset"

    def run(**changes: object) -> PreparedDataset:
        prepare_dataset(make_params(source="yolo", path=str(root), **changes), out)
        return open_dataset(out)

    return run


def boxes_of(raw: RawDataset) -> dict[str, list[tuple[int, ...]]]:
    """Return the pixels of all boxes, by image."""
    return {item.image.stem: [tuple(round(side) for side in box.xyxy) for box in item.boxes] for item in raw.items}


def kinds_of(raw: RawDataset) -> Counter[str]:
    return Counter(defect.kind for defect in raw.defects)


def message_of(raw: RawDataset, kind: str) -> str:
    return next(defect.message for defect in raw.defects if defect.kind == kind)


def failure(prepare: Prepare, **changes: object) -> str:
    with pytest.raises(PipelineError, match="nothing was written") as error:
        prepare(**changes)
    return str(error.value)


# Rows

POSE_3D = "0 0.5 0.5 0.2 0.2 " + " ".join(f"{0.45 + 0.005 * number} 0.5 {number % 3}" for number in range(17))
SQUARE = "0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6"
PENTAGON = "0 0.4 0.4 0.6 0.4 0.6 0.6 0.5 0.6 0.4 0.5"
TURNED = "1 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5"
WHOLE = "0 0 0 1 0 1 1 0 1"

KEPT: dict[str, tuple[str, dict[str, str], dict[str, tuple[int, ...]], dict[str, int]]] = {
    "keypoints of two numbers": (
        "kpt_shape: [2, 2]",
        dict.fromkeys("abcvt", f"{PLAIN} 0.45 0.45 0.55 0.55"),
        {},
        {"keypoints": 1},
    ),
    "keypoints with and without visibility": (
        "kpt_shape: [2, 2]",
        {"a": f"{PLAIN} 0.45 0.45 1 0.55 0.55 2", "b": f"{PLAIN} 0.45 0.45 0.55 0.55"},
        {},
        {"keypoints": 1},
    ),
    "keypoints far outside of the box": ("kpt_shape: [1, 2]", {"a": f"{PLAIN} 0.99 7"}, {}, {"keypoints": 1}),
    "persons": ("kpt_shape: [17, 3]", dict.fromkeys("abcvt", POSE_3D), {}, {"keypoints": 1}),
    "boxes in a pose dataset": ("kpt_shape: [17, 3]", {}, {}, {}),
    "polygons of four points": ("", dict.fromkeys("abcvt", SQUARE), {}, {"polygon": 1}),
    "polygons of five points": ("", dict.fromkeys("abcvt", PENTAGON), {}, {"polygon": 1}),
    "oriented boxes": ("", dict.fromkeys("abcvt", TURNED), {}, {"polygon": 1}),
    "boxes and polygons": ("", {"a": PENTAGON, "b": SQUARE}, {}, {"polygon": 1}),
    "a triangle": ("", {"a": "0 0.4 0.4 0.6 0.4 0.5 0.6"}, {}, {"polygon": 1}),
    "the whole image": ("", {"a": WHOLE}, {"a": (0, 0, 100, 100)}, {"polygon": 1}),
    "a polygon that ends at the border": (
        "",
        {"a": "0 0.4 0.4 0.6 0.4 0.7 0.5 0.9 1", "b": SQUARE},
        {"a": (40, 40, 90, 100)},
        {"polygon": 1, "border_polygon": 1},
    ),
    "a bow tie among polygons": (
        "",
        {"a": SQUARE, "b": PENTAGON, "c": "0 0.1 0.1 0.9 0.9 0.9 0.1 0.1 0.9"},
        {"c": (10, 10, 90, 90)},
        {"polygon": 1},
    ),
    "a polygon at two borders among polygons": (
        "",
        {"a": SQUARE, "b": "0 0.4 0.4 0.4 0.4 0.3 0.3 0 0.3 0.3 0"},
        {"b": (0, 0, 40, 40)},
        {"polygon": 1},
    ),
    "class as a float": ("", {"a": "0.0 0.5 0.5 0.2 0.2"}, {}, {}),
    "byte order mark, blank lines, tabs": ("", {"a": "\ufeff0\t0.5 0.5  0.2 0.2\n\n \n"}, {}, {}),
}


@pytest.mark.parametrize("case", KEPT)
def test_rows__box_that_is_meant_is_taken_and_it_is_said_once(root, case):
    extra, rows, others, kinds = KEPT[case]
    (root / "data.yaml").write_text(f"{YAML}{extra}\n")
    for split, names in NAMES.items():
        for name in names:
            write_label(root, f"{split}/{name}", rows.get(name, PLAIN))
    raw = yolo.read(root, None)
    assert boxes_of(raw) == {name: [others.get(name, BOX)] for name in "abcvt"}
    assert kinds_of(raw) == kinds


def test_rows__say_how_many_are_polygons_and_which_is_the_first(root):
    write_label(root, "train/b", PLAIN, SQUARE, PENTAGON)
    write_label(root, "val/v", TURNED)
    (note,) = yolo.read(root, None).defects
    assert (note.file, note.line) == ("labels/train/b.txt", 2)
    assert note.message == "3 of 7 rows, this is the first; 2 have four corners"


DROPPED: dict[str, tuple[str, list[str], str]] = {
    "confidence": ("", [f"{PLAIN} 0.913"], "got 6 numbers: .*confidence of a prediction, remove it"),
    "confidence and track id": ("", [f"{PLAIN} 0.9 1"], "confidence and track id"),
    "polygon, confidence and track id": ("", ["0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6 0.9 1"], "confidence and track id"),
    "track ids among polygons": ("", [f"{PLAIN} 0.9 1"], "confidence and track id"),
    "higher track ids among polygons": ("", ["0 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6 0.9 2"], "confidence and track id"),
    "polygon and confidence": ("", [f"{SQUARE} 0.9"], "got 10 numbers: .*confidence of a prediction"),
    "keypoints that nothing declares": ("", [f"{PLAIN} 0.45 0.45 0.55 0.55"], "keypoints: add kpt_shape"),
    "keypoints at the corners of their box": ("", [f"{PLAIN} 0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6"], "add kpt_shape"),
    "keypoints that are not labeled": ("", [f"{PLAIN} 0 0 0 0"], "add kpt_shape"),
    "visible keypoints that nothing declares": ("", [f"{PLAIN} 0.45 0.45 2 0.55 0.5 1"], "keypoints: add kpt_shape"),
    "persons that nothing declares": ("", [POSE_3D], "got 56 numbers.*keypoints: add kpt_shape"),
    "another number of keypoints": ("kpt_shape: [3, 2]", [f"{PLAIN} 0.4 0.4 0.5 0.5"], r"5 numbers \(a box\), or 11"),
    "keypoints and confidence": ("kpt_shape: [2, 2]", [f"{PLAIN} 0.4 0.4 0.5 0.5 0.9"], "got 10 numbers"),
    "pixels": ("", ["0 50 50 20 20"], "from 0 to 1, got '0 50.*are these pixels"),
    "polygon of pixels": ("", ["0 40 40 60 40 60 60"], "are these pixels"),
    "decimal commas": ("", ["0 0,5 0,5 0,2 0,2"], "expected numbers, got '0 0,5"),
    "class name": ("", ["cat 0.5 0.5 0.2 0.2"], "expected numbers, got 'cat"),
    "JSON": ("", ['{"boxes": []}'], "expected numbers"),
    "control characters": ("", ["0 0.5 0.5 0.2 \x1b[31m"], "expected numbers"),
}


@pytest.mark.parametrize("case", DROPPED)
@pytest.mark.parametrize("everywhere", [True, False])
def test_rows__what_is_no_label_is_dropped_with_a_reason(root, case, everywhere):
    extra, rows, expected = DROPPED[case]
    (root / "data.yaml").write_text(f"{YAML}{extra}\n")
    for split, names in NAMES.items() if everywhere else [("train", ["a"])]:
        for name in names:
            write_label(root, f"{split}/{name}", *rows)
    if case.endswith("among polygons"):
        write_label(root, "train/b", SQUARE, PENTAGON)
    raw = yolo.read(root, None)
    assert boxes_of(raw)["a"] == []
    assert raw.defects[-1].kind == "malformed"
    assert (raw.defects[-1].file, raw.defects[-1].line) == (f"labels/{'test/t' if everywhere else 'train/a'}.txt", 1)
    assert re.search(expected, message_of(raw, "malformed"))


def test_rows__why_a_split_is_empty_is_printed_before_it(prepare, root):
    for split, names in NAMES.items():
        for name in names:
            write_label(root, f"{split}/{name}", *[f"{PLAIN} 0.913"] * 7)
    message = failure(prepare)
    lines = message.splitlines()
    assert lines[0].endswith(f": 3 x {KINDS['empty_split'].title}")
    assert lines.index("Tolerated:") < lines.index("Fatal:")
    assert f"35 x {KINDS['malformed'].title}" in message
    assert "labels/train/a.txt:1: expected a class and 4 numbers" in message
    assert "  and 25 more" in lines
    assert lines[-1].endswith("35 annotations were dropped (listed above); are the annotations where the reader looks?")


# data.yaml


@pytest.mark.parametrize("key", ["Train", "trian", "val"])
def test_yaml__without_train_is_refused(root, key):
    (root / "data.yaml").write_text(f"{key}: images/train\nnames: [cat, dog]\n")
    with pytest.raises(PipelineError, match=rf"data\.yaml: expected the key train .*, got {key}, names"):
        yolo.read(root, None)


def test_yaml__an_image_is_no_list_of_images(root):
    (root / "data.yaml").write_text(YAML.replace("images/val", "images/val/v.png"))
    with pytest.raises(PipelineError, match=r"data\.yaml:2: images/val/v\.png: expected a folder or a list of images"):
        yolo.read(root, None)


def test_yaml__nc_agrees_with_names(root):
    (root / "data.yaml").write_text(f"{YAML}nc: 2\n")
    assert yolo.read(root, None).classes == ("cat", "dog")
    for wrong in ("3", "0", "two", "[1]"):
        (root / "data.yaml").write_text(f"{YAML}nc: {wrong}\n")
        with pytest.raises(PipelineError, match=r"data\.yaml:5: nc: expected 2, the number of names, got"):
            yolo.read(root, None)


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[0, 2]", "[a, 2]", "[1, 2, 3]"])
def test_yaml__unusable_kpt_shape_is_refused(root, shape):
    (root / "data.yaml").write_text(f"{YAML}kpt_shape: {shape}\n")
    with pytest.raises(PipelineError, match=r"data\.yaml:5: kpt_shape: expected the number of keypoints and 2 or 3"):
        yolo.read(root, None)


@pytest.mark.parametrize(
    "names",
    [
        '["cat\\ndog"]',
        '["cat\\u2028"]',
        '["cat\\e[31m"]',
        '[cat, ""]',
        "[cat, null]",
        "[cat, [dog]]",
        "{0: cat, a: dog}",
    ],
)
def test_yaml__class_name_that_would_break_a_list_is_refused(root, names):
    (root / "data.yaml").write_text(YAML.replace("[cat, dog]", names))
    with pytest.raises(PipelineError, match=r"data\.yaml: .*expected a (name|list)"):
        yolo.read(root, None)


def test_yaml__class_names_of_any_script_and_number_are_taken(prepare, root):
    names = ["猫 #1", "50% off", "no", *(f"c{number}" for number in range(997))]
    (root / "data.yaml").write_text(YAML.replace("[cat, dog]", json.dumps(names, ensure_ascii=False)))
    write_label(root, "train/a", "999 0.5 0.5 0.2 0.2")
    dataset = prepare()
    assert dataset.info.classes == names
    assert dataset.boxes(dataset.root / "images/a.png")[0].tolist() == [999]


@pytest.mark.parametrize(
    "key", ["download: touch ran", "download: |\n  open('ran', 'w')", "download: https://x.invalid/a.zip"]
)
def test_yaml__download_is_never_run(root, monkeypatch, key):
    monkeypatch.chdir(root)
    (root / "data.yaml").write_text(f"{YAML}{key}\n")
    assert len(yolo.read(root, None).items) == 5
    assert not (root / "ran").exists()


@pytest.mark.parametrize("place", ["images/none", "none.txt"])
def test_yaml__split_that_is_named_and_has_no_image_is_fatal(prepare, root, place):
    (root / "images/none").mkdir()
    (root / "none.txt").write_text("\n")
    (root / "data.yaml").write_text(YAML.replace("images/val", place))
    message = failure(prepare, val_fraction=0.3)
    assert f"{root}/data.yaml:2: val: {place} has no image: put them there, or remove it; without the key" in message


def test_yaml__one_of_several_places_without_an_image_is_fatal(prepare, root):
    write_image(root / "images/other/x.jfif", 9)
    (root / "data.yaml").write_text(YAML.replace("images/train", "[images/train, images/other]"))
    message = failure(prepare)
    assert f"{root}/data.yaml:1: train: images/other has no image: put them there, or remove it\n" in f"{message}\n"
    assert "x.jfif: convert it" in message


def test_yaml__paths_of_windows_are_understood(root):
    (root / "list.txt").write_text("images\\train\\a.png\r\n.\\images\\train\\b.png\r\n")
    (root / "data.yaml").write_text(YAML.replace("images/train", "list.txt").replace("images/val", r"..\images\val"))
    assert boxes_of(yolo.read(root, None)) == {name: [BOX] for name in "abvt"}


def test_yaml__training_and_testing_and_trainval_are_understood(prepare, root):
    (root / "trainval.txt").write_text("".join(f"images/train/{name}.png\r\n" for name in "abc"))
    (root / "data.yaml").write_text("training: trainval.txt\ntesting: images/test\nnames: [cat, dog]\n")
    dataset = prepare(val_fraction=0.3)
    assert [dataset.info.splits[split].images for split in SPLITS] == [2, 1, 1]


def test_yaml__line_of_a_merged_key_does_not_matter(root):
    (root / "data.yaml").write_text(f"base: &base {{ nc: 3 }}\n<<: *base\n{YAML}")
    with pytest.raises(PipelineError, match="nc: expected 2"):
        yolo.read(root, None)


# Images and label files without a partner


def test_files__without_a_partner_are_reported(prepare, root, capsys):
    (root / "labels/train/a.txt").rename(root / "labels/train/a.png.txt")
    (root / "labels/train/b.txt").rename(root / "labels/train/b.TXT")
    write_label(root, "train/ghost", PLAIN)
    write_image(root / "images/train/d.jfif", 9)
    write_label(root, "train/d", PLAIN)
    dataset = prepare()
    printed = capsys.readouterr().err
    for line in (
        f"4 x {KINDS['unpaired_labels'].title}",
        f"{root}/labels/train/a.png.txt: expected the name a.txt",
        f"{root}/labels/train/b.TXT: expected the name b.txt",
        f"{root}/labels/train/d.txt: no image images/train/d.*",
        f"{root}/labels/train/ghost.txt: no image images/train/ghost.*",
        f"{root}/images/train/d.jfif: convert it to one of .jpg",
        f"2 x {KINDS['unlabeled'].title}",
        f"{root}/images/train/a.png: no labels/train/a.txt",
    ):
        assert line in printed
    assert dataset.info.splits["train"].boxes == 1


def test_files__beside_labels_that_are_no_labels_are_not_mentioned(root):
    (root / "labels/train/classes.txt").write_text("cat\ndog\n")
    (root / "labels/train/notes.txt").write_text("drawn in May\n")
    (root / "labels/train/empty.txt").write_text("")
    (root / "labels/train/a.json").write_text("{}")
    (root / "labels/train/._a.txt").write_bytes(b"\0\5\x16\7\xff")
    (root / "labels/train.cache").write_bytes(b"\xff")
    (root / "images/train/._a.png").write_bytes(b"\0\5\x16\7\xff")
    (root / "images/train/Thumbs.db").write_bytes(b"\xff")
    (root / "images/train/.ipynb_checkpoints").mkdir()
    (root / "images/train/.ipynb_checkpoints/a-checkpoint.png").write_bytes(b"\xff")
    (root / "data.yaml").rename(root / "one.yaml")
    (root / "._one.yaml").write_bytes(b"\0\5\x16\7\xff")
    raw = yolo.read(root, None)
    assert raw.defects == ()
    assert len(raw.items) == 5


def test_files__images_that_no_split_lists_are_counted(root):
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    write_image(root / "elsewhere/x.png", 9)  # no labels: not of this dataset
    (defect,) = yolo.read(root, None).defects
    assert (defect.kind, defect.file, defect.message) == ("unlisted_images", "images/test", "1 with labels")


def test_files__images_that_are_listed_behind_a_link_are_no_others(root):
    (root / "images/alias").symlink_to("test")
    (root / "labels/alias").symlink_to("test")
    (root / "data.yaml").write_text(YAML.replace("images/test", "images/alias"))
    raw = yolo.read(root, None)
    assert boxes_of(raw) == {name: [BOX] for name in "abcvt"}
    assert raw.defects == ()


def test_files__labels_beside_images_are_paired(root):
    for split in NAMES:
        (root / split).mkdir()
        for path in [*root.glob(f"images/{split}/*"), *root.glob(f"labels/{split}/*")]:
            path.rename(root / split / path.name)
    (root / "data.yaml").write_text("train: train\nval: val\ntest: ../test\nnames: [cat, dog]\n")
    write_label(root, "../train/ghost", PLAIN)
    raw = yolo.read(root, None)
    assert boxes_of(raw) == {name: [BOX] for name in "abcvt"}
    assert [(defect.kind, defect.file) for defect in raw.defects] == [("unpaired_labels", "train/ghost.txt")]


# Copies of an image


def copy_image(root: Path, name: str) -> None:
    (root / f"images/train/{name}.png").write_bytes((root / "images/train/b.png").read_bytes())


def test_copies__the_labeled_one_is_kept(prepare, root):
    copy_image(root, "aa")
    copy_image(root, "z")
    dataset = prepare()
    assert [image.stem for image in dataset.images("train")] == ["a", "b", "c"]
    assert dataset.info.splits["train"].boxes == 3


def test_copies__with_the_same_labels_in_another_order_are_one(prepare, root):
    copy_image(root, "aa")
    write_label(root, "train/b", PLAIN, "1 0.5 0.5 0.4 0.4")
    write_label(root, "train/aa", "1 0.5 0.5 0.4 0.40001", PLAIN)
    dataset = prepare()
    assert [image.stem for image in dataset.images("train")] == ["a", "aa", "c"]
    assert dataset.info.splits["train"].boxes == 4


@pytest.mark.parametrize("rows", [["1 0.5 0.5 0.2 0.2"], ["0 0.5 0.5 0.4 0.2"], [PLAIN, "1 0.5 0.5 0.2 0.2"]])
def test_copies__with_other_labels_are_fatal(prepare, root, rows):
    copy_image(root, "aa")
    write_label(root, "train/aa", *rows)
    message = failure(prepare)
    assert f"1 x {KINDS['other_labels'].title}" in message
    assert "images/train/b.png has the bytes of images/train/aa.png, with other boxes" in message


def test_copies__image_that_is_listed_twice_counts_once(prepare, root):
    (root / "list.txt").write_text("images/train/a.png\nimages/train/b.png\n./images/train/a.png\n")
    (root / "data.yaml").write_text(YAML.replace("images/train", "[list.txt, images/train]"))
    dataset = prepare()
    assert dataset.info.splits["train"].model_dump(include={"images", "boxes"}) == {"images": 3, "boxes": 3}


# Links

LINKS: dict[str, tuple[str, str]] = {
    "to itself": ("images/train/loop", "."),
    "first in the listing": ("images/train/0", "."),
    "to its parent": ("images/train/loop", ".."),
    "to the root": ("images/train/loop", "../.."),
    "to a folder beside it that links back": ("images/train/sub/loop", "../../train"),
    "to a folder beside it": ("images/train/alias", "sub"),
    "to itself by name": ("images/train/self", "self"),
}


@pytest.mark.parametrize("case", LINKS)
def test_links__every_folder_is_read_once_by_its_own_path(prepare, root, case):
    link, target = LINKS[case]
    (root / "images/train/sub").mkdir()
    (root / "images/train/c.png").rename(root / "images/train/sub/c.png")
    (root / "labels/train/sub").mkdir()
    (root / "labels/train/c.txt").rename(root / "labels/train/sub/c.txt")
    (root / link).symlink_to(target)
    dataset = prepare()
    assert [(part.images, part.boxes) for part in dataset.info.splits.values()] == [(3, 3), (1, 1), (1, 1)]


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings__marked_texts_are_read(root, encoding):
    (root / "list.txt").write_text("images/train/a.png\r\nimages/train/b.png", encoding)
    (root / "data.yaml").write_text(f"{YAML.replace('images/train', 'list.txt')}# Hündin\n", encoding)
    (root / "labels/train/a.txt").write_text(f"{PLAIN}\n", encoding)
    raw = yolo.read(root, None)
    assert boxes_of(raw) == {name: [BOX] for name in "abvt"}


@pytest.mark.parametrize(("file", "line"), [("data.yaml", 5), ("list.txt", 2)])
def test_encodings__other_texts_are_named_with_file_and_line(root, file, line):
    (root / "list.txt").write_text("images/train/a.png\n")
    (root / "data.yaml").write_text(YAML.replace("images/train", "list.txt"))
    with (root / file).open("ab") as text:
        text.write("# 狗\n".encode("gb2312"))
    with pytest.raises(PipelineError, match=rf"{file}:{line}: expected utf-8 text, got byte 0x"):
        yolo.read(root, None)


def test_encodings__label_files_are_all_named(prepare, root):
    for name in "ab":
        (root / f"labels/train/{name}.txt").write_bytes(f"{PLAIN}\n{PLAIN} caf\xe9\n".encode("latin-1"))
    message = failure(prepare)
    assert f"2 x {KINDS['broken_file'].title}" in message
    assert f"{root}/labels/train/b.txt:2: expected utf-8 text, got byte 0xe9: save the file as UTF-8" in message


# Names of files

UNUSABLE = ["a\nb", "a\rb", "a\u2028b", "a\x85b", "a\x1b[31mb", "a\x0bb", os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize("name", UNUSABLE, ids=ascii)
def test_names__that_would_break_a_list_are_refused(prepare, root, name):
    try:
        write_image(root / f"images/train/{name}.png", 9)
        write_label(root, f"train/{name}", PLAIN)
    except OSError:
        pytest.skip("this file system has no such names")
    message = failure(prepare)
    assert f"1 x {KINDS['unusable_name'].title}" in message
    assert f"reads {f'images/train/{name}.png'!a}" in message
    assert name not in message


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\x0bb"])
def test_names__only_line_ends_part_the_lines_of_a_list(prepare, root, name):
    write_image(root / f"images/train/{name}.png", 9)
    (root / "list.txt").write_text(f"images/train/a.png\nimages/train/{name}.png\n")
    (root / "data.yaml").write_text(YAML.replace("images/train", "list.txt"))
    message = failure(prepare)
    assert KINDS["unusable_name"].title in message
    assert KINDS["missing_image"].title not in message


def test_names__of_folders_count_as_well(prepare, root):
    write_image(root / "images/train/sub\nfolder/x.png", 9)
    assert KINDS["unusable_name"].title in failure(prepare)


@pytest.mark.parametrize(
    "name", ["犬 と 猫", "a#b", "50%", "it's", 'say "x"', "[red]", "\u202fa", "x.y.z", "👩\u200d🚀"]
)
def test_names__of_any_script_are_kept(prepare, root, name):
    write_image(root / f"images/train/{name}.png", 9)
    write_label(root, f"train/{name}", PLAIN, PLAIN.replace("0", "1", 1))
    (root / "list.txt").write_text(f"images/train/a.png\nimages/train/{name}.png\n")
    for train in ("images/train", "list.txt"):
        (root / "data.yaml").write_text(YAML.replace("images/train", train))
        dataset = prepare()
        assert len(dataset.boxes(dataset.root / f"images/{name}.png")[0]) == 2
        assert f"{name}.png" in [image.name for image in dataset.images("train")]


@pytest.mark.parametrize("stem", ["x" * 251, "ü" * 125])
def test_names__as_long_as_they_may_be_are_cut(prepare, root, stem):
    for number, split in enumerate(("train", "val")):
        write_image(root / f"images/{split}/{stem}.png", 9 + number)
        write_label(root, f"{split}/{stem}", PLAIN, PLAIN.replace("0", "1", 1))
    dataset = prepare()
    for split in ("train", "val"):
        (image,) = [image for image in dataset.images(split) if image.stem.endswith(stem[0], 1, 20)]
        assert len(os.fsencode(image.name)) <= 220
        assert len(dataset.boxes(image)[0]) == 2


def test_names__that_no_file_can_have_are_missing(prepare, root):
    (root / "list.txt").write_text(f"images/train/a.png\n{'x' * 5000}\na\0b\n")
    (root / "data.yaml").write_text(YAML.replace("images/train", "list.txt"))
    assert f"2 x {KINDS['missing_image'].title}" in failure(prepare)


# Few images


@pytest.mark.parametrize(("images", "missing"), [(1, ["val", "test"]), (2, ["test"]), (3, [])])
def test_cut__too_few_images_are_explained(prepare, root, images, missing):
    for split in ("val", "test"):
        (root / f"images/{split}").rename(root / f"{split} of another dataset")
    for name in "abc"[images:]:
        (root / f"images/train/{name}.png").unlink()
    (root / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    if not missing:
        assert [part.images for part in prepare(val_fraction=0.15, test_fraction=0.15).info.splits.values()] == [
            1,
            1,
            1,
        ]
        return
    message = failure(prepare, val_fraction=0.15, test_fraction=0.15)
    assert f"{len(missing)} x {KINDS['empty_split'].title}" in message
    for split in missing:
        assert f"{split} has no image: {images} in all are too few to cut it out of train" in message


def test_labels__of_a_folder_that_is_named_like_an_image_are_reported(root):
    (root / "images/train/a.png").unlink()
    (root / "images/train/a.png").mkdir()
    raw = yolo.read(root, None)
    assert "no image images/train/a.* of a supported type" in message_of(raw, "unpaired_labels")
