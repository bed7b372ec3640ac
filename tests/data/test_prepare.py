"""From a source to the prepared layout: defects, splits, and what is written."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.defects import KINDS
from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import SPLITS, open_dataset
from pipeline.data.scenes import make_scene
from pipeline.errors import PipelineError

SHARED = Path(__file__).parents[2].parent / "shared"


@pytest.fixture
def prepare(root, make_params):
    """Return a function that prepares the tiny dataset as YOLO, unless told otherwise."""
    out = root.parent / "dataset"

    def run(**changes):
        prepare_dataset(make_params(**{"source": "yolo", "path": str(root), **changes}), out)
        return open_dataset(out)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What is written


def test_prepare__same_input_gives_same_bytes(prepare):
    first = contents(prepare().root)
    assert contents(prepare().root) == first
    assert {"dataset.json", "defects.json", "calibration.txt", "splits/val.txt", "images/a.png"} <= set(first)


def test_prepare__scene_does_not_depend_on_the_count(tmp_path, make_params):
    few, more = tmp_path / "few", tmp_path / "more"
    prepare_dataset(make_params(), few)
    prepare_dataset(make_params(scenes={"train_images": 5, "val_images": 1, "test_images": 2}), more)
    for name in ("images/train_00002.png", "labels/train_00002.txt", "masks/train_00002.png", "images/test_00001.png"):
        assert (few / name).read_bytes() == (more / name).read_bytes()


def test_prepare__scenes_open_with_labels_that_fit_their_masks(tmp_path, make_params):
    prepare_dataset(make_params(), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert [dataset.info.splits[split].images for split in SPLITS] == [3, 2, 2]
    np.testing.assert_array_equal(Image.open(dataset.images("val")[1]), make_scene(0, "val", 1, 64).image)
    for split in SPLITS:
        boxes = 0
        for image in dataset.images(split):
            assert cv2.imread(str(image)).shape == (64, 64, 3)
            mask = cv2.imread(str(dataset.root / "masks" / image.name), cv2.IMREAD_GRAYSCALE)
            class_ids, found = dataset.boxes(image)
            boxes += len(found)
            assert set(np.unique(mask)) - {0} == {class_id + 1 for class_id in class_ids}
        assert boxes == dataset.info.splits[split].boxes


@pytest.mark.parametrize(("source", "annotations"), [("yolo", None), ("coco", None), ("voc", "voc")])
def test_prepare__labels_give_the_pixels_back(prepare, source, annotations):
    dataset = prepare(source=source, annotations=annotations)
    class_ids, boxes = dataset.boxes(dataset.root / "images/a.png")
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * [64, 32, 64, 32]
    np.testing.assert_allclose(corners, [(0, 0, 16, 8), (8, 4, 64, 32)], atol=1e-4)
    assert class_ids.tolist() == [0, 1]
    assert dataset.info.classes == ["cat", "dog"]
    assert [image.name for image in dataset.images("train")] == ["a.png", "b.png", "c.png", "d.png"]


def test_prepare__copies_image_bytes_and_leaves_the_source_alone(prepare, root):
    before = contents(root)
    dataset = prepare()
    assert contents(root) == before
    assert (dataset.root / "images/e.png").read_bytes() == before["images/val/e.png"]


def test_prepare__calibration_is_a_fixed_part_of_train(prepare):
    dataset = prepare(calibration_images=2)
    assert len(dataset.calibration_images) == 2
    most = prepare(calibration_images=99)
    assert set(most.calibration_images) == set(most.images("train"))
    assert most.calibration_images[:2] == dataset.calibration_images


def test_prepare__digest_follows_content(prepare, root):
    first = prepare().info
    (root / "labels/val/e.txt").write_text("1 0.5 0.5 0.25 0.25\n")
    second = prepare().info
    assert second.digest != first.digest
    assert second.splits["val"].digest != first.splits["val"].digest
    assert second.splits["train"] == first.splits["train"]
    assert prepare(image_size_px=96).info.digest != second.digest


def test_prepare__equal_stems_get_the_splits_name(prepare, root):
    (root / "images/val/e.png").rename(root / "images/val/A.png")
    (root / "labels/val/e.txt").rename(root / "labels/val/A.txt")
    (root / "images/train/deep").mkdir()
    image = cv2.imread(str(root / "images/train/b.png"))
    cv2.imwrite(str(root / "images/train/deep/d.bmp"), 255 - image)
    dataset = prepare()
    assert [image.name for image in dataset.images("val")] == ["val_A.png"]
    names = [image.name for image in dataset.images("train")]
    assert names[:3] == ["b.png", "c.png", "train_a.png"]
    assert [name[:8] for name in names[3:]] == ["train_d_", "train_d_"]
    assert len({Path(name).stem for name in names}) == 5
    assert all((dataset.root / "labels" / f"{Path(name).stem}.txt").is_file() for name in names)


@pytest.mark.parametrize(("suffix", "exact"), [("jpg", False), ("png", True), ("webp", True), ("tif", True)])
def test_prepare__turns_exif_rotated_images_upright(prepare, root, suffix, exact):
    upright = cv2.GaussianBlur(np.random.default_rng(9).integers(0, 255, (48, 24, 3), np.uint8), (0, 0), 4)
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))  # to be turned clockwise when shown
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(root / f"images/train/r.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    (root / "labels/train/r.txt").write_text("0 0.5 0.25 1 0.5\n")
    dataset = prepare()
    with Image.open(dataset.root / f"images/r.{suffix}") as image:
        assert image.size == (24, 48)
        assert 0x0112 not in image.getexif()
        np.testing.assert_allclose(np.asarray(image, int), upright, atol=0 if exact else 12)
    assert (dataset.root / "labels/r.txt").read_text() == "0 0.500000 0.250000 1.000000 0.500000\n"


def test_prepare__jpeg_with_trailing_bytes_ends_as_ultralytics_wants(prepare, root):
    cv2.imwrite(str(root / "images/train/j.jpg"), np.full((20, 20, 3), 99, np.uint8))
    content = (root / "images/train/j.jpg").read_bytes() + b"\0\0"
    (root / "images/train/j.jpg").write_bytes(content)
    assert (prepare().root / "images/j.jpg").read_bytes() == content + b"\xff\xd9"


# Splits


def lacking_test(root: Path, number: int = 40) -> None:
    """Give train many images and take test away."""
    for index in range(number):
        pixels = np.random.default_rng(1000 + index).integers(0, 255, (12, 12, 3), np.uint8)
        cv2.imwrite(str(root / f"images/train/n{index:02d}.png"), pixels)
        (root / f"labels/train/n{index:02d}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")


def test_carve__takes_the_fraction_out_of_train_and_leaves_val(prepare, root):
    lacking_test(root)
    dataset = prepare(test_fraction=0.25, val_fraction=0.25)
    assert [dataset.info.splits[split].images for split in SPLITS] == [33, 1, 11]
    assert not set(dataset.images("train")) & set(dataset.images("test"))


def test_carve__depends_on_seed_and_names_only(prepare, root):
    lacking_test(root)
    first = prepare(test_fraction=0.25)
    names = [image.name for image in first.images("test")]
    listing = sorted((root / "images/train").iterdir(), reverse=True)
    (root / "list.txt").write_text("".join(f"images/train/{path.name}\n" for path in listing))
    (root / "data.yaml").write_text("train: list.txt\nval: images/val\nnames: [cat, dog]\n")
    assert [image.name for image in prepare(test_fraction=0.25).images("test")] == names
    assert [image.name for image in prepare(test_fraction=0.25, seed=1).images("test")] != names


def test_carve__a_new_image_moves_at_most_one_other(prepare, root):
    lacking_test(root)
    before = {image.name for image in prepare(test_fraction=0.25).images("test")}
    lacking_test(root, 41)
    after = {image.name for image in prepare(test_fraction=0.25).images("test")}
    assert len(after - before) <= 1
    assert len(before - after) <= 1


def test_carve__never_cuts_between_equal_images(prepare, root):
    lacking_test(root, 12)
    for index in range(12):
        shutil.copy(root / f"images/train/n{index:02d}.png", root / f"images/train/m{index:02d}.png")
    dataset = prepare(test_fraction=0.5)
    digests = [hashlib.sha256(image.read_bytes()).hexdigest() for split in SPLITS for image in dataset.images(split)]
    assert len(digests) == len(set(digests)) == 4 + 12 + 1 + 1 - 1  # test's own image is not listed any more


# Defects


def lines(file: str, *rows: str):
    return lambda root: (root / file).write_text("".join(f"{row}\n" for row in rows))


def copy(source: str, target: str):
    """Copy an image with its labels."""

    def run(root: Path) -> None:
        for folder, suffix in (("images", ".png"), ("labels", ".txt")):
            old, new = ((root / folder / name).with_suffix(suffix) for name in (source, target))
            shutil.copy(old, new)

    return run


GOOD = "0 0.5 0.5 0.5 0.5"
B = "labels/train/b.txt"
TOLERATED = [
    ("clipped", lines(B, GOOD, "0 0.0 0.5 0.5 0.5"), f"{B}:2: cat: xyxy -16 8 16 24 in 64 x 32 pixels of b.png", 2),
    ("outside", lines(B, GOOD, "0 1.5 0.5 0.5 0.5"), f"{B}:2: cat: xyxy 80 8 112 24", 1),
    ("zero_area", lines(B, GOOD, "1 0.5 0.5 0 0.5"), f"{B}:2: dog: xyxy 32 8 32 24", 1),
    ("zero_area", lines(B, GOOD, "1 0.5 0.5 -0.5 0.5"), f"{B}:2: dog: xyxy 48 8 16 24", 1),
    ("non_finite", lines(B, GOOD, "0 nan 0.5 0.5 0.5"), f"{B}:2: cat: xyxy nan 8 nan 24", 1),
    ("non_finite", lines(B, GOOD, "0 0 0 1 0 inf 1"), f"{B}:2: cat: xyxy nan", 1),
    ("malformed", lines(B, GOOD, "0 0.5 0.5 0.5"), f"{B}:2: expected a class and 4 numbers (a box)", 1),
    ("duplicate_box", lines(B, GOOD, GOOD), f"{B}:2: cat: xyxy 16 8 48 24", 1),
    (
        "duplicate_image",
        copy("train/b", "train/b2"),
        "data.yaml:1: images/train/b2.png has the bytes of images/train/b.png",
        1,
    ),
    (
        "val_in_test",
        copy("val/e", "test/e"),
        "data.yaml:3: images/test/e.png in test has the bytes of images/val/e.png in val",
        1,
    ),
]


@pytest.mark.parametrize("case", TOLERATED, ids=lambda case: case[0])
def test_defect__tolerated_is_printed_counted_and_written(prepare, root, capsys, case):
    kind, spoil, message, boxes = case
    spoil(root)
    dataset = prepare()
    printed = capsys.readouterr().err
    assert f"1 x {KINDS[kind].title}" in printed
    assert f"  {root}/{message}" in printed
    (written,) = json.loads((dataset.root / "defects.json").read_text())
    place = written["file"] if written["line"] is None else f"{written['file']}:{written['line']}"
    assert written["kind"] == kind
    assert f"{place}: {written['message']}".startswith(message)
    assert len(dataset.boxes(dataset.root / "images/b.png")[0]) == boxes


def test_defect__box_beyond_the_edge_is_cut_at_the_edge(prepare, root):
    lines(B, "0 0.0 1.0 0.5 0.5")(root)
    dataset = prepare()
    assert (dataset.root / B.replace("train/", "")).read_text() == "0 0.125000 0.875000 0.250000 0.250000\n"


FATAL = [
    ("unknown_class", lines(B, "7 0.5 0.5 0.5 0.5"), f"{B}:1: class 7, but names has 0 to 1"),
    ("unreadable_image", lines("images/train/b.png", "no image"), "images/train/b.png: not an image"),
    ("unreadable_image", lines("images/train/x.gif", "GIF89a"), "images/train/x.gif: .gif is not supported"),
    (
        "leak",
        copy("train/d", "test/z"),
        "data.yaml:3: images/test/z.png in test has the bytes of images/train/d.png in train",
    ),
    (
        "empty_split",
        lines("data.yaml", "train: images/train", "val: images/val", "names: [cat, dog]"),
        ": test has no image and prepare.test_fraction is 0",
    ),
    ("empty_split", lines("labels/val/e.txt"), "data.yaml:2: val has 1 images and no box"),
]


@pytest.mark.parametrize("case", FATAL, ids=lambda case: case[0])
def test_defect__fatal_stops_with_nothing_written(prepare, root, case):
    kind, spoil, message = case
    spoil(root)
    with pytest.raises(PipelineError, match="nothing was written") as error:
        prepare()
    assert f"1 x {KINDS[kind].title}" in str(error.value)
    assert message in str(error.value)
    assert [path.name for path in root.parent.iterdir()] == ["mine"]


def test_defect__truncated_and_tiny_images_are_unreadable(prepare, root):
    cv2.imwrite(str(root / "images/train/t.jpg"), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    content = (root / "images/train/t.jpg").read_bytes()
    (root / "images/train/t.jpg").write_bytes(content[: len(content) // 2])
    cv2.imwrite(str(root / "images/train/u.png"), np.zeros((9, 30, 3), np.uint8))
    with pytest.raises(PipelineError, match=r"(?s)2 x unreadable.*t\.jpg.*truncated.*u\.png: 30 x 9 pixels"):
        prepare()


@pytest.mark.parametrize(("source", "annotations"), [("coco", None), ("voc", "voc")])
def test_defect__size_of_another_image_is_fatal(prepare, root, source, annotations):
    cv2.imwrite(str(root / "images/val/e.png"), np.zeros((64, 32, 3), np.uint8))
    with pytest.raises(PipelineError, match=r"says 64 x 32, but images/val/e\.png is 32 x 64"):
        prepare(source=source, annotations=annotations)


def test_defect__all_fatal_ones_come_at_once_and_long_lists_are_cut(prepare, root):
    lines(B, *["7 0.5 0.5 0.5 0.5"] * 25)(root)
    lines("images/train/a.png", "no image")(root)
    with pytest.raises(PipelineError) as error:
        prepare()
    message = str(error.value)
    assert "25 x unknown class" in message
    assert "and 15 more" in message
    assert message.count(f"{B}:") == 10
    assert "1 x unreadable image" in message


def test_prepare__failure_leaves_the_earlier_dataset(prepare, root):
    before = contents(prepare().root)
    lines(B, "7 0.5 0.5 0.5 0.5")(root)
    with pytest.raises(PipelineError):
        prepare()
    assert contents(root.parent / "dataset") == before
    assert sorted(path.name for path in root.parent.iterdir()) == ["dataset", "mine"]


def test_prepare__failure_while_writing_leaves_nothing(prepare, root, monkeypatch):
    monkeypatch.setattr("pipeline.data.prepare.upright_bytes", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare()
    assert [path.name for path in root.parent.iterdir()] == ["mine"]


def test_prepare__replaces_only_prepared_datasets_outside_the_source(prepare, root, make_params):
    with pytest.raises(PipelineError, match="overlap"):
        prepare_dataset(make_params(source="yolo", path=str(root)), root / "out")
    (root.parent / "dataset").mkdir()
    (root.parent / "dataset/thesis.tex").write_text("years of work")
    with pytest.raises(PipelineError, match="is no prepared dataset"):
        prepare()
    assert (root.parent / "dataset/thesis.tex").exists()


def test_prepare__explains_a_wrong_path(prepare, root):
    with pytest.raises(PipelineError, match=r"nowhere is no folder: prepare\.path should name"):
        prepare(path=str(root / "nowhere"))


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data/bccd").is_dir(), reason="needs ../shared")
def test_bccd__counts_and_the_two_empty_boxes(tmp_path, make_params, capsys):
    params = make_params(source="voc", path=str(SHARED / "data/bccd"), annotations="annotations_voc")
    info = prepare_dataset(params, tmp_path / "out")
    assert [(part.images, part.boxes) for part in info.splits.values()] == [(205, 2804), (87, 1137), (72, 945)]
    assert info.classes == ["Platelets", "RBC", "WBC"]
    printed = capsys.readouterr().err
    assert "2 x box of zero or negative area" in printed
    assert "annotations_voc/train/BloodImage_00343.xml:50: RBC" in printed
    assert "annotations_voc/val/BloodImage_00338.xml:158: RBC" in printed


# Folders that cannot be read


@pytest.mark.parametrize(
    ("source", "annotations", "folder"),
    [
        ("yolo", None, "images/train"),
        ("voc", "voc", "voc/val"),
        ("coco", None, "annotations/val"),
    ],
)
def test_prepare__a_folder_that_cannot_be_read_is_no_empty_one(prepare, root, monkeypatch, source, annotations, folder):
    if source == "coco":
        (root / folder).mkdir()
        (root / "annotations/instances_val2017.json").rename(root / folder / "instances.json")
    usual = Path.iterdir

    def iterdir(path: Path):  # root may read all: permissions would not stop it
        if path == root / folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(PipelineError, match=f"{folder} cannot be read: Permission denied"):
        prepare(source=source, annotations=annotations, val_fraction=0.3)


def test_prepare__many_boxes_written_twice_are_found(prepare, root):
    rows = [f"0 0.5 {0.2 + number / 1000} 0.1 0.1" for number in range(300)]
    (root / "labels/train/b.txt").write_text("\n".join([*rows, *rows, ""]))
    dataset = prepare()
    assert dataset.info.splits["train"].boxes == 300 + 3
    found = json.loads((dataset.root / "defects.json").read_text())
    assert [defect["kind"] for defect in found].count("duplicate_box") == 300
