"""What check-data and prepare say of any source: counts, copies between splits, files that get in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.data.images import ImageFacts, inspect_image
from pipeline.data.prepare import check_data, prepare_dataset
from pipeline.data.prepared import SPLITS, open_dataset
from pipeline.data.similar import look_at
from pipeline.errors import PipelineError
from pipeline.params import Prepare

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"


@pytest.fixture
def run(root, make_params, capsys):
    """Return a function that prepares the tiny dataset, as YOLO unless told otherwise; it returns it and its output."""

    def prepare(**changes):
        params = make_params(**{"source": "yolo", "path": str(root), **changes})
        prepare_dataset(params, root.parent / "dataset")
        return open_dataset(root.parent / "dataset"), capsys.readouterr().err

    return prepare


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def rows(printed: str) -> list[list[str]]:
    """Return the cells of the printed tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]


def photo(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """Return smooth colours, as those of a photo."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), width / 18)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


# Counts


@pytest.mark.parametrize(("source", "annotations"), [("yolo", None), ("coco", None), ("voc", "voc")])
def test_counts__boxes_and_images_by_class_and_split(run, source, annotations):
    dataset, printed = run(source=source, annotations=annotations)
    train, val, test = (dataset.info.splits[split] for split in SPLITS)
    assert (train.class_boxes, train.class_images) == ([2, 2], [2, 2])
    assert (val.class_boxes, val.class_images) == ([1, 0], [1, 0])
    assert (test.class_boxes, test.class_images) == ([0, 2], [0, 1])
    assert rows(printed) == [
        ["train", "4", "4"],
        ["val", "1", "1"],
        ["test", "1", "2"],
        ["cat", "2 (2)", "1 (1)", "0 (0)"],
        ["dog", "2 (2)", "0 (0)", "2 (1)"],
    ]


def test_counts__pixels_and_images_by_class_and_split(tmp_path, make_params, capsys):
    for split in SPLITS:
        for folder in ("images", "masks"):
            (tmp_path / "mine" / folder / split).mkdir(parents=True)
        for number in range(2):
            mask = np.zeros((20, 20), np.uint8)
            if split == "train" and number:
                mask[:5] = 1
            cv2.imwrite(str(tmp_path / "mine/masks" / split / f"{number}.png"), mask)
            pixels = np.random.default_rng([number, *split.encode()]).integers(0, 255, (20, 20, 3), np.uint8)
            cv2.imwrite(str(tmp_path / "mine/images" / split / f"{number}.png"), pixels)
    (tmp_path / "mine/classes.txt").write_text("road\ncar\nsky\n")
    info = prepare_dataset(make_params(source="masks", path=str(tmp_path / "mine")), tmp_path / "out")
    assert info.splits["train"].mask_pixels == [700, 100, 0]
    assert info.splits["train"].mask_images == [2, 1, 0]
    printed = capsys.readouterr().err
    assert ["car", "12.5 % (1)", "0 % (0)", "0 % (0)"] in rows(printed)


def test_counts__of_scenes_are_those_of_their_labels(tmp_path, make_params, capsys):
    info = prepare_dataset(make_params(), tmp_path / "out")
    written = rows(capsys.readouterr().err)
    for split in SPLITS:
        labels = [
            open_dataset(tmp_path / "out").boxes(image)[0] for image in open_dataset(tmp_path / "out").images(split)
        ]
        assert (
            info.splits[split].class_boxes == np.bincount(np.concatenate(labels), minlength=len(info.classes)).tolist()
        )
        assert sum(info.splits[split].mask_pixels) == 64 * 64 * info.splits[split].images
    check_data(make_params(), tmp_path / "dataset")
    assert rows(capsys.readouterr().err) == written


def test_counts__a_class_without_a_box_in_train_is_named(run, root):
    (root / "data.yaml").write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog, owl]\n")
    (root / "labels/val/e.txt").write_text("2 0.5 0.5 0.2 0.2\n")
    dataset, printed = run()
    assert "1 x class without a box in train" in printed
    assert "owl: 0 boxes in train, 1 in val, 0 in test" in printed
    assert [defect["kind"] for defect in json.loads((dataset.root / "defects.json").read_text())] == [
        "class_without_box"
    ]


@pytest.mark.parametrize("name", ["Cat", "CAT ", "\uff43\uff41\uff54", "cat_"])
def test_counts__names_that_differ_in_little_are_named(run, root, name):
    (root / "data.yaml").write_text(
        f"train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog, '{name}']\n"
    )
    assert f"'cat' and {name!r}" in run()[1]


def test_counts__names_that_differ_in_more_are_not(run, root):
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog, cats]\n"
    )
    assert "almost the same" not in run()[1]


@pytest.mark.parametrize(
    ("names", "said"), [("[cat]", "yolo, 1 class of boxes"), ("[a, b]", "yolo, 2 classes of boxes")]
)
def test_counts__one_class_is_a_class(run, root, names, said):
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\ntest: images/test\nnames: {names}\n")
    for file in (root / "labels").rglob("*.txt"):
        file.write_text("0 0.5 0.5 0.5 0.5\n")
    assert f"{said}, licence: unknown" in run()[1]


def test_counts__long_lists_of_classes_are_cut_and_names_cannot_steer_the_terminal(run, root):
    names = ["cat", "[red]dog[/red]", *(f"c{number}" for number in range(998))]
    (root / "data.yaml").write_text(
        f"train: images/train\nval: images/val\ntest: images/test\nnames: {json.dumps(names)}\n"
    )
    dataset, printed = run()
    assert "and 900 more classes: the prepare stage lists all in dataset/dataset.json" in printed
    assert any(row[0] == "[red]dog[/red]" for row in rows(printed))
    assert len(dataset.info.splits["train"].class_boxes) == 1000


def test_counts__splits_that_are_cut_out_of_train_are_named(run, root):
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    for number in range(8):
        cv2.imwrite(str(root / f"images/train/n{number}.png"), photo(number))
        (root / "labels/train" / f"n{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    printed = run(test_fraction=0.5, val_fraction=0.1)[1]
    assert "test: cut out of train (prepare.test_fraction), as the source has none" in printed
    assert "val: cut" not in printed


# check-data


@pytest.mark.parametrize("source", ["yolo", "coco", "scenes"])
def test_check_data__says_what_prepare_says_and_writes_nothing(
    root, make_params, tmp_path, monkeypatch, capsys, source
):
    (root / "annotations/instances_train2017.json").write_text(
        (root / "annotations/instances_train2017.json").read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1)
    )
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.chdir(root)
    before = tree(tmp_path)
    params = make_params(source=source, path=str(root))
    check_data(params, Path("../dataset"))
    said = capsys.readouterr().err
    assert tree(tmp_path) == before
    prepare_dataset(params, tmp_path / "dataset")
    assert capsys.readouterr().err == said.replace(f"{source}, ", f"dataset: {source}, ", 1)


def test_check_data__command_writes_nothing_and_stops_on_what_prepare_stops_on(root, monkeypatch, tmp_path):
    params = YAML().load(ROOT / "params.yaml")
    params["prepare"] |= {"source": "yolo", "path": "mine", "annotations": None}
    YAML().dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert CliRunner().invoke(app, ["check-data"]).exit_code == 0
    assert tree(tmp_path) == before
    (root / "labels/train/b.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    assert CliRunner().invoke(app, ["check-data"]).exit_code != 0


def test_check_data__finds_data_that_hold_the_place_of_the_dataset(root, make_params, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(PipelineError, match="overlap"):
        check_data(make_params(source="yolo", path="."), Path("dataset"))


# Copies between splits


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    Image.fromarray(pixels).save(path, **options)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "z.png"}, {"name": "z.png", "compress_level": 1}),
        ({"name": "z.png"}, {"name": "z.bmp"}),
        ({"name": "z.png"}, {"name": "z.jpg", "quality": 60}),
        ({"name": "z.jpg", "quality": 95}, {"name": "z.jpg", "quality": 50}),
        ({"name": "z.jpg", "quality": 90}, {"name": "z.webp", "quality": 70}),
        ({"name": "z.jpg", "quality": 90}, {"name": "z.png"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(160, 120), (640, 515)])
def test_similar__a_copy_in_another_format_is_reported_and_kept(run, root, first, second, size):
    pixels = photo(5, *size)
    save(root / "images/train" / first["name"], pixels, **{key: first[key] for key in first if key != "name"})
    save(root / "images/test" / second["name"], pixels, **{key: second[key] for key in second if key != "name"})
    dataset, printed = run()
    assert "1 x image that looks like one of another split" in printed
    assert f"images/test/{second['name']} in test looks like images/train/{first['name']} in train" in printed
    assert dataset.info.splits["test"].images == 2


def test_similar__a_smaller_copy_and_one_turned_by_exif_are_found(run, root):
    pixels = photo(6, 200, 120)
    save(root / "images/train/z.png", pixels)
    save(root / "images/val/small.png", cv2.resize(pixels, (100, 60), interpolation=cv2.INTER_AREA))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "images/test/turned.jpg", np.ascontiguousarray(np.rot90(pixels)), exif=exif, quality=90)
    printed = run()[1]
    assert "images/val/small.png in val looks like images/train/z.png in train" in printed
    assert "images/test/turned.jpg in test looks like images/train/z.png in train" in printed
    assert "images/test/turned.jpg in test looks like images/val/small.png in val" in printed


def test_similar__flat_and_other_images_are_not_reported(run, root):
    for seed, split in enumerate(SPLITS):
        rng = np.random.default_rng(seed)
        save(root / f"images/{split}/flat.png", rng.integers(200, 205, (60, 80, 3), np.uint8))
        ramp = (255 * np.linspace(0, 1, 80) ** (seed + 1)).astype(np.uint8)  # brighter to the right, in another curve
        save(root / f"images/{split}/ramp.png", np.tile(ramp[None, :, None], (60, 1, 3)))
        for number in range(20):
            save(root / f"images/{split}/{number}.png", photo(100 * seed + number))
            scene = np.full((60, 80, 3), 90, np.uint8)  # an object before one background, as in generated data
            x, y = rng.integers(0, 40, 2)
            scene[y : y + 15, x : x + 20] = (230, 40, 10 * number)
            save(root / f"images/{split}/scene{number}.png", scene)
    assert "looks like" not in run()[1]


def test_similar__many_are_counted_and_a_few_shown(run, root):
    for number in range(30):
        for split, quality in (("train", 95), ("test", 80)):
            save(root / f"images/{split}/frame{number}.jpg", photo(number), quality=quality)
    printed = run()[1]
    assert "30 x image that looks like one of another split" in printed
    assert printed.count(" looks like images/train/") == 10


def test_look_at__reads_large_jpegs_as_it_reads_others(tmp_path):
    pixels = cv2.resize(photo(3), (1203, 917))
    looks = []
    for name in ("a.png", "a.jpg"):
        save(tmp_path / name, pixels)
        facts = inspect_image(tmp_path / name)
        assert isinstance(facts, ImageFacts)
        looks.append(look_at((tmp_path / name, facts)))
    assert np.abs(looks[0].grey.astype(int) - looks[1].grey).max() <= 3


# Boxes that are fractions


def coco_boxes(root: Path, change) -> None:
    for split in SPLITS:
        file = root / f"annotations/instances_{split}2017.json"
        content = json.loads(file.read_text())
        for number, annotation in enumerate(content["annotations"]):
            annotation["bbox"] = change(split, number, annotation["bbox"])
        file.write_text(json.dumps(content, indent=1))


def divided(bbox: list[float]) -> list[float]:
    return [side / whole for side, whole in zip(bbox, (64, 32, 64, 32), strict=True)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda split, number, bbox: divided(bbox), "4 of 4 boxes of train"),
        (lambda split, number, bbox: divided(bbox) if number else bbox, "3 of 4 boxes of train"),
        (lambda split, number, bbox: divided(bbox) if split == "val" else bbox, "1 of 1 boxes of val"),
    ],
    ids=["all", "most", "one file"],
)
def test_fractions__boxes_divided_by_the_sides_stop(run, root, change, found):
    coco_boxes(root, change)
    with pytest.raises(PipelineError, match=f"{found} lie within the first pixel"):
        run(source="coco")


def test_fractions__a_few_tiny_boxes_do_not(run, root):
    coco_boxes(root, lambda split, number, bbox: [0, 0, 1, 1] if split == "train" and number < 2 else bbox)
    assert run(source="coco")[0].info.splits["train"].boxes == 4


# What lies where the dataset goes


def test_prepare__a_link_beside_the_dataset_is_not_followed(run, root):
    thesis = root.parent / "thesis"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("years of work")
    for name in (".dataset.partial", ".dataset.old"):
        (root.parent / name).symlink_to(thesis)
    run()
    run()
    assert tree(thesis) == {"thesis.tex": b"years of work"}


def test_prepare__a_link_in_the_place_of_the_dataset_is_replaced_and_its_target_left(run, root):
    elsewhere = root.parent / "elsewhere"
    run()
    (root.parent / "dataset").rename(elsewhere)
    (root.parent / "dataset").symlink_to(elsewhere)
    before = tree(elsewhere)
    run(image_size_px=96)
    assert tree(elsewhere) == before
    assert not (root.parent / "dataset").is_symlink()
    shutil.rmtree(elsewhere)
    (root.parent / "dataset").rename(elsewhere.with_name("moved"))
    (root.parent / "dataset").symlink_to(elsewhere)  # leads nowhere
    assert run()[0].info.splits["train"].images == 4


# The shared cases


EXPECTED = {
    "a11-voc-xml-in-subfolder": [3, 1, 1],
    "a15-classes-without-a-box": [3, 1, 1],
    "a19-two-label-sources-for-one-image": [3, 1, 1],
    "b01-voc-declared-gbk": [3, 1, 1],
    "c03-coco-lvis-no-file-name": [3, 1, 1],
    "c04-coco-string-ids": [3, 1, 1],
    "c06-coco-backslash": [3, 1, 1],
    "c20-check-data-writes-a-copy": [3, 1, 1],
}


def case_params(name: str, make_params, **changes) -> Prepare:
    keys = YAML(typ="safe").load((CASES / name / "keys.yaml").read_text())["prepare"]
    return make_params(**keys | {"path": str(CASES / name / "data")} | changes)


@pytest.mark.shared
@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize("name", EXPECTED)
def test_cases__every_box_is_read(name, make_params, tmp_path):
    info = prepare_dataset(case_params(name, make_params), tmp_path / "out")
    assert [info.splits[split].boxes for split in SPLITS] == EXPECTED[name]


@pytest.mark.shared
@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared")
def test_cases__what_cannot_be_used_says_why(make_params, tmp_path):
    with pytest.raises(PipelineError, match="3 of 3 boxes of train lie within the first pixel"):
        prepare_dataset(case_params("a13-coco-normalised-bbox", make_params), tmp_path / "out")
    crowds = "c02-coco-cvat-all-crowd"
    with pytest.raises(PipelineError, match="train has 3 images and no box"):
        prepare_dataset(case_params(crowds, make_params), tmp_path / "out")
    params = case_params(crowds, make_params, coco={"keep_crowds": True})
    info = prepare_dataset(params, tmp_path / "out")
    assert [info.splits[split].boxes for split in SPLITS] == [3, 1, 1]
