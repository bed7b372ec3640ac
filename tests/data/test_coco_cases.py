"""COCO files as tools and people really write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data import coco
from pipeline.data.coco_masks import segmentation_box
from pipeline.data.prepare import prepare_dataset
from pipeline.data.source import RawDataset
from pipeline.errors import PipelineError

TRAIN, VAL = (f"annotations/instances_{split}2017.json" for split in ("train", "val"))
CAT, DOG = 3, 7  # the category ids of the fixture
Json = dict[str, Any]


def edit(file: Path, change: Callable[[Json], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content, indent=1))


def boxes(raw: RawDataset) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {item.image.stem: [(raw.classes[box.class_id], box.xyxy) for box in item.boxes] for item in raw.items}


def kinds(raw: RawDataset) -> list[str]:
    return [defect.kind for defect in raw.defects]


@pytest.fixture
def intact(root) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Return the boxes of the fixture as it is."""
    return boxes(coco.read(root, None))


# Ids


@pytest.mark.parametrize("write", [str, float], ids=["text", "float"])
@pytest.mark.parametrize("key", ["image_id", "category_id", "images", "categories", "all"])
def test_coco__ids_may_be_text_or_float(root, intact, write, key):
    def change(content: Json) -> None:
        for annotation in content["annotations"]:
            for name in ("image_id", "category_id"):
                if key in (name, "all"):
                    annotation[name] = write(annotation[name])
        for name in ("images", "categories"):
            for one in content[name] if key in (name, "all") else []:
                one["id"] = write(one["id"])

    edit(root / TRAIN, change)
    raw = coco.read(root, None)
    assert boxes(raw) == intact
    assert raw.defects == ()


def test_coco__ids_may_be_huge_negative_or_names(root, intact):
    def change(content: Json) -> None:
        new = {0: 2**63 + 1, 1: -5, 2: "c.png", 3: "007"}
        for image in content["images"]:
            image["id"] = new[image["id"]]
        for annotation in content["annotations"]:
            annotation["image_id"] = new[annotation["image_id"]]

    edit(root / TRAIN, change)
    raw = coco.read(root, None)
    assert boxes(raw) == intact
    assert raw.defects == ()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"category_id": "seven"}, "annotation 2: category_id 'seven', but categories has"),
        ({"category_id": "4"}, "annotation 2: category_id '4', but categories has"),
        ({"category_id": True}, "annotation 2: expected a whole number as category_id, got True"),
        ({"category_id": 1.5}, "annotation 2: expected a whole number as category_id, got 1.5"),
        ({"image_id": "one"}, "annotation 2: no image has its image_id 'one'"),
        ({"image_id": [1]}, "annotation 2: no image has its image_id [1]"),
        ({"image_id": "9" * 5000}, "annotation 2: no image has its image_id '999"),
    ],
)
def test_coco__an_unknown_id_is_shown_as_it_is_written(root, broken, message):
    edit(root / TRAIN, lambda content: content["annotations"][2].update(broken))
    (defect,) = coco.read(root, None).defects
    assert defect.message.startswith(message)
    assert len(defect.message) < 200


def test_coco__a_file_of_one_line_is_told_apart_by_annotation(root, make_params, capsys):
    content = json.loads((root / TRAIN).read_text())
    content["annotations"][1]["bbox"] = [60, 0, 10, 10]
    (root / TRAIN).write_text(json.dumps(content) + "\n")
    prepare_dataset(make_params(source="coco", path=str(root)), root.parent / "out")
    assert f"{root / TRAIN}: annotation 1: dog: xyxy 60 0 70 10 in 64 x 32 pixels of a.png" in capsys.readouterr().err


def test_coco__one_id_for_two_images_is_fatal(root):
    edit(root / TRAIN, lambda content: content["images"][1].update(id=0))
    defect = coco.read(root, None).defects[0]
    assert (defect.kind, defect.message) == (
        "broken_file",
        "images a.png and b.png both have id 0: whose are its annotations?",
    )


# Classes


