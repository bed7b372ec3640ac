"""Reading COCO instances."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import coco
from pipeline.data.json_lists import walk
from pipeline.errors import PipelineError

TRAIN = "annotations/instances_train2017.json"


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> list[str]:
    """Edit a JSON file; return its lines."""
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content, indent=1))
    return file.read_text().splitlines()


def test_coco__names_the_line_on_which_an_annotation_begins(root):
    lines = (root / TRAIN).read_text().splitlines()
    boxes = [box for item in coco.read(root, None).items for box in item.boxes if box.file == TRAIN]
    assert len(boxes) == 4
    for number, box in enumerate(boxes):
        assert lines[box.line - 1].strip() == "{"
        assert lines[box.line].strip() == f'"id": {number},'


@pytest.mark.parametrize("indent", [None, 2])
def test_coco__walk_agrees_with_json(indent):
    content = {"info": {"a": [1]}, "images": [], "annotations": [{"id": 1, "x": "},]"}, [2], "3"], "n": None, "m": [4]}
    found: dict[str, list[Any]] = {}
    for key, _, value in walk(f" \n{json.dumps(content, indent=indent)}\n"):
        found.setdefault(key, []).append(value)
    assert found == {"annotations": content["annotations"], "m": [4]}


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": [1', '{"a": [1 2]}', '{"a" 1}', '{"a": [1,]}', '{"a": nope}'])
def test_coco__reports_a_file_that_is_no_such_json(root, text):
    (root / TRAIN).write_text(text)
    defects = [defect for defect in coco.read(root, None).defects if defect.kind == "broken_file"]
    assert [(defect.file, defect.line) for defect in defects] == [(TRAIN, 1)]
    defects = coco.read(root, Path(TRAIN)).defects  # not hidden behind "no class found"
    assert [defect.kind for defect in defects] == ["broken_file"]


def test_coco__skips_and_reports_crowds(root):
    change(root / TRAIN, lambda content: content["annotations"][1].update(iscrowd=1))
    raw = coco.read(root, None)
    assert [defect.kind for defect in raw.defects] == ["crowd"]
    assert sum(len(item.boxes) for item in raw.items if item.split == "train") == 3


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ({"category_id": 4}, "unknown_class"),
        ({"category_id": [3]}, "malformed"),
        ({"image_id": 99}, "malformed"),
        ({"bbox": [1, 2, 3]}, "malformed"),
        ({"bbox": "1 2 3 4"}, "malformed"),
        ({"bbox": [1, 2, "three", 4]}, "malformed"),
    ],
)
def test_coco__reports_a_bad_annotation(root, broken, kind):
    lines = change(root / TRAIN, lambda content: content["annotations"][2].update(broken))
    (defect,) = coco.read(root, None).defects
    assert (defect.kind, defect.file) == (kind, TRAIN)
    assert lines[defect.line].strip() == '"id": 2,'


def test_coco__reports_images_that_are_missing_or_twice(root):
    change(root / TRAIN, lambda content: content["images"][0].update(file_name="gone.png"))
    change(root / TRAIN, lambda content: content["images"].append(content["images"][1]))
    change(root / TRAIN, lambda content: content["images"].append({"id": 50}))
    assert sorted(defect.kind for defect in coco.read(root, None).defects) == [
        "malformed",
        "malformed",
        "missing_image",
    ]


def test_coco__one_file_has_no_splits(root):
    assert [(item.image.parent.name, item.split) for item in coco.read(root, Path(TRAIN)).items] == [
        ("train", None)
    ] * 4
    change(
        root / TRAIN,
        lambda content: [item.update(file_name=f"train/{item['file_name']}") for item in content["images"]],
    )
    (root / TRAIN).rename(root / "all.json")
    one = coco.read(root, Path("all.json"))
    assert [item.split for item in one.items] == [None] * 4


def test_coco__prefers_instances_and_refuses_to_guess(root):
    (root / "annotations/captions_train2017.json").write_text("{}")
    assert len(coco.read(root, None).items) == 6
    (root / "annotations/instances_train2014.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"several files for train: .*2014.*2017"):
        coco.read(root, None)


def test_coco__understands_roboflows_folders(root):
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        (root / "images" / split).rename(root / folder)
        (root / f"annotations/instances_{split}2017.json").rename(root / folder / "_annotations.coco.json")
    (root / "annotations").rmdir()
    raw = coco.read(root, None)
    assert sorted((item.image.stem, item.split) for item in raw.items)[3:] == [
        ("d", "train"),
        ("e", "val"),
        ("f", "test"),
    ]


def test_coco__refuses_a_category_with_two_names(root):
    change(root / TRAIN, lambda content: content["categories"][0].update(name="wolf"))
    with pytest.raises(PipelineError, match=r"instances_val2017.json:\d+: category 7 is 'dog', elsewhere 'wolf'"):
        coco.read(root, None)


def test_coco__refuses_a_folder_without_json(root):
    with pytest.raises(PipelineError, match="found no JSON file"):
        coco.read(root, Path("images"))
    with pytest.raises(PipelineError, match="does not exist"):
        coco.read(root, Path("nowhere"))
