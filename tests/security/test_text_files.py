"""YAML and JSON from anywhere: params.yaml, a dataset's data.yaml, dataset.json and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import open_dataset
from pipeline.data.yolo import read
from pipeline.digest import file_digest
from pipeline.errors import PipelineError
from pipeline.params_file import load_params
from pipeline.records import Latency, read_record
from pipeline.stage import input_digest
from pipeline.training.prompts import load_prompts
from tests.security.conftest import Mark

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text()
TAGS = [
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:os.system ['touch {mark}']",
    "!!python/name:os.system ''",
    "!!python/module:os ''",
    "!!binary aGk=",
    "!own {{a: 1}}",
    "!!set {{a, b}}",
]


def bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def merges(levels: int = 60) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n}\n  <<: *a{n - 1}\n  k{n}: *a{n - 1}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


HOSTILE = [
    (bomb() + TEXT, r"params\.yaml:\d+: more than 100000 values, aliases written out"),
    (merges() + TEXT, r"params\.yaml:\d+: more than 100000 values, aliases written out"),
    ("a: &a [*a]\n" + TEXT, r"params\.yaml:1: more than 100000 values"),
    ("a: &a {b: *a}\n" + TEXT, r"params\.yaml:1: more than 100000 values"),
    ("a: *b\n" + TEXT, r"params\.yaml:1: is not valid YAML: found undefined alias 'b'"),
    ("a: " + "[" * 100_000, r"params\.yaml:1: nested deeper than 50 levels"),
    ("".join(" " * level + "a:\n" for level in range(400)), r"params\.yaml:51: nested deeper than 50 levels"),
    ("x, " * 3 + "\n" + TEXT, r"params\.yaml:\d+: is not valid YAML"),
    (TEXT + "\nmachine: {}\n", r'params\.yaml:\d+: is not valid YAML: found duplicate key "machine"$'),
    (TEXT.replace("  seed: 0\n", "  seed: 0\n  seed: 1\n", 1), r'is not valid YAML: found duplicate key "seed"$'),
    (TEXT + "\n---\na: 1\n", r"is not valid YAML: .*another document"),
    (TEXT.replace("epochs: 8", "epochs: " + "9" * 5000, 1), r"is not valid YAML: .*5000 digits"),
    (TEXT + "\0", r"is not valid YAML"),
    (b"# caf\xe9\n" + TEXT.encode(), r"params\.yaml:1: expected utf-8 text, got byte 0xe9"),
    (b"\x80\x04N.", r"expected utf-8 text"),
    ("", r"valid dictionary"),
    *((TEXT.replace("device: auto", f"device: {tag}"), r"params\.yaml:4: expected plain YAML, got the tag !")
      for tag in TAGS),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_load_params__a_hostile_file_is_one_message(
    content: str | bytes, message: str, mark: Mark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = content if isinstance(content, bytes) else content.replace("{mark}", str(mark.file)).encode()
    (tmp_path / "params.yaml").write_bytes(text)
    with pytest.raises(PipelineError, match=message) as error:
        load_params(tmp_path / "params.yaml")
    assert len(str(error.value)) < 1000
    assert not mark.is_left
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: a, params: [machine]}}\n")
    monkeypatch.chdir(tmp_path)
    if text:  # an empty one has no section, which a stage says as well
        with pytest.raises(PipelineError):
            input_digest("a", None)


def numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the places of all floats."""
    if isinstance(value, dict):
        return [place for key, item in value.items() for place in numbers(item, (*path, key))]
    return [path] if isinstance(value, float) else []


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e999"])
def test_load_params__no_number_may_be_infinite_or_nan(number: str, tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    places = numbers(yaml.load(TEXT))
    assert len(places) > 40
    params = yaml.load(TEXT)
    for place in places:
        section = params
        for key in place[:-1]:
            section = section[key]
        section[place[-1]] = float(number.replace(".inf", "inf").replace(".nan", "nan"))
    yaml.dump(params, tmp_path / "params.yaml")
    with pytest.raises(PipelineError) as error:
        load_params(tmp_path / "params.yaml")
    for place in places:
        assert ".".join(map(str, place)) in str(error.value)


def test_load_params__anchors_of_a_person_are_fine(tmp_path: Path) -> None:
    text = TEXT.replace("augment: { fliplr: 0.5, flipud: 0.5 }", "augment: &flips { fliplr: 0.5, flipud: 0.5 }", 1)
    text = text.replace("augment: { fliplr: 0.5, flipud: 0.5 }", "augment: *flips")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml") == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("tag", TAGS)
def test_yolo__a_tag_in_a_dataset_is_refused(tag: str, mark: Mark, tmp_path: Path) -> None:
    text = f"train: images\nnames: {tag}\n".replace("{mark}", str(mark.file))
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"data\.yaml:2: expected plain YAML, got the tag !"):
        read(tmp_path, None)
    assert not mark.is_left


