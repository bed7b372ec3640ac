"""Reading Ultralytics' layout, and its agreement with the other two."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data import coco, voc, yolo
from pipeline.data.source import RawDataset
from pipeline.errors import PipelineError


def without_places(raw: RawDataset) -> object:
    """Leave only what the three formats must agree on."""
    items = [(item.image, item.split, [(box.class_id, box.xyxy) for box in item.boxes]) for item in raw.items]
    return raw.classes, sorted(items), raw.defects


def test_readers__agree_on_the_same_data(root):
    first = without_places(yolo.read(root, None))
    assert first == without_places(coco.read(root, None))
    assert first == without_places(voc.read(root, Path("voc")))
    assert len(first[1]) == 6


def test_yolo__names_file_and_line_of_boxes_and_images(root):
    items = {item.image.stem: item for item in yolo.read(root, None).items}
    assert [(box.file, box.line) for box in items["a"].boxes] == [("labels/train/a.txt", 1), ("labels/train/a.txt", 2)]
    assert (items["e"].file, items["e"].line) == ("data.yaml", 2)


def test_yolo__polygon_counts_as_its_bounding_box(root):
    (root / "labels/train/b.txt").write_text("1 0.25 0.5 0.5 0.25 0.75 1.0 0.5 0.75\n")
    item = next(item for item in yolo.read(root, None).items if item.image.stem == "b")
    assert item.boxes[0].xyxy == (16, 8, 48, 32)


def test_yolo__takes_lists_of_folders_and_list_files(root):
    (root / "some.txt").write_text("./images/train/a.png\nimages/train/b.png\n\nimages/train/gone.png\n")
    names = "names: [cat, dog]\n"
    (root / "data.yaml").write_text(f"train: [some.txt, images/test]\nval: images/val\ntest:\n{names}")
    raw = yolo.read(root, None)
    assert [item.image.stem for item in raw.items if item.split == "train"] == ["a", "b", "f"]
    assert [(defect.kind, defect.file, defect.line) for defect in raw.defects] == [
        ("missing_image", "some.txt", 4),
        ("unlisted_images", "images/train", None),
    ]


@pytest.mark.parametrize("path", [".", "mine", "/elsewhere/long/ago/mine"])
def test_yolo__understands_the_path_key(root, path):
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(f"path: {path}\n{text}")
    assert len(yolo.read(root, None).items) == 6


def test_yolo__path_key_is_not_led_astray_by_another_folder(root, monkeypatch):
    (root.parent / "here/mine").mkdir(parents=True)
    monkeypatch.chdir(root.parent / "here")
    (root / "data.yaml").write_text(f"path: mine\n{(root / 'data.yaml').read_text()}")
    assert len(yolo.read(root, None).items) == 6


def test_yolo__understands_roboflows_paths_and_valid(root):
    (root / "data.yaml").write_text("train: ../images/train\nvalid: ../images/val\nnames: [cat, dog]\n")
    assert {item.split for item in yolo.read(root, None).items} == {"train", "val"}


def test_yolo__annotations_picks_the_yaml(root):
    (root / "data.yaml").rename(root / "one.yaml")
    assert len(yolo.read(root, None).items) == 6
    (root / "other.yaml").write_text("names: [cat, dog]\ntrain: images/train\n")
    with pytest.raises(PipelineError, match=r"one\.yaml, other\.yaml: set prepare\.annotations"):
        yolo.read(root, None)
    assert len(yolo.read(root, Path("other.yaml")).items) == 4


def test_yolo__refuses_what_dvc_would_not_watch(root):
    (root.parent / "outside").mkdir()
    (root / "images/val").rename(root.parent / "outside/val")
    (root / "data.yaml").write_text("train: images/train\nval: ../outside/val\nnames: [cat, dog]\n")
    with pytest.raises(PipelineError, match=r"outside/val lies outside"):
        yolo.read(root, None)
    (root / "images/val").symlink_to(root.parent / "outside/val")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    with pytest.raises(PipelineError, match="behind a symlinked folder"):
        yolo.read(root, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: images/train\n", "names: expected a list"),
        ("train: images/train\nnames: {0: cat, 2: dog}\n", "names: expected a list, or a mapping of 0, 1, 2"),
        ("train: images/train\nnames: [cat, cat]\n", "more than once: cat"),
        ("names: [cat]\ntrain: images/trian\n", r"data\.yaml:2: train: images/trian is not in"),
        ("names: [cat\n", "is not valid YAML"),
        ("just text\n", "expected keys such as train"),
        ("path: nowhere\nnames: [cat]\n", "path: nowhere is no folder"),
        (f"path: {'x' * 5000}\nnames: [cat]\n", "is no folder"),
        (f"train: {'x' * 5000}\nnames: [cat]\n", "is not in"),
        ("train: /\nnames: [cat]\n", "lies outside"),
        ("train: ../..\nnames: [cat]\n", "lies outside"),
    ],
)
def test_yolo__explains_an_unusable_yaml(root, content, message):
    (root / "data.yaml").write_text(content)
    with pytest.raises(PipelineError, match=message):
        yolo.read(root, None)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.1", "malformed"),
        ("0 0.5 0.5 0.1 0.1 0.9", "malformed"),
        ("0 0.5 0.5 0.1 0.1 0.9 0.9 0.9", "malformed"),
        ("cat 0.5 0.5 0.1 0.1", "malformed"),
        ("0.5 0.5 0.5 0.1 0.1", "malformed"),
        ("nan 0.5 0.5 0.1 0.1", "malformed"),
        ("2 0.5 0.5 0.1 0.1", "unknown_class"),
        ("-1 0.5 0.5 0.1 0.1", "unknown_class"),
    ],
)
def test_yolo__reports_a_bad_line(root, line, kind):
    (root / "labels/train/b.txt").write_text(f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    raw = yolo.read(root, None)
    assert [(defect.kind, defect.file, defect.line) for defect in raw.defects] == [(kind, "labels/train/b.txt", 3)]
    assert len(next(item for item in raw.items if item.image.stem == "b").boxes) == 1
