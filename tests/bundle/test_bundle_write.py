"""A bundle is the same bytes for the same inputs, and says what it holds and what it does not know."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.bundle.files.check import differences
from pipeline.bundle.manifest import facts_of
from pipeline.bundle.samples import LIMITS
from pipeline.bundle.write import write_bundle
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.records import Latency, WarmUp, read_record, write_record
from tests.bundle.conftest import Shipped


def member(bundle: Path, name: str) -> str:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name).decode()


def with_precision(source: Path, target: Path, precision: str, **changes: str) -> None:
    model = onnx.load(source)
    for entry in model.metadata_props:
        if entry.key in {"precision", *changes}:
            entry.value = json.dumps({"precision": precision, **changes}[entry.key])
    onnx.save(model, target)


def with_weights(file: Path, change: Callable[[Any], Any]) -> None:
    """Change a model's convolution weights."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor)
        if weights.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(weights).astype(np.float32), tensor.name))
    onnx.save(model, file)


def test_bundle__equal_inputs_give_equal_bytes(shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path) -> None:
    export = Path(shutil.copytree(shipped.export, tmp_path / "export"))
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    write_bundle(tmp_path / "again.zip", export=export, results=results, dataset=mini_dataset)
    assert (tmp_path / "again.zip").read_bytes() == shipped.file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zip", "export", "results"]
    with zipfile.ZipFile(shipped.file) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())


