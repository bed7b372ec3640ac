"""A device's records come back validated, once, and only about a checkpoint that is known here."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle.device_records import import_records, setting_digest
from pipeline.bundle.measurements import measurements_of
from pipeline.device import probe
from pipeline.digest import value_digest
from pipeline.errors import PipelineError
from pipeline.records import DeviceRecord, read_record
from tests.bundle.conftest import Shipped


@pytest.fixture
def results(shipped: Shipped, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped.results, tmp_path / "results"))


def record(shipped: Shipped, **changes: Any) -> dict[str, Any]:
    timing = {
        "runtime": "onnxruntime", "runtime_version": "1.32.0", "precision": "fp32", "batch_size": 1, "runs": 100,
        "mean_ms": 1.1, "p50_ms": 1.0, "p90_ms": 1.2, "p99_ms": 1.5, "compute_p50_ms": None,
    }  # fmt: skip
    values = {
        "format": 1, "task": shipped.task, "student": "toy", "checkpoint_digest": shipped.digest, "image_size_px": 64,
        "commit": "abc", "threads": 2, "device": probe().model_dump(), "state": {}, "timings": [timing],
    }  # fmt: skip
    return {**values, **changes}


def write(folder: Path, content: dict[str, Any], name: str | None = None) -> Path:
    path = folder / "records" / f"{name or content['device']['fingerprint']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_import_records__a_round_trip_that_can_be_repeated(shipped: Shipped, results: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "device", record(shipped))
    (first,) = import_records(tmp_path / "device", results)
    setting = setting_digest(read_record(path, DeviceRecord))
    assert first.path == results / "devices" / path.stem / f"{shipped.task}-toy/{setting}.json"
    assert first.change == "new"
    assert read_record(first.path, DeviceRecord) == read_record(path, DeviceRecord)
    written = first.path.read_bytes()
    (second,) = import_records(tmp_path / "device", results)
    assert (second.change, first.path.read_bytes()) == ("unchanged", written)


def test_import_records__a_newer_measurement_of_the_device_replaces_the_older(
    shipped: Shipped, results: Path, tmp_path: Path
) -> None:
    write(tmp_path / "device", record(shipped))
    import_records(tmp_path / "device", results)
    write(tmp_path / "device", record(shipped, state={"gpu_clock_mhz": "median 900"}))
    (imported,) = import_records(tmp_path / "device", results)
    assert imported.change == "replaced"
    assert read_record(imported.path, DeviceRecord).state == {"gpu_clock_mhz": "median 900"}
    assert len(list(results.glob("devices/*/*/*.json"))) == 1


def changed(shipped: Shipped, **timing: Any) -> dict[str, Any]:
    """Change the only timing of a record."""
    content = record(shipped)
    content["timings"][0] |= timing
    return {"timings": content["timings"]}


SETTINGS: dict[str, Callable[[Shipped], dict[str, Any]]] = {
    "power mode": lambda _: {"state": {"power_mode": "15W"}},
    "power limit": lambda _: {"state": {"gpu_power_limit": "250.00 W"}},
    "governor": lambda _: {"state": {"cpu_governor": "powersave"}},
    "threads": lambda _: {"threads": 4},
    "no threads": lambda _: {"threads": None},
    "batch": lambda shipped: changed(shipped, batch_size=8),
    "profile": lambda shipped: changed(shipped, profile={"min": 1, "opt": 8, "max": 8}),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_import_records__another_setting_of_the_device_is_another_record(
    shipped: Shipped, results: Path, tmp_path: Path, what: str
) -> None:
    for content in (record(shipped), record(shipped, **SETTINGS[what](shipped)), record(shipped)):
        write(tmp_path / "device", content)
        import_records(tmp_path / "device", results)
    assert len(list(results.glob("devices/*/*/*.json"))) == 2
    travels = measurements_of(results, shipped.task, "toy", shipped.digest)
    assert sum(name.startswith("device-") for name in travels) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"p99_ms": 0.5},
        {"p90_ms": 0.9},
        {"batch_size": 0},
        {"runs": 0},
        {"profile": {"min": 8, "opt": 1, "max": 8}},
        {"profile": {"min": 0, "opt": 1, "max": 8}},
        {"mean_ms": float("inf")},
        {"compute_p50_ms": -1.0},
        {"blocks": {"count": 2, "min_ms": 3.0, "max_ms": 2.0}},
        {"warmup": {"seconds": -1.0, "stable": True}},
        {"p50_ms": "1.0"},
        {"p50_ms": 5e-324},
        {"mean_ms": 1e308},
        {"runs": True},
        {"batch_size": 10**400},
        {"batch_size": 4, "profile": {"min": 1, "opt": 1, "max": 1}},
        {"precision": "<b>"},
        {"runtime_version": "1\x1b[31m"},
    ],
)
def test_import_records__what_cannot_be_measured_is_refused(
    shipped: Shipped, results: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    write(tmp_path / "device", record(shipped, **changed(shipped, **change)))
    with pytest.raises(PipelineError, match="is not a DeviceRecord record"):
        import_records(tmp_path / "device", results)


@pytest.mark.parametrize("change", [{"threads": -5}, {"threads": 0}, {"image_size_px": -1}])
def test_import_records__counts_from_one_up(
    shipped: Shipped, results: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    write(tmp_path / "device", record(shipped, **change))
    with pytest.raises(PipelineError, match="is not a DeviceRecord record"):
        import_records(tmp_path / "device", results)


def test_import_records__percentiles_of_too_few_runs_are_left_out(
    shipped: Shipped, results: Path, tmp_path: Path
) -> None:
    write(tmp_path / "device", record(shipped, **changed(shipped, runs=254)))
    (imported,) = import_records(tmp_path / "device", results)
    (timing,) = imported.record.timings
    assert (timing.p90_ms, timing.p99_ms) == (1.2, None)


def other_device() -> dict[str, Any]:
    facts = {**probe().model_dump(exclude={"fingerprint"}), "cpu": "NVIDIA Jetson Orin Nano"}
    return {**facts, "fingerprint": value_digest(facts)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint_digest": "0" * 16}, "measured with checkpoint 0000000000000000"),
        ({"student": "stranger"}, "student stranger, of which .* knows nothing"),
        ({"student": "../../evil"}, "is not a DeviceRecord record"),
        ({"format": 2}, "is not a DeviceRecord record"),
        ({"timings": []}, "is not a DeviceRecord record"),
        ({"host": "orin"}, "is not a DeviceRecord record"),
        ({"device": {**other_device(), "cpu": "another"}}, "is not its device's"),
    ],
)
def test_import_records__refuses_and_writes_nothing(
    shipped: Shipped, results: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write(tmp_path / "device", record(shipped))
    device = other_device()
    write(tmp_path / "device", record(shipped, **{"device": device, **changes}), device["fingerprint"])
    with pytest.raises(PipelineError, match=message):
        import_records(tmp_path / "device", results)
    assert not (results / "devices").exists()


def test_import_records__a_time_of_nothing_or_of_no_number_is_refused(
    shipped: Shipped, results: Path, tmp_path: Path
) -> None:
    for value in (0, -1, float("nan"), float("inf")):
        content = record(shipped)
        content["timings"][0]["p50_ms"] = value
        write(tmp_path / "device", content)
        with pytest.raises(PipelineError, match="is not a DeviceRecord record"):
            import_records(tmp_path / "device", results)


def test_import_records__a_renamed_record_is_refused(shipped: Shipped, results: Path, tmp_path: Path) -> None:
    write(tmp_path / "device", record(shipped), "renamed")
    with pytest.raises(PipelineError, match="or not the file's name"):
        import_records(tmp_path / "device", results)


def test_import_records__without_a_record_says_what_makes_one(results: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no record: run `sh benchmark\.sh`"):
        import_records(tmp_path, results)


@pytest.mark.parametrize(
    ("changes", "timing", "message"),
    [
        ({"threads": -5}, {}, "is not a DeviceRecord record"),
        ({"threads": 0}, {}, "is not a DeviceRecord record"),
        ({"image_size_px": -1}, {}, "is not a DeviceRecord record"),
        ({"image_size_px": 0}, {}, "is not a DeviceRecord record"),
        ({"image_size_px": 96}, {}, "image_size_px: expected 64, the checkpoint's, got 96"),
        ({"commit": "a\x1b[31m"}, {}, "is not a DeviceRecord record"),
        ({"student": "n" * 300}, {}, "is not a DeviceRecord record"),
        ({}, {"p99_ms": 0.9}, "percentiles should not decrease, got p50 1.0, p90 1.2, p99 0.9"),
        ({}, {"p90_ms": 0.5}, "percentiles should not decrease"),
        ({}, {"p90_ms": 9.0}, "percentiles should not decrease"),
        ({}, {"runs": -1}, "is not a DeviceRecord record"),
        ({}, {"batch_size": 0}, "is not a DeviceRecord record"),
        ({}, {"mean_ms": float("nan")}, "is not a DeviceRecord record"),
    ],
)
def test_import_records__numbers_that_cannot_be_are_refused(
    shipped: Shipped, results: Path, tmp_path: Path, changes: dict[str, Any], timing: dict[str, Any], message: str
) -> None:
    content = record(shipped, **changes)
    content["timings"][0] |= timing
    path = write(tmp_path / "device", content)
    with pytest.raises(PipelineError, match=message) as error:
        import_records(tmp_path / "device", results)
    assert str(path) in str(error.value)
    assert not (results / "devices").exists()


def test_import_records__a_timing_that_is_there_twice_is_refused(
    shipped: Shipped, results: Path, tmp_path: Path
) -> None:
    content = record(shipped)
    first = content["timings"][0]
    content["timings"] = [first, {**first, "batch_size": 8}, {**first, "precision": "fp16"}]
    write(tmp_path / "device", content)
    assert len(import_records(tmp_path / "device", results)) == 1
    content["timings"].append({**first, "p50_ms": 0.9, "runs": 7})
    write(tmp_path / "device", content)
    with pytest.raises(PipelineError, match=r"timings\.3: onnxruntime fp32 at batch 1 is there twice"):
        import_records(tmp_path / "device", results)


def test_import_records__bytes_that_are_no_text_are_one_message(results: Path, tmp_path: Path) -> None:
    (tmp_path / "device/records").mkdir(parents=True)
    (tmp_path / "device/records/a.json").write_bytes(b'{"format": "caf\xe9"}')
    with pytest.raises(PipelineError, match=r"a\.json:1: expected utf-8 text, got byte 0xe9"):
        import_records(tmp_path / "device", results)


def test_import_records__a_pipe_among_the_records_is_refused(results: Path, tmp_path: Path) -> None:
    (tmp_path / "device/records").mkdir(parents=True)
    os.mkfifo(tmp_path / "device/records/a.json")
    with pytest.raises(PipelineError, match=r"a\.json: expected a record, found no regular file there"):
        import_records(tmp_path / "device", results)


def test_import_records__a_device_that_says_nothing_of_its_power_mode(
    shipped: Shipped, results: Path, tmp_path: Path
) -> None:
    write(tmp_path / "device", record(shipped, state={"power_mode": ""}))
    (imported,) = import_records(tmp_path / "device", results)
    assert imported.record.state == {"power_mode": ""}
    write(tmp_path / "device", record(shipped, state={"power_mode": "15W\x1b[31m"}))
    with pytest.raises(PipelineError, match="is not a DeviceRecord record"):
        import_records(tmp_path / "device", results)