def test_coco__classes_are_matched_by_name_where_files_number_them_differently(root, intact):
    def swap(content: Json) -> None:
        content["categories"] = [{"id": CAT, "name": "dog"}, {"id": DOG, "name": "cat"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = CAT + DOG - annotation["category_id"]

    edit(root / VAL, swap)
    raw = coco.read(root, None)
    assert (raw.classes, boxes(raw)) == (("cat", "dog"), intact)
    assert kinds(raw) == ["renumbered"] * 2  # val differs from train, and test from val
    assert raw.defects[0].message == f"category 3 is 'dog', in {TRAIN} 'cat'"


def test_coco__a_file_may_number_only_the_classes_it_has(root, intact):
    def only_cat(content: Json) -> None:
        content["categories"] = [{"id": DOG, "name": "cat"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = DOG

    edit(root / VAL, only_cat)  # val's one box is a cat
    assert boxes(coco.read(root, None)) == intact


def test_coco__a_new_id_for_a_known_name_is_no_new_class(root, intact):
    def renumber(content: Json) -> None:
        content["categories"] = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = {CAT: 0, DOG: 1}[annotation["category_id"]]

    edit(root / VAL, renumber)
    raw = coco.read(root, None)
    assert (raw.classes, boxes(raw)) == (("cat", "dog"), intact)


@pytest.mark.parametrize("name", [None, "", " ", "\ud800"])
def test_coco__a_class_needs_a_name(root, name):
    edit(root / TRAIN, lambda content: content["categories"][0].update(name=name))
    with pytest.raises(PipelineError, match="expected a category with a whole id and a name"):
        coco.read(root, None)


def test_coco__one_file_cannot_have_a_name_twice(root):
    edit(root / TRAIN, lambda content: content["categories"].append({"id": 9, "name": "dog "}))
    with pytest.raises(PipelineError, match="classes named more than once: dog"):
        coco.read(root, None)


# Crowds


def test_coco__crowds_are_skipped_or_taken(root, make_params, intact, capsys):
    edit(root / TRAIN, lambda content: [one.update(iscrowd=1) for one in content["annotations"][1:]])
    params = {"source": "coco", "path": str(root)}
    info = prepare_dataset(make_params(**params), root.parent / "out")
    assert info.splits["train"].boxes == 1
    printed = capsys.readouterr().err
    assert "3 x crowd region" in printed
    assert "CVAT marks brush masks so: `prepare.coco.keep_crowds: true`" in printed
    info = prepare_dataset(make_params(**params, coco={"keep_crowds": True}), root.parent / "out")
    assert info.splits["train"].boxes == 4
    assert boxes(coco.read(root, None, keep_crowds=True)) == intact


@pytest.mark.parametrize("no", [0, 0.0, "0", None, False, ""])
def test_coco__iscrowd_of_no_is_no_crowd(root, intact, no):
    edit(root / TRAIN, lambda content: content["annotations"][0].update(iscrowd=no))
    assert boxes(coco.read(root, None)) == intact


# Boxes


@pytest.mark.parametrize("bbox", [None, [], "absent"])
@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 3, 20, 3, 20, 9, 2, 9]],
        [[2, 3, 5, 3, 5, 9], [18, 4, 20, 4, 19, 8]],
        {"size": [32, 64], "counts": [67, *[6, 26] * 17, 6, 64 * 32 - 67 - 18 * 6 - 17 * 26]},
    ],
    ids=["polygon", "polygons", "runs"],
)
def test_coco__a_missing_bbox_is_taken_from_the_segmentation(root, bbox, segmentation):
    def change(content: Json) -> None:
        annotation = content["annotations"][0]
        annotation |= {"bbox": bbox, "segmentation": segmentation}
        if bbox == "absent":
            del annotation["bbox"]

    edit(root / TRAIN, change)
    raw = coco.read(root, None)
    assert boxes(raw)["a"][0] == ("cat", (2, 3, 20, 9))
    assert raw.defects == ()