def test_bundle__the_manifest_lists_every_file(shipped: Shipped) -> None:
    with zipfile.ZipFile(shipped.file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(contents.pop("manifest.json"))
    assert manifest["files"] == {name: facts_of(content).model_dump() for name, content in contents.items()}
    assert (manifest["student"], manifest["checkpoint_digest"], manifest["format"]) == ("toy", shipped.digest, 1)


def test_bundle__names_no_path_of_this_machine(shipped: Shipped) -> None:
    with zipfile.ZipFile(shipped.file) as archive:
        for name in archive.namelist():
            assert str(shipped.export.parent).encode() not in archive.read(name)
            assert str(Path(__file__).parents[2]).encode() not in archive.read(name)


def test_bundle__labels_and_preprocessing_can_be_read_without_the_pipeline(
    shipped: Shipped, mini_dataset: PreparedDataset
) -> None:
    classes = mini_dataset.task_classes(shipped.task)
    assert member(shipped.file, "labels.txt").splitlines() == classes
    assert json.loads(member(shipped.file, "labels.json")) == {str(index): name for index, name in enumerate(classes)}
    preprocessing = json.loads(member(shipped.file, "preprocessing.json"))
    assert preprocessing["input"] == {"name": "images", "shape": ["N", 3, 64, 64], "type": "float32"}
    assert preprocessing["preprocessing"]["padding"] == 114
    assert list(preprocessing["outputs"]) == {"detect": ["output0"], "segment": ["class_map", "logits"]}[shipped.task]


def test_model_card__has_the_records_numbers(shipped: Shipped) -> None:
    card = member(shipped.file, "MODEL_CARD.md")
    for text in (
        "| onnxruntime-fp32 | 0.499 |",
        "0.9991",
        "CC0-1.0",
        "AGPL-3.0",
        shipped.digest,
        "| 1.50 |",
        "fog, jpeg",
    ):
        assert text in card
    assert "Not measured" not in card
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_model_card__a_median_that_was_not_steady_is_marked(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    assert "| 1 | 1.50 |" in member(shipped.file, "MODEL_CARD.md")
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    path = results / "latency" / shipped.task / "toy.json"
    latency = read_record(path, Latency)
    latency.runtimes[0].warmup = WarmUp(seconds=5.0, stable=False)
    write_record(path, latency)
    write_bundle(tmp_path / "a.zip", export=shipped.export, results=results, dataset=mini_dataset)
    assert "| 1 | 1.50 (unstable) |" in member(tmp_path / "a.zip", "MODEL_CARD.md")


def test_model_card__says_what_is_not_measured(shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bare.zip", export=shipped.export, results=tmp_path / "none", dataset=mini_dataset)
    card = member(tmp_path / "bare.zip", "MODEL_CARD.md")
    for section in ("Accuracy", "Parity with the trained network", "Robustness", "Latency"):
        assert f"## {section}\n\nNot measured." in card


def test_model_card__leaves_out_another_checkpoints_records(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    record = results / shipped.task / "toy/export/parity-onnxruntime-fp32.json"
    record.write_text(record.read_text().replace(shipped.digest, "f" * 16))
    write_bundle(tmp_path / "a.zip", export=shipped.export, results=results, dataset=mini_dataset)
    assert "## Parity with the trained network\n\nNot measured." in member(tmp_path / "a.zip", "MODEL_CARD.md")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "measurements/parity-onnxruntime-fp32.json" not in archive.namelist()


HOSTILE = "a|b<script>alert(1)</script>[x](javascript:y)`\x1b[31m"


def test_model_card__names_and_devices_are_text_and_nothing_else(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    latency = results / "latency" / shipped.task / "toy.json"
    record = json.loads(latency.read_text())
    record["device"]["cpu"] = HOSTILE
    latency.write_text(json.dumps(record))
    export = Path(shutil.copytree(shipped.export, tmp_path / "export"))
    classes = [*mini_dataset.task_classes(shipped.task)[:-1], HOSTILE.replace("\x1b", "")]
    key = {"detect": "classes", "segment": "mask_classes"}[shipped.task]
    info = mini_dataset.info.model_copy(update={"licence": HOSTILE, key: classes})
    model = onnx.load(export / "fp32.onnx")
    next(entry for entry in model.metadata_props if entry.key == "classes").value = json.dumps(classes)
    onnx.save(model, export / "fp32.onnx")
    dataset = PreparedDataset(mini_dataset.root, info)
    write_bundle(tmp_path / "a.zip", export=export, results=results, dataset=dataset)
    card = member(tmp_path / "a.zip", "MODEL_CARD.md")
    assert card.count(r"a\|b&lt;script&gt;") == 3
    assert "<" not in card
    assert "\x1b" not in card
    assert not re.search(r"(?<!\\)\[|(?<!\\)\](?=\()", card)
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in card.splitlines() if line.startswith("| ")]
    plain = member(shipped.file, "MODEL_CARD.md")
    assert columns == [line.count("|") for line in plain.splitlines() if line.startswith("| ")], "no table is broken"
    assert member(tmp_path / "a.zip", "labels.txt").splitlines() == classes


def test_model_card__its_tables_are_whole(shipped: Shipped) -> None:
    blocks = [block.splitlines() for block in member(shipped.file, "MODEL_CARD.md").split("\n\n")]
    tables = [block for block in blocks if any(line.startswith("|") for line in block)]
    assert len(tables) == 6
    for table in tables:
        assert len(table) > 2
        assert len({line.count("|") for line in table}) == 1


def test_model_card__lists_latencies_of_batch_1_alone(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    timing = {
        "runtime": "tensorrt", "runtime_version": "10.3", "precision": "fp16", "batch_size": 64, "runs": 100,
        "mean_ms": 77.7, "p50_ms": 77.7, "p90_ms": 77.7, "p99_ms": 77.7, "compute_p50_ms": None,
    }  # fmt: skip
    device = json.loads((results / "latency" / shipped.task / "toy.json").read_text())["device"]
    record = {
        "format": 1, "task": shipped.task, "student": "toy", "checkpoint_digest": shipped.digest, "image_size_px": 64,
        "commit": "abc", "threads": 2, "device": device, "state": {},
        "timings": [timing, {**timing, "batch_size": 1, "p50_ms": 3.3}],
    }  # fmt: skip
    path = results / "devices" / device["fingerprint"] / f"{shipped.task}-toy.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    write_bundle(tmp_path / "a.zip", export=shipped.export, results=results, dataset=mini_dataset)
    card = member(tmp_path / "a.zip", "MODEL_CARD.md")
    assert "| 3.30 | 77.70 |" in card
    assert "| 77.70 | 77.70 | 77.70 |" not in card


@pytest.mark.parametrize("content", [b"null", b"{}x", b"caf\xe9", b'{"model": 3, "checkpoint_digest": "DIGEST"}'])
def test_bundle__a_record_that_is_none_is_one_message(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path, content: bytes
) -> None:
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    path = results / shipped.task / "toy/export/parity-onnxruntime-fp32.json"
    path.write_bytes(content.replace(b"DIGEST", shipped.digest.encode()))
    with pytest.raises(PipelineError, match=r"parity-onnxruntime-fp32\.json is (not|no)"):
        write_bundle(tmp_path / "a.zip", export=shipped.export, results=results, dataset=mini_dataset)


def test_bundle__out_that_is_a_folder_is_one_message(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    (tmp_path / "folder.zip").mkdir()
    for out in (tmp_path / "folder.zip", tmp_path / ("n" * 300 + ".zip")):
        with pytest.raises(PipelineError, match=r"is a folder: expected the name of a file|File name too long"):
            write_bundle(out, export=shipped.export, results=tmp_path, dataset=mini_dataset)
    assert not list((tmp_path / "folder.zip").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["folder.zip"]


def test_bundle__takes_every_precision_that_is_there(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    export = Path(shutil.copytree(shipped.export, tmp_path / "export"))
    for precision in ("fp16", "int8", "int8-tensorrt"):
        with_precision(export / "fp32.onnx", export / f"{precision}.onnx", precision)
    write_bundle(tmp_path / "a.zip", export=export, results=tmp_path, dataset=mini_dataset)
    tolerances = json.loads(member(tmp_path / "a.zip", "samples/tolerances.json"))
    assert list(tolerances) == ["fp32", "fp16", "int8", "int8-tensorrt"]
    first = {precision: next(iter(errors.values()))["limit"] for precision, errors in tolerances.items()}
    assert first["fp32"] < first["fp16"] < first["int8"] == first["int8-tensorrt"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {"models/fp32.onnx", "models/int8-tensorrt.onnx"} <= set(archive.namelist())


def test_bundle__what_a_precision_loses_here_it_may_lose_twice_on_a_device(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    export = Path(shutil.copytree(shipped.export, tmp_path / "export"))
    for name in ("int8", "int8-tensorrt"):
        with_precision(export / "fp32.onnx", export / f"{name}.onnx", name)
    with_weights(export / "int8.onnx", lambda weights: weights * 1.3)
    write_bundle(tmp_path / "a.zip", export=export, results=tmp_path, dataset=mini_dataset)
    tolerances = json.loads(member(tmp_path / "a.zip", "samples/tolerances.json"))
    assert tolerances["int8-tensorrt"] == tolerances["int8"], "ONNX Runtime cannot measure int8-tensorrt"
    for name, error in tolerances["int8"].items():
        assert error["measured"] > 0
        assert error["limit"] == max(2 * error["measured"], LIMITS["int8"][name])
    assert any(error["limit"] > LIMITS["int8"][name] for name, error in tolerances["int8"].items())


def test_bundle__refuses_a_model_that_answers_nan(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    export = Path(shutil.copytree(shipped.export, tmp_path / "export"))
    with_precision(export / "fp32.onnx", export / "fp16.onnx", "fp16")
    with_weights(export / "fp16.onnx", lambda weights: weights * np.float32(np.nan))
    with pytest.raises(PipelineError, match=r"fp16\.onnx does not answer as fp32\.onnx does"):
        write_bundle(tmp_path / "a.zip", export=export, results=tmp_path, dataset=mini_dataset)
    assert not (tmp_path / "a.zip").exists()


def test_bundle__refuses_files_of_two_checkpoints(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    export = Path(shutil.copytree(shipped.export, tmp_path / "export"))
    with_precision(export / "fp32.onnx", export / "int8.onnx", "int8", checkpoint_digest="0" * 16)
    with pytest.raises(PipelineError, match=r"int8\.onnx is of .*0000.* but fp32\.onnx beside it"):
        write_bundle(tmp_path / "a.zip", export=export, results=tmp_path, dataset=mini_dataset)
    assert not (tmp_path / "a.zip").exists()


def test_bundle__without_an_export_says_what_makes_it(mini_dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"fp32\.onnx not found: run `dvc repro export`"):
        write_bundle(tmp_path / "a.zip", export=tmp_path, results=tmp_path, dataset=mini_dataset)


def test_bundle__another_ending_is_refused_and_the_file_stays(
    shipped: Shipped, mini_dataset: PreparedDataset, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text("mine")
    with pytest.raises(PipelineError, match=r"params\.yaml: expected a name that ends in \.zip"):
        write_bundle(tmp_path / "params.yaml", export=shipped.export, results=tmp_path, dataset=mini_dataset)
    assert (tmp_path / "params.yaml").read_text() == "mine"


RAW = {"end2end": False, "score_threshold": 0.25, "nms_iou": 0.7, "max_detections": 300}


def raw_output(*rows: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Anchors of centre x, centre y, width, height and two classes' scores."""
    return {"output0": np.array(rows, dtype=np.float32).T[None]}


def test_differences__a_missing_a_moved_and_a_renamed_box_show() -> None:
    one, two = (20, 20, 10, 10, 0.9, 0.0), (50, 50, 10, 10, 0.0, 0.8)
    expected = raw_output(one, two)
    assert differences(expected, expected, RAW) == {"scores": 0, "boxes": 0, "box_px": 0}
    assert differences(expected, raw_output(one, (50, 50, 10, 10, 0, 0.1)), RAW)["boxes"] == pytest.approx(1 / 3)
    assert differences(expected, raw_output(one, (50, 50, 10, 10, 0.8, 0)), RAW)["boxes"] == pytest.approx(2 / 4)
    moved = differences(expected, raw_output(one, (51, 50, 10, 10, 0, 0.8)), RAW)
    assert moved["boxes"] == 0
    assert moved["box_px"] > 0.1


def test_differences__a_score_that_crosses_the_threshold_is_no_missing_box() -> None:
    expected, got = raw_output((20, 20, 10, 10, 0.26, 0)), raw_output((20, 20, 10, 10, 0.24, 0))
    assert differences(expected, got, RAW)["boxes"] == 0
    assert differences(expected, got, RAW)["scores"] == pytest.approx(0.02 / 0.26, rel=1e-3)


def test_differences__end2end_rows_may_swap() -> None:
    decoding = {**RAW, "end2end": True}
    one, two = [10, 10, 20, 20, 0.9, 0], [40, 40, 60, 60, 0.899, 1]
    expected = {"output0": np.array([[one, two]], dtype=np.float32)}
    swapped = [[*two[:4], 0.9, 1], [*one[:4], 0.899, 0]]
    assert differences(expected, {"output0": np.array([swapped], dtype=np.float32)}, decoding)["boxes"] == 0


def test_differences__nan_is_an_error() -> None:
    expected = raw_output((20, 20, 10, 10, 0.9, 0))
    with pytest.raises(ValueError, match="expected finite values"):
        differences(expected, {"output0": expected["output0"] * np.nan}, RAW)