@pytest.mark.parametrize("text", [bomb() + "names: *a11\n", "names: &a [*a]\n", "names: " + "[" * 100_000])
def test_yolo__names_without_end_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"data\.yaml:\d+: (more than|nested)"):
        read(tmp_path, None)


@pytest.mark.parametrize(
    "download", ["exec('import os')", "touch {mark}", "bash touch {mark}", "http://127.0.0.1:9/a.zip"]
)
def test_yolo__download_is_never_run(download: str, mark: Mark, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((32, 32, 3), np.uint8))
    script = download.replace("{mark}", str(mark.file))
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: [cat]\ndownload: |\n  {script}\n")
    assert len(read(tmp_path, None).items) == 1
    assert not mark.is_left
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.yaml", "images", "mark"]


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"[" * 100_000, b'{"a": NaN}', b"\xff\xfe\x00", b"caf\xe9"])
@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("record.json", lambda folder: read_record(folder / "record.json", Latency)),
        ("dataset.json", open_dataset),
        ("model.json", load_info),
    ],
)
def test_json__whatever_is_no_such_file_is_one_message(
    content: bytes, name: str, reader: Callable[[Path], object], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=rf"{tmp_path}/{name}"):
        reader(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../evil"}, {"name": "n" * 300}, {"image_size_px": "64"}, {"image_size_px": -64}, {"strides": []},
        {"strides": [0]}, {"classes": []}, {"classes": ["a\nb"]}, {"classes": ["a", "a"]}, {"digest": "../x"},
        {"architecture": "yolo26n.yaml"}, {"task": "classify"}, {"more": 1},
        {"params_m": float("nan")}, {"best_epoch": -1}, {"made_by": "a\x1b[31m"},
    ],
)  # fmt: skip
def test_load_info__a_wrong_value_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    good = {
        "name": "toy", "role": "teacher", "task": "detect", "classes": ["a"], "image_size_px": 64, "strides": [8],
        "end2end": False, "params_m": 0.1, "best_epoch": 1, "made_by": "test", "digest": "0" * 16,
        "architecture": {"yaml_file": "micro-n.yaml"},
    }  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(good))
    assert load_info(tmp_path).name == "toy"
    (tmp_path / "model.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(PipelineError, match=r"model\.json is not of this version"):
        load_info(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"levels": "3"}', "[" * 100_000])
def test_load_prompts__a_damaged_description_is_one_message(content: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.safetensors").write_bytes(b"")
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(PipelineError, match=r"prompts\.json is not a PromptsInfo record"):
        load_prompts(tmp_path)


def test_load_prompts__a_pickle_in_place_of_the_weights_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "prompts.safetensors").write_bytes(b"\x80\x04N.")
    about = {
        "levels": 3, "prompts": 2, "wavelet": "haar", "teacher": "t", "task_loss_plain": 1.0, "task_loss_prompted": 1.0,
        "overlap": 0.1, "digest": file_digest(tmp_path / "prompts.safetensors"),
    }  # fmt: skip
    (tmp_path / "prompts.json").write_text(json.dumps(about))
    with pytest.raises(PipelineError, match=r"prompts\.safetensors cannot be read"):
        load_prompts(tmp_path)
