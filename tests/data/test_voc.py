"""Reading Pascal VOC."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.data import voc
from pipeline.errors import PipelineError

A = "voc/train/a.xml"


def to_classic(root: Path) -> None:
    """Move the dataset into VOC's own layout."""
    (root / "Annotations").mkdir()
    (root / "JPEGImages").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    for split in ("train", "val", "test"):
        stems = [xml.stem for xml in sorted((root / "voc" / split).glob("*.xml"))]
        (root / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for stem in stems:
            (root / "voc" / split / f"{stem}.xml").rename(root / "Annotations" / f"{stem}.xml")
            (root / "images" / split / f"{stem}.png").rename(root / "JPEGImages" / f"{stem}.png")
    for folder in ("voc", "annotations", "images"):
        shutil.rmtree(root / folder)


def test_voc__classic_layout_equals_split_folders(root):
    def essence() -> list[object]:
        place = Path("voc") if (root / "voc").exists() else None
        return [
            (item.image.stem, item.split, [(b.class_id, b.xyxy) for b in item.boxes])
            for item in voc.read(root, place).items
        ]

    folders = essence()
    to_classic(root)
    assert essence() == folders
    assert len(folders) == 6


def test_voc__without_image_sets_there_are_no_splits(root):
    to_classic(root)
    shutil.rmtree(root / "ImageSets")
    assert [item.split for item in voc.read(root, None).items] == [None] * 6


def test_voc__reports_a_listed_image_without_xml(root):
    to_classic(root)
    (root / "Annotations/b.xml").unlink()
    defects = voc.read(root, None).defects
    assert [(defect.kind, defect.file, defect.line) for defect in defects] == [
        ("broken_file", "ImageSets/Main/train.txt", 2),
        ("unannotated", "JPEGImages/b.png", None),
    ]


def test_voc__names_the_line_of_each_object(root):
    lines = (root / A).read_text().splitlines()
    boxes = voc.read(root, Path("voc")).items[0].boxes
    assert [lines[box.line - 1] for box in boxes] == ["<object>", "<object>"]
    assert boxes[0].line < boxes[1].line


def test_voc__classes_file_sets_order_and_finds_unknown_names(root):
    (root / "classes.txt").write_text("dog\ncat\n")
    assert voc.read(root, Path("voc")).classes == ("dog", "cat")
    (root / "classes.txt").write_text("dog\n")
    defects = voc.read(root, Path("voc")).defects
    assert {defect.kind for defect in defects} == {"unknown_class"}
    assert len(defects) == 3


def test_voc__pairs_images_by_stem_before_filename(root):
    text = (root / A).read_text()
    (root / A).write_text(text.replace("a.png", "b.png"))
    assert voc.read(root, Path("voc")).items[0].image.name == "a.png"
    (root / "images/train/a.png").rename(root / "images/train/renamed.png")
    (root / A).write_text(text.replace("a.png", "renamed.png"))
    assert voc.read(root, Path("voc")).items[0].image.name == "renamed.png"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("<xmin>0</xmin>", "<xmin>left</xmin>", "malformed"),
        ("<xmin>0</xmin>", "", "malformed"),
        ("<name>cat</name>", "", "malformed"),
        ("bndbox>", "box>", "malformed"),
        ("<filename>a.png</filename>", "</x>", "broken_file"),
        ("annotation>", "html>", "broken_file"),
    ],
)
def test_voc__reports_a_bad_file_or_object(root, old, new, kind):
    text = (root / A).read_text()
    (root / A).write_text(text.replace(old, new))
    defect = voc.read(root, Path("voc")).defects[0]
    assert (defect.kind, defect.file) == (kind, A)
    assert defect.line == {"malformed": text[: text.index("<object>")].count("\n") + 1}.get(kind, defect.line)


def test_voc__reports_missing_and_unannotated_images(root):
    (root / "images/val/e.png").rename(root / "images/val/x.png")
    (root / "voc/train/b.xml").unlink()
    defects = voc.read(root, Path("voc")).defects
    assert [(defect.kind, defect.file, defect.line) for defect in defects] == [
        ("missing_image", "voc/val/e.xml", 2),
        ("unannotated", "images/train/b.png", None),
    ]


def test_voc__image_sets_may_leave_annotated_images_out(root):
    to_classic(root)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    raw = voc.read(root, None)
    assert [item.image.stem for item in raw.items if item.split == "train"] == ["a"]
    assert raw.defects == ()


def test_voc__refuses_a_folder_without_xml(root):
    with pytest.raises(PipelineError, match="expected XML files"):
        voc.read(root, Path("images/train"))
