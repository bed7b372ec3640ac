"""Pascal VOC datasets as tools and people really write them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.data import voc
from pipeline.data.prepare import prepare_dataset
from pipeline.data.source import RawDataset
from pipeline.errors import PipelineError

A = "voc/train/a.xml"
VOC = Path("voc")


def boxes(raw: RawDataset) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {item.image.stem: [(raw.classes[box.class_id], box.xyxy) for box in item.boxes] for item in raw.items}


def splits(raw: RawDataset) -> dict[str, str | None]:
    return {item.image.stem: item.split for item in raw.items}


def change(root: Path, old: str, new: str, file: str = A) -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))


@pytest.fixture
def intact(root) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Return the boxes of the fixture as it is."""
    return boxes(voc.read(root, VOC))


def as_devkit(root: Path, year: str, **stems: str) -> None:
    """Move images and XML files of the fixture to a folder of VOCdevkit, with lists of their splits."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / year / folder).mkdir(parents=True, exist_ok=True)
    for split, names in stems.items():
        for stem in names:
            shutil.move(root / f"voc/{split}/{stem}.xml", root / year / "Annotations")
            shutil.move(root / f"images/{split}/{stem}.png", root / year / "JPEGImages")
        (root / year / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in names))


def only_devkits(root: Path) -> None:
    for folder in ("voc", "images", "annotations"):
        shutil.rmtree(root / folder)


# Folders


@pytest.mark.parametrize("deeper", ["sub", "sub/sub", "2024 日本"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_voc__reads_subfolders_of_a_split(root, intact, deeper, mirrored):
    (root / "voc/train" / deeper).mkdir(parents=True)
    (root / A).rename(root / "voc/train" / deeper / "a.xml")
    if mirrored:
        (root / "images/train" / deeper).mkdir(parents=True)
        (root / "images/train/a.png").rename(root / "images/train" / deeper / "a.png")
    raw = voc.read(root, VOC)
    assert boxes(raw) == intact
    assert splits(raw)["a"] == "train"
    assert raw.defects == ()


def test_voc__equal_stems_in_subfolders_have_their_own_images(root, intact):
    for folder, source in (("one", "a"), ("two", "b")):
        for kind in ("voc", "images"):
            (root / kind / "train" / folder).mkdir()
        (root / f"voc/train/{source}.xml").rename(root / f"voc/train/{folder}/0001.xml")
        (root / f"images/train/{source}.png").rename(root / f"images/train/{folder}/0001.png")
    raw = voc.read(root, VOC)
    assert raw.defects == ()
    found = {item.image.parent.name: len(item.boxes) for item in raw.items if item.image.stem == "0001"}
    assert found == {"one": len(intact["a"]), "two": len(intact["b"])}


def test_voc__subfolders_of_a_flat_folder_are_read_too(root, intact):
    shutil.move(root / "voc", root / "Annotations")
    for split in ("train", "val", "test"):
        (root / "Annotations" / split).rename(root / "Annotations" / f"camera_{split}")
        (root / "images" / split).rename(root / "images" / f"camera_{split}")
    shutil.rmtree(root / "annotations")
    raw = voc.read(root, None)
    assert boxes(raw) == intact
    assert set(splits(raw).values()) == {None}


def test_voc__two_files_of_one_image_must_agree(root):
    (root / "voc/train/backup").mkdir()
    shutil.copy(root / A, root / "voc/train/backup/a.xml")
    raw = voc.read(root, VOC)
    assert raw.defects == ()
    assert len(raw.items) == 6
    change(root, "<xmin>0</xmin>", "<xmin>1</xmin>")
    (defect,) = voc.read(root, VOC).defects
    assert (defect.kind, defect.message) == (
        "second_annotation",
        "says other boxes of images/train/a.png than voc/train/a.xml",
    )


def test_voc__split_folders_may_be_in_capitals(root, intact):
    for kind in ("voc", "images"):
        for split in ("train", "val", "test"):
            (root / kind / split).rename(root / kind / split.upper())
    raw = voc.read(root, VOC)
    assert boxes(raw) == intact
    assert splits(raw)["e"] == "val"
    assert raw.defects == ()


def test_voc__files_beside_the_split_folders_are_reported(root):
    (root / A).rename(root / "voc/a.xml")
    (root / "voc/extra").mkdir()
    (root / "voc/train/b.xml").rename(root / "voc/extra/b.xml")
    found = [(defect.kind, defect.file) for defect in voc.read(root, VOC).defects]
    assert found == [("unlisted", "voc/a.xml"), ("unlisted", "voc/extra/b.xml")]


def test_voc__an_empty_split_folder_is_not_cut_out_of_train(root, make_params):
    shutil.rmtree(root / "voc/val")
    (root / "voc/val").mkdir()
    params = make_params(source="voc", path=str(root), annotations="voc", val_fraction=0.25)
    with pytest.raises(PipelineError, match="voc/val: no annotation file: remove it to cut val out of train"):
        prepare_dataset(params, root.parent / "out")
    (root / "voc/val").rmdir()
    assert [item.split for item in voc.read(root, VOC).items if item.split != "train"] == ["test"]


# VOCdevkit and lists


@pytest.mark.parametrize("above", ["", "VOCdevkit/"])
def test_voc__several_years_of_a_devkit_are_one_dataset(root, intact, above):
    as_devkit(root, f"{above}VOC2007", train="ab", test="f")
    as_devkit(root, f"{above}VOC2012", train="cd", val="e")
    only_devkits(root)
    raw = voc.read(root, None)
    assert raw.defects == ()
    assert boxes(raw) == intact
    assert splits(raw) == {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "test"}
    assert len(voc.read(root, Path(f"{above}VOC2007")).items) == 3
    assert len(voc.read(root, Path(f"{above}VOC2012/Annotations")).items) == 3


def test_voc__a_devkit_for_each_split(root, intact):
    for split, names in (("train", "abcd"), ("valid", "e"), ("test", "f")):
        as_devkit(root, split, **{"val" if split == "valid" else split: names})
        shutil.rmtree(root / split / "ImageSets")
    only_devkits(root)
    raw = voc.read(root, None)
    assert boxes(raw) == intact
    assert splits(raw) == {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "test"}


def test_voc__split_folders_in_the_root_come_before_a_devkit_in_it(root, intact):
    shutil.copytree(root / "voc/train", root / "old/Annotations")
    for split in ("train", "val", "test"):
        (root / "voc" / split).rename(root / split)
    shutil.rmtree(root / "annotations")
    assert boxes(voc.read(root, None)) == intact


def test_voc__trainval_is_train_where_there_is_neither(root):
    as_devkit(root, ".", train="abcd", val="e", test="f")
    for folder in ("voc", "annotations"):
        shutil.rmtree(root / folder)
    lists = root / "ImageSets/Main"
    (lists / "trainval.txt").write_text("a\nb\nc\nd\ne\n")
    assert splits(voc.read(root, None))["e"] == "val"
    (lists / "val.txt").unlink()
    (lists / "train.txt").unlink()
    assert splits(voc.read(root, None)) == dict.fromkeys("abcde", "train") | {"f": "test"}


@pytest.mark.parametrize(("folder", "reported"), [("Segmentation", 3), ("", 0)])
def test_voc__lists_of_another_task_are_used_and_reported(root, folder, reported):
    as_devkit(root, ".", train="abcd", val="e", test="f")
    for name in ("voc", "annotations"):
        shutil.rmtree(root / name)
    (root / "ImageSets" / folder).mkdir(exist_ok=True)
    for file in sorted((root / "ImageSets/Main").iterdir()):
        file.rename(root / "ImageSets" / folder / file.name.capitalize())
    raw = voc.read(root, None)
    assert [defect.kind for defect in raw.defects] == ["other_list"] * reported
    assert splits(raw) == {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "test"}


@pytest.mark.parametrize("line", ["a", "a.png", "a 1", "a  -1", "JPEGImages/a.png", "sub\\a", " a \r", "a.PNG"])
def test_voc__a_list_names_images_in_many_ways(root, line):
    as_devkit(root, ".", train="abcd", val="e", test="f")
    for name in ("voc", "annotations"):
        shutil.rmtree(root / name)
    (root / "ImageSets/Main/train.txt").write_text(f"{line}\nb\n", newline="")
    raw = voc.read(root, None)
    assert raw.defects == ()
    assert [item.image.stem for item in raw.items if item.split == "train"] == ["a", "b"]


def test_voc__an_empty_list_is_not_cut_out_of_train(root):
    as_devkit(root, ".", train="abcd", val="", test="f")
    for name in ("voc", "annotations"):
        shutil.rmtree(root / name)
    found = [(defect.kind, defect.file) for defect in voc.read(root, None).defects]
    assert found == [("empty_split", "ImageSets/Main/val.txt")]


# Encodings


NAMES = {
    "GB2312": "缺陷",
    "gbk": "镕",
    "GB18030": "㐀",
    "Big5": "瑕疵",
    "Shift_JIS": "欠陥①",
    "EUC-KR": "결함똠",
    "EUC-JP": "欠陥",
    "windows-1251": "дефект",
    "ISO-8859-1": "défaut",
    "utf-8": "缺陷",
}
WIDER = {"GB2312": "gbk", "Shift_JIS": "cp932", "EUC-KR": "cp949"}


def encoded(root: Path, name: str, declared: str | None, encoding: str) -> None:
    """Rename the cat of a.xml and write the file in an encoding."""
    text = (root / A).read_text().replace("<name>cat</name>", f"<name>{name}</name>")
    declaration = "" if declared is None else f'<?xml version="1.0" encoding="{declared}"?>\n'
    (root / A).write_bytes(f"{declaration}{text}".encode(encoding))


@pytest.mark.parametrize(("declared", "name"), NAMES.items())
def test_voc__is_decoded_as_it_declares(root, intact, declared, name):
    encoded(root, name, declared, WIDER.get(declared, declared))
    raw = voc.read(root, VOC)
    assert raw.defects == ()
    assert boxes(raw)["a"] == [(name, intact["a"][0][1]), intact["a"][1]]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        (None, "utf-8"),
        (None, "utf-8-sig"),
        ("GB2312", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("unicode", "utf-16"),
        ("unicode", "utf-16-le"),
        ("utf-16", "utf-16-be"),
        ("utf-16", "utf-8"),
        ("unicode", "utf-8"),
        ("ansi", "utf-8"),
        ("hex", "utf-8"),
        ("undefined", "utf-8"),
    ],
)
def test_voc__a_mark_and_the_first_bytes_say_more_than_a_name_of_no_encoding(root, declared, encoding):
    encoded(root, "缺陷", declared, encoding)
    raw = voc.read(root, VOC)
    assert raw.defects == ()
    assert "缺陷" in raw.classes


@pytest.mark.parametrize(
    ("declared", "encoding", "message"),
    [
        ("ansi", "gbk", "declares encoding 'ansi', but is not utf-8"),
        ("EUC-KR", "big5", "declares encoding 'EUC-KR', but is not cp949"),
        (None, "gbk", "declares no encoding, and is not utf-8"),
        ("utf-8", "big5", "declares encoding 'utf-8', but is not utf-8"),
        ("utf-7", "gbk", "declares encoding 'utf-7', but is not utf-7"),
    ],
)
def test_voc__a_false_encoding_is_reported_with_its_line(root, declared, encoding, message):
    encoded(root, "缺陷", declared, encoding)
    lines = (root / A).read_bytes().split(b"\n")
    (defect,) = voc.read(root, VOC).defects
    assert (defect.kind, defect.file) == ("broken_file", A)
    assert defect.message == f"{message}: declare the true encoding, or save it as UTF-8"
    assert defect.line is None or not lines[defect.line - 1].isascii()


# Files


def test_voc__hidden_files_are_not_annotations(root, intact):
    (root / "voc/train/._a.xml").write_bytes(b"\0\5\x16\7 Mac OS X")
    (root / "voc/__MACOSX").mkdir()
    (root / "voc/__MACOSX/._b.xml").write_bytes(b"\0\5\x16\7 Mac OS X")
    (root / "images/train/._a.png").write_bytes(b"\0\5\x16\7 Mac OS X")
    raw = voc.read(root, VOC)
    assert raw.defects == ()
    assert boxes(raw) == intact


def test_voc__one_bad_file_is_named_with_its_line_and_the_others_are_read(root):
    change(root, "</annotation>", "")
    raw = voc.read(root, VOC)
    (defect,) = raw.defects
    assert (defect.kind, defect.file) == ("broken_file", A)
    assert defect.line
    assert len(raw.items) == 5


@pytest.mark.parametrize("content", ["", "  ", "<annotation>", "\0", "<?xml", '<?xml version="1.0" encoding="x"?>'])
def test_voc__an_empty_or_cut_off_file_is_broken(root, content):
    (root / A).write_text(content)
    assert [defect.kind for defect in voc.read(root, VOC).defects] == ["broken_file"]


@pytest.mark.parametrize(
    "entities",
    [
        '<!ENTITY x SYSTEM "../../secret.txt">',
        '<!ENTITY x "cat">',
        "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 12)) + '<!ENTITY x "&l11;">',
    ],
    ids=["outside", "inside", "nested"],
)
def test_voc__entities_are_refused_before_they_are_read(root, entities):
    (root / "secret.txt").write_text("wolf")
    text = (root / A).read_text().replace("<name>cat</name>", "<name>&x;</name>")
    (root / A).write_text(f"<!DOCTYPE annotation [{entities}]>\n{text}")
    (defect,) = voc.read(root, VOC).defects
    assert (defect.kind, defect.line) == ("broken_file", 1)
    assert defect.message.startswith("declares an entity")


@pytest.mark.parametrize("ending", [".XML", ".png.xml"])
def test_voc__endings_vary(root, intact, ending):
    (root / A).rename(root / "voc/train" / f"a{ending}")
    raw = voc.read(root, VOC)
    assert boxes(raw) == intact
    assert raw.defects == ()


@pytest.mark.parametrize(
    "filename", ["x.png", "train\\x.png", "C:\\data\\train\\x.png", "/home/me/train/x.png", "images/train/x.png"]
)
def test_voc__finds_an_image_of_another_stem_by_its_filename(root, filename):
    (root / "images/train/a.png").rename(root / "images/train/x.png")
    change(root, "a.png", filename)
    raw = voc.read(root, VOC)
    assert raw.defects == ()
    assert raw.items[0].image == root / "images/train/x.png"


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [("64.0", "48.0", "64 x 48"), ("640.0", "32", "640 x 32"), ("-64", "32", "-64 x 32"), ("64.5", "32", "64.5 x 32")],
)
def test_voc__a_declared_size_is_checked_however_it_is_written(root, make_params, width, height, said):
    change(
        root,
        "<width>64</width><height>32</height>",
        f"<width>{width}</width><height> {height} </height>",
    )
    params = make_params(source="voc", path=str(root), annotations="voc")
    with pytest.raises(PipelineError, match=f"says {said}, but images/train/a.png is 64 x 32"):
        prepare_dataset(params, root.parent / "out")


@pytest.mark.parametrize("size", ["<width>64.0</width><height>32.0</height>", "<width>0</width><height>0</height>", ""])
def test_voc__a_size_that_is_right_or_says_nothing_is_taken(root, make_params, size):
    change(root, "<width>64</width><height>32</height>", size)
    params = make_params(source="voc", path=str(root), annotations="voc")
    assert prepare_dataset(params, root.parent / "out").splits["train"].images == 4


def test_voc__boxes_divided_by_the_image_sides_are_refused(root, make_params):
    for xml in (root / "voc").rglob("*.xml"):
        text = xml.read_text()
        for tag, side in (("xmin", 64), ("ymin", 32), ("xmax", 64), ("ymax", 32)):
            for value in range(65):
                text = text.replace(f"<{tag}>{value}</{tag}>", f"<{tag}>{value / side:.4f}</{tag}>")
        xml.write_text(text)
    cv2.imwrite(str(root / "images/train/z.png"), np.full((32, 64, 3), 9, np.uint8))
    with pytest.raises(
        PipelineError, match=r"3 x box within one pixel.*\n.*4 of 4 boxes of train lie within the first"
    ):
        prepare_dataset(make_params(source="voc", path=str(root), annotations="voc"), root.parent / "out")


# Objects


@pytest.mark.parametrize(
    ("start", "end"),
    [("<objects><object>", "</object></objects>"), ("<Object>", "</Object>"), ("<OBJECT>", "</OBJECT>")],
)
def test_voc__objects_that_are_written_otherwise_are_reported(root, intact, start, end):
    change(root, "<object>", start)
    change(root, "</object>", end)
    raw = voc.read(root, VOC)
    assert boxes(raw) == intact | {"a": []}
    assert [defect.kind for defect in raw.defects] == ["malformed"] * len(intact["a"])
    assert "expected <object> directly in <annotation>" in raw.defects[0].message


def test_voc__an_object_with_two_boxes_is_reported(root, intact):
    again = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>\n</object>"
    change(root, "</object>", again)
    raw = voc.read(root, VOC)
    assert boxes(raw) == intact | {"a": []}
    assert raw.defects[0].message == "cat: expected one <bndbox>, got 2: write an object for each"


@pytest.mark.parametrize("doctype", ["", '<!DOCTYPE annotation SYSTEM "voc.dtd">\n'])
def test_voc__an_unknown_entity_never_shortens_a_name(root, doctype):
    text = (root / A).read_text().replace("<name>cat<", "<name>caf&eacute;<")
    (root / A).write_text(doctype + text)
    raw = voc.read(root, VOC)
    assert raw.classes == ("cat", "dog")
    assert [(defect.kind, defect.file) for defect in raw.defects] == [("broken_file", A)]
    assert "entity" in raw.defects[0].message


def test_voc__lists_may_have_any_line_ends(root, intact):
    as_devkit(root, ".", train=["a", "b", "c", "d"], val=["e"], test=["f"])
    for end in ("\r", "\r\n", "\n"):
        (root / "ImageSets/Main/train.txt").write_bytes(end.join("abcd").encode())
        assert boxes(voc.read(root, Path("Annotations"))) == intact


def test_voc__lists_that_cannot_be_read_are_not_left_out(root, monkeypatch):
    as_devkit(root, ".", train=["a", "b", "c", "d"], val=["e"], test=["f"])
    usual = Path.iterdir

    def iterdir(path: Path):  # root may read all: permissions would not stop it
        if path.name == "Main":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(PipelineError, match="ImageSets/Main cannot be read: Permission denied"):
        voc.read(root, Path("Annotations"))


def test_voc__a_list_of_train_and_val_beside_one_of_val_is_explained(root):
    as_devkit(root, ".", train=["a", "b", "c", "d"], val=["e"], test=["f"])
    (root / "ImageSets/Main/train.txt").rename(root / "ImageSets/Main/trainval.txt")
    defects = voc.read(root, Path("Annotations")).defects
    assert [(defect.kind, defect.file) for defect in defects] == [("empty_split", "ImageSets/Main/trainval.txt")]
    assert "write train.txt, or remove val.txt to cut val out of train" in defects[0].message