def test_segmentation_box__of_run_lengths_bounds_the_pixels_that_pycocotools_sets():
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 40, 2)
        pixels = rng.random((height, width)) < rng.choice([0.01, 0.3, 0.99])
        if not pixels.any():
            continue
        rows, columns = np.nonzero(pixels)
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        text = masks.encode(np.asfortranarray(pixels, np.uint8))
        assert segmentation_box({"size": text["size"], "counts": text["counts"].decode()}) == expected
        flat = np.concatenate([[0], pixels.T.ravel().astype(int), [0]])
        edges = np.flatnonzero(np.diff(flat))
        counts = np.diff([0, *edges.tolist(), pixels.size])
        assert segmentation_box({"size": [height, width], "counts": counts.tolist()}) == expected


@pytest.mark.parametrize(
    "segmentation",
    [
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [1, 2, 3],
        "polygon",
        [["a"] * 6],
        {"counts": [1, 2]},
        {"size": [4, 4]},
        {"size": [0, 4], "counts": [1, 2]},
        {"size": [4, 4], "counts": [16]},
        {"size": [4, 4], "counts": "!"},
        {"size": [4, 4], "counts": "oooo"},
        {"size": [4, 4], "counts": [1, 10**30]},
        {"size": [4, 4, 4], "counts": [1, 2]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": [32, 64], "counts": [600, -300, 400, 20, 50]},
        {"size": [32, 64], "counts": [100.5, 20, 50]},
        {"size": [32, 64], "counts": [0, 10**15]},
        {"size": [32, 64], "counts": [2000, 49]},
        {"size": [32, 64], "counts": "00q"},
        {"size": [32, 64], "counts": "o" * 10**6 + "0"},
    ],
)
def test_coco__reports_a_segmentation_that_cannot_be_read(root, segmentation):
    edit(root / TRAIN, lambda content: content["annotations"][0].update(bbox=None, segmentation=segmentation))
    (defect,) = coco.read(root, None).defects
    assert defect.kind == "malformed"
    assert defect.message.startswith("annotation 0: expected image_id, category_id and a bbox of 4 numbers")


@pytest.mark.parametrize("bbox", [None, "1234", {"x": 1, "y": 2, "w": 3, "h": 4}, [1, 2, 3, None], [1, 2, 3, 10**400]])
def test_coco__reports_a_bbox_that_cannot_be_read(root, bbox):
    edit(root / TRAIN, lambda content: content["annotations"][0].update(bbox=bbox))
    (defect,) = coco.read(root, None).defects
    assert defect.kind == "malformed"


# Images


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("images/train/city", "city\\a.png"),
        ("images/train/city", "train\\city\\a.png"),
        ("images/train/city", "images\\train/city\\a.png"),
        ("images/train/city", ".\\city\\a.png"),
        ("images/train", "city\\a.png"),  # such a name is allowed on Linux
    ],
)
def test_coco__finds_an_image_by_a_path_of_windows(root, intact, folder, name):
    literal = "city\\a.png" if folder == "images/train" else "a.png"
    (root / folder).mkdir(exist_ok=True)
    (root / "images/train/a.png").rename(root / folder / literal)
    edit(root / TRAIN, lambda content: content["images"][0].update(file_name=name))
    raw = coco.read(root, None)
    assert raw.defects == ()
    assert list(boxes(raw).values()) == list(intact.values())


def test_coco__a_missing_image_names_the_folders_that_were_searched(root):
    edit(root / TRAIN, lambda content: content["images"][0].update(file_name="city\\x.png"))
    edit(root / TRAIN, lambda content: content["images"][1].update(file_name="y" * 300))
    first, second = coco.read(root, None).defects
    assert first.message == "city\\x.png is in none of the folders ., images, images/train, annotations"
    assert (first.kind, second.kind) == ("missing_image", "missing_image")


