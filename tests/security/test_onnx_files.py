"""What an ONNX file says of itself, and the files that it points to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import build
from pipeline.backends import Metadata, load, read_metadata
from pipeline.bundle.write import write_bundle
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.export.onnx import export_onnx
from pipeline.predict import Predictor
from tests.tiny import export_params_of, save

NAN = float("nan")
GOOD: dict[str, Any] = {
    "task": "detect", "classes": ["cat", "dog"], "image_size_px": 64, "strides": [8, 16], "end2end": False,
    "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def export(mini_dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    model = build("micro-n.yaml", "detect", mini_dataset.info.classes, seed=0)
    export_onnx(save(folder / "toy", model), folder / "export/fp32.onnx", export_params_of())
    return folder / "export"


def changed(export: Path, folder: Path, **values: str) -> Path:
    """Copy an export, with other texts in its metadata."""
    model = onnx.load(export / "fp32.onnx")
    for entry in model.metadata_props:
        entry.value = values.get(entry.key, entry.value)
    (folder / "export").mkdir()
    onnx.save(model, folder / "export/fp32.onnx")
    return folder / "export"


def read(**values: Any) -> Metadata:
    return read_metadata(Path("a.onnx"), {key: json.dumps(value) for key, value in {**GOOD, **values}.items()})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "classify"), ("task", None), ("task", ["detect"]),
        *(("classes", value) for value in ([], None, "cat", ["cat", "cat"], [1], [""], ["  "], {"0": "cat"},
                                           ["a"] * 20_000, ["a\nb"], ["a\rb"], ["a\x1b[31mb"], ["a\u2028b"],
                                           ["a\x00"], ["c" * 300])),
        *(("image_size_px", value) for value in ("128", NAN, -3, 0, 33, 64.0, 64.5, True, None, 10**9, float("inf"))),
        *(("strides", value) for value in ([], [0], [-8], ["8"], [8.5], 8, None, [NAN])),
        ("end2end", 1), ("end2end", "false"), ("end2end", None),
        *(("precision", value) for value in ("fp64", "", None, "fp32\n", "../fp32")),
    ],
)  # fmt: skip
def test_read_metadata__a_wrong_value_is_one_message_that_names_it(key: str, value: Any) -> None:
    with pytest.raises(PipelineError, match=rf"^a\.onnx: its metadata has a wrong {key}.*`dvc repro export`$") as error:
        read(**{key: value})
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("text", ["", "{", "nan", "detect", "[" * 100_000, "__import__('os')", '["\\ud800"]'])
def test_read_metadata__what_is_no_json_is_one_message(text: str) -> None:
    properties = {**{key: json.dumps(value) for key, value in GOOD.items()}, "image_size_px": text}
    with pytest.raises(PipelineError, match=r"^a\.onnx: its metadata has a wrong image_size_px"):
        read_metadata(Path("a.onnx"), properties)


@pytest.mark.parametrize("names", [["person"], ["a|b", "<b>", "$(id)"], ["Straße", "街道", "می‌خواهم"]])
def test_read_metadata__takes_any_name_of_one_line(names: list[str]) -> None:
    assert read(classes=names).classes == names


def test_load__names_the_file_whose_metadata_is_wrong(export: Path, tmp_path: Path) -> None:
    file = changed(export, tmp_path, image_size_px='"64"') / "fp32.onnx"
    for runtime in ("onnxruntime", "openvino"):
        if runtime == "openvino":
            pytest.importorskip("openvino")
        with pytest.raises(PipelineError, match=r"fp32\.onnx: its metadata has a wrong image_size_px: .*, got '64'"):
            load(file, threads=1, runtime=runtime)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", '"x; touch pwn"'), ("name", '"$(touch pwn)"'), ("name", '"`touch pwn`"'), ("name", '"a\\ntouch pwn"'),
        ("name", '"../../evil"'), ("name", f'"{"n" * 300}"'), ("name", '"-rf"'), ("name", "touch"), ("name", "7"),
        ("checkpoint_digest", '"; touch pwn"'), ("checkpoint_digest", '""'), ("licence", '"a\\nb"'),
        ("classes", '["a\\nb", "circle"]'),
    ],
)  # fmt: skip
def test_bundle__metadata_that_a_shell_or_a_list_could_misread_is_refused(
    export: Path, mini_dataset: PreparedDataset, tmp_path: Path, key: str, value: str
) -> None:
    hostile = changed(export, tmp_path, **{key: value})
    with pytest.raises(PipelineError, match=rf"its metadata has a wrong {key}"):
        write_bundle(tmp_path / "a.zip", export=hostile, results=tmp_path, dataset=mini_dataset)
    assert not (tmp_path / "a.zip").exists()


def test_bundle__the_scripts_variables_are_text_even_if_a_name_is_a_command(
    export: Path, mini_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = f"1'; touch {tmp_path}/pwn; '\"$(touch {tmp_path}/pwn)\""
    monkeypatch.setattr("pipeline.bundle.write._commit", lambda: commit)
    from pipeline.bundle.unpack import unpack

    write_bundle(tmp_path / "a.zip", export=export, results=tmp_path, dataset=mini_dataset)
    unpack(tmp_path / "a.zip", tmp_path / "a")
    command = ["sh", "-c", '. ./bundle.env; printf %s "$COMMIT"']
    done = subprocess.run(command, cwd=tmp_path / "a", capture_output=True, text=True, check=True)
    assert done.stdout == commit
    assert not (tmp_path / "pwn").exists()


@pytest.mark.parametrize("kind", ["absolute", "parent", "link"])
def test_load__weights_outside_of_the_folder_are_not_read(export: Path, tmp_path: Path, kind: str) -> None:
    model = onnx.load(export / "fp32.onnx")
    tensor = next(entry for entry in model.graph.initializer if len(entry.raw_data) > 64)
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.frombuffer(tensor.raw_data, np.uint8).tobytes())
    (tmp_path / "in").mkdir()
    location = {"absolute": str(secret), "parent": "../secret.bin", "link": "weights.bin"}[kind]
    if kind == "link":
        (tmp_path / "in/weights.bin").symlink_to(secret)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "in/fp32.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(PipelineError, match=r"fp32\.onnx"):
        load(tmp_path / "in/fp32.onnx", threads=1)


def answering(path: Path, answer: Any, inputs: int = 1, sides: tuple[int, ...] = (1, 3, 64, 64), **values: Any) -> Path:
    """Write a model of right metadata, which gives one answer whatever it is asked."""
    images = [onnx.helper.make_tensor_value_info(f"images{i}", onnx.TensorProto.FLOAT, sides) for i in range(inputs)]
    constant = onnx.numpy_helper.from_array(np.asarray(answer), "constant")
    output = onnx.helper.make_tensor_value_info("output0", constant.data_type, constant.dims)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["constant"], ["output0"])], "graph", images, [output], [constant]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    for key, value in {**GOOD, **values}.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, path)
    return path


def column(box: float = 30.0, score: float = 0.9) -> Any:
    return np.array([[[box]] * 4 + [[score]] + [[0.0]]], np.float32)


def row(label: float) -> Any:
    return np.array([[[1, 1, 20, 20, 0.9, label]]], np.float32)


def class_map(label: int, size: int = 64, kind: Any = np.uint8) -> Any:
    return np.full((1, size, size), label, kind)


IMAGE = np.zeros((40, 80, 3), np.uint8)
END2END, SEGMENT = {"end2end": True}, {"task": "segment"}


@pytest.mark.parametrize(
    ("answer", "values", "message"),
    [
        (column(box=NAN), {}, "4 of the output's 6 values are NaN or infinite"),
        (column(score=np.inf), {}, "1 of the output's 6 values are NaN or infinite"),
        (np.ones((1, 5, 4), np.float32), {}, r"expected floats of shape \(1, 6, any\), got float32 of shape"),
        (np.ones((1, 9, 4), np.float32), {}, "expected floats of shape"),
        (np.ones((2, 6, 4), np.float32), {}, "expected floats of shape"),
        (np.ones((1, 6, 4), np.int64), {}, "expected floats of shape"),
        (np.ones((1, 6, 4), bool), {}, "expected numbers"),
        (np.float32(3), {}, "expected floats of shape"),
        (row(7), END2END, "expected class ids from 0 to 1, got 7 to 7"),
        (row(-1), END2END, "expected class ids from 0 to 1"),
        (row(NAN), END2END, "NaN or infinite"),
        (np.ones((1, 3, 5), np.float32), END2END, "expected floats of shape"),
        (class_map(2), SEGMENT, "expected class ids from 0 to 1, got 2"),
        (class_map(1, kind=np.int64), SEGMENT, "expected uint8 class ids of shape"),
        (class_map(1, size=8), SEGMENT, "expected uint8 class ids of shape"),
        (np.zeros((64, 64), np.uint8), SEGMENT, "expected uint8 class ids of shape"),
    ],
)
def test_predictor__an_answer_that_the_metadata_does_not_allow_is_one_message(
    tmp_path: Path, answer: Any, values: dict[str, Any], message: str
) -> None:
    predictor = Predictor(answering(tmp_path / "a.onnx", answer, **values), threads=1)
    with pytest.raises(PipelineError, match=f"the model's answer is not what its metadata says: .*{message}"):
        predictor(IMAGE)


def test_predictor__allowed_answers_are_drawn(tmp_path: Path) -> None:
    many = [f"class {number}" for number in range(300)]
    for number, (answer, values) in enumerate(
        [(column(), {}), (row(1), END2END), (class_map(1), SEGMENT), (class_map(200), {**SEGMENT, "classes": many})]
    ):
        predictor = Predictor(answering(tmp_path / f"{number}.onnx", answer, **values), threads=1)
        found = predictor(IMAGE)
        assert len(found)
        assert predictor.drawn(IMAGE, found).shape == IMAGE.shape


@pytest.mark.parametrize(("inputs", "sides"), [(0, ()), (2, (1, 3, 64, 64)), (1, ()), (1, (1, 3))])
def test_load__a_model_of_other_inputs_is_one_message(tmp_path: Path, inputs: int, sides: tuple[int, ...]) -> None:
    path = answering(tmp_path / "a.onnx", column(), inputs, sides)
    with pytest.raises(PipelineError, match=r"a\.onnx: expected one input, images of shape"):
        load(path, threads=1)


def test_load__a_pipe_or_a_folder_is_one_message(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(PipelineError, match=rf"{name}\.onnx: expected an ONNX file, found no regular file there"):
            load(tmp_path / f"{name}.onnx", threads=1)