def test_coco__finds_the_images_of_lvis_by_the_end_of_their_url(root, intact):
    def as_lvis(content: Json) -> None:
        for image in content["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/train/{image.pop('file_name')}"

    edit(root / TRAIN, as_lvis)
    edit(root / VAL, as_lvis)  # LVIS' val has images of COCO's train
    (root / "images/val/e.png").rename(root / "images/train/e.png")
    raw = coco.read(root, None)
    assert raw.defects == ()
    assert boxes(raw) == intact
    assert [item.split for item in raw.items if item.image.stem == "e"] == ["val"]


@pytest.mark.parametrize("broken", [{}, {"file_name": None}, {"file_name": ""}, {"coco_url": "a.png"}, {"coco_url": 1}])
def test_coco__an_image_without_a_file_is_reported(root, broken):
    edit(root / TRAIN, lambda content: content["images"].append({"id": 50, **broken}))
    (defect,) = coco.read(root, None).defects
    assert (defect.kind, defect.message[:44]) == ("malformed", "expected an image with id and file_name, got")


@pytest.mark.parametrize("name", ["a.png", "./a.png", "train/a.png", "images\\train\\a.png"])
def test_coco__an_image_listed_twice_has_the_boxes_of_both(root, intact, name):
    def twice(content: Json) -> None:
        content["images"].append({"id": 99, "file_name": name})
        content["annotations"][1]["image_id"] = 99

    edit(root / TRAIN, twice)
    raw = coco.read(root, None)
    assert boxes(raw) == intact
    assert [(defect.kind, defect.message) for defect in raw.defects] == [
        ("listed_twice", "image 99: images/train/a.png")
    ]


@pytest.mark.parametrize("size", [(640.0, 480), ("640", "480"), ("640.0", "480.0"), (64.5, 32), (-64, 32), ("64", 33)])
def test_coco__a_declared_size_is_checked_however_it_is_written(root, make_params, size):
    edit(root / TRAIN, lambda content: content["images"][0].update(width=size[0], height=size[1]))
    said = " x ".join(f"{float(side):g}" for side in size)
    with pytest.raises(PipelineError, match=f"says {said}, but images/train/a.png is 64 x 32"):
        prepare_dataset(make_params(source="coco", path=str(root)), root.parent / "out")


@pytest.mark.parametrize("size", [(64.0, "32"), (0, 0), (None, None), ("", ""), ("wide", 32)])
def test_coco__a_size_that_is_right_or_says_nothing_is_taken(root, make_params, size):
    edit(root / TRAIN, lambda content: content["images"][0].update(width=size[0], height=size[1]))
    assert prepare_dataset(make_params(source="coco", path=str(root)), root.parent / "out").splits["train"].images == 4


# Files


def test_coco__files_of_other_kinds_and_hidden_ones_do_not_hide_the_instances(root, intact):
    folder = root / "annotations"
    for split in ("train", "val", "test"):
        (folder / f"instances_{split}2017.json").rename(folder / f"{split}.json")
        for kind in ("captions", "panoptic", "stuff", "person_keypoints", "image_info"):
            (folder / f"{kind}_{split}2017.json").write_text("{}")
        (folder / f"._{split}.json").write_bytes(b"\0\5\x16\7")
        (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
        (folder / ".ipynb_checkpoints" / f"{split}-checkpoint.json").write_text("{}")
    assert boxes(coco.read(root, None)) == intact


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"segments_info": [], "file_name": "a.png"}, "holds panoptic annotations, not instances"),
        ({"caption": "a cat"}, "holds other annotations, not instances: none has a bbox or a segmentation"),
    ],
)
def test_coco__a_file_of_another_kind_is_named(root, annotation, message):
    edit(root / TRAIN, lambda content: content.update(annotations=[{"id": 1, "image_id": 0, **annotation}] * 3))
    (defect,) = coco.read(root, None).defects
    assert (defect.kind, defect.file) == ("broken_file", TRAIN)
    assert defect.message.startswith(message)


@pytest.mark.parametrize("text", ["[" * 100_000, f'{{"images": {"[" * 100_000}', '{"images": [' + "9" * 5000 + "]}"])
def test_coco__hostile_json_is_a_broken_file(root, text):
    (root / TRAIN).write_text(text)
    assert "broken_file" in kinds(coco.read(root, None))


def test_coco__a_split_whose_file_has_no_image_is_not_cut_out_of_train(root, make_params):
    edit(root / VAL, lambda content: content.update(images=[], annotations=[]))
    with pytest.raises(PipelineError, match="val has no image: remove the file to cut val out of train"):
        prepare_dataset(make_params(source="coco", path=str(root), val_fraction=0.25), root.parent / "out")


def test_coco__utf16_is_read_and_another_encoding_is_named(root, intact):
    text = (root / TRAIN).read_text().replace("dog", "狗")
    for split in ("train", "val", "test"):
        file = root / f"annotations/instances_{split}2017.json"
        file.write_text(file.read_text().replace("dog", "狗"), encoding="utf-16")
    assert coco.read(root, None).classes == ("cat", "狗")
    (root / TRAIN).write_bytes(text.encode("gbk"))
    with pytest.raises(PipelineError, match=r"instances_train2017.json:\d+: expected utf-8 text"):
        coco.read(root, None)


# Files


@pytest.mark.parametrize("more", ["{}", "]]", '{"annotations": []}', "\n\nx", "\0"])
def test_coco__a_file_that_goes_on_behind_its_object_is_refused(root, more):
    file = root / TRAIN
    file.write_text(file.read_text() + more)
    defect = coco.read(root, None).defects[0]
    assert defect.kind == "broken_file"
    assert "the file goes on behind the end of its object" in defect.message


@pytest.mark.parametrize("key", ["images", "annotations", "categories", "licenses"])
@pytest.mark.parametrize("value", [{"1": {"id": 1}}, "none", 3, True])
def test_coco__a_key_that_is_no_list_is_refused(root, key, value):
    edit(root / TRAIN, lambda content: content.update({key: value}))
    defect = coco.read(root, None).defects[0]
    assert defect.kind == "broken_file"
    assert f"expected a list as '{key}'" in defect.message


def test_coco__null_is_an_empty_list(root, intact):
    edit(root / TRAIN, lambda content: content.update(licenses=None, info=None))
    assert boxes(coco.read(root, None)) == intact


def test_coco__train_without_images_is_not_cut_out_of_train(root):
    edit(root / TRAIN, lambda content: content.update(images=[], annotations=[]))
    assert "train has no image" in [defect.message for defect in coco.read(root, None).defects]


def test_coco__says_what_an_annotation_has_instead(root):
    for change, message in [
        ({"bbox": [1, 2, 3]}, ", got [1, 2, 3]"),
        ({"bbox": None}, ", got None"),
        ({"bbox": {"x": 1}}, ", got {'x': 1}"),
        ({"bbox": [], "segmentation": "abc"}, " or a segmentation, got the segmentation 'abc'"),
    ]:
        edit(root / TRAIN, lambda content, change=change: content["annotations"][0].update(change))
        (defect,) = coco.read(root, None).defects
        assert message in defect.message
    for value in (None, "x", [1]):
        edit(root / TRAIN, lambda content, value=value: content["annotations"].__setitem__(0, value))
        assert f", got {value!r}" in coco.read(root, None).defects[0].message
    edit(root / TRAIN, lambda content: content["annotations"].__setitem__(0, {"id": 0, "bbox": [1, 2, 3, 4]}))
    assert ", got no image_id and no category_id" in coco.read(root, None).defects[0].message


def test_coco__class_names_may_be_numbers(root):
    edit(root / TRAIN, lambda content: content["categories"].append({"id": 9, "name": 0}))
    assert coco.read(root, None).classes == ("cat", "dog", "0")


@pytest.mark.parametrize("name", [["x"], {}, None, "", " "])
def test_coco__a_class_name_that_is_no_text_is_refused(root, name):
    edit(root / TRAIN, lambda content: content["categories"].append({"id": 9, "name": name}))
    with pytest.raises(PipelineError, match="expected a category with a whole id and a name"):
        coco.read(root, None)


def test_coco__a_licence_that_is_no_plain_text_is_written_as_escapes(root, make_params):
    edit(root / TRAIN, lambda content: content.update(licenses=[{"name": "\ud800\x1b[2JMIT"}]))
    info = prepare_dataset(make_params(source="coco", path=str(root)), root.parent / "out")
    assert info.licence == r"\ud800\x1b[2JMIT"


def test_coco__names_the_files_where_none_is_train(root):
    (root / TRAIN).rename(root / "annotations/instances_trainval2017.json")
    with pytest.raises(PipelineError, match=r"expected a JSON file named like train, found .*instances_trainval2017"):
        coco.read(root, None)
