"""Two latencies are divided if they were taken alike, and refused with what differs if not."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.evaluation.conditions import doubts_of
from pipeline.evaluation.latency_comparison import compare_latencies, comparison_table
from pipeline.evaluation.latency_table import latency_tables
from pipeline.records import Blocks, Latency, ModelInfo, Timing, WarmUp, read_record, write_record
from tests.report.made_up import conditions, device, runtime_latency

RUNTIMES = ("torch", "onnxruntime-fp32")
ADDED = ("load", "before", "after"), ("warmup", "blocks", "batches", "host_to_device", "compute", "device_to_host")


def latency_of(p50_ms: float, fingerprint: str = "cpu-a", image_size_px: int = 64, **changes: Any) -> Latency:
    info = ModelInfo(
        task="detect", name="toy", role="distilled", architecture="toy", params_m=1.0, image_size_px=image_size_px,
        digest="abc",
    )  # fmt: skip
    values = {"threads": 2, "batch_size": 1, "runtimes": [runtime_latency(name, p50_ms) for name in RUNTIMES]}
    return Latency(model=info, device=device(fingerprint), **{**values, **changes})


def old(latency: Latency) -> dict[str, Any]:
    """Give a record as it was before blocks, batches and conditions were in it."""
    record = json.loads(latency.model_dump_json(exclude=set(ADDED[0])))
    record["runtimes"] = [{key: row[key] for key in row if key not in ADDED[1]} for row in record["runtimes"]]
    return record


def printed(*renderables: object, width: int = 80) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(*renderables)
    return capture.get().splitlines()


def test_compare__ratio_and_what_the_blocks_leave_it_between() -> None:
    ratios = compare_latencies(latency_of(12.0), latency_of(4.0))
    assert [(ratio.runtime, ratio.batch_size) for ratio in ratios] == [
        (name, size) for name in RUNTIMES for size in (1, 4)
    ]
    assert ratios[0].value == pytest.approx(3)
    assert ratios[0].bounds == pytest.approx((3 * 0.98 / 1.03, 3 * 1.03 / 0.98))
    assert ratios[1].a_ms == pytest.approx(12 * 2.8)  # a batch's inference, not its total


def test_compare__other_models_of_one_device_are_comparable() -> None:
    b = latency_of(4.0)
    b = b.model_copy(update={"model": b.model.model_copy(update={"name": "small", "digest": "def"})})
    assert compare_latencies(latency_of(12.0), b)[0].value == pytest.approx(3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "cpu-b"}, "fingerprint: cpu-a and cpu-b"),
        ({"threads": 4}, "threads: 2 and 4"),
        ({"batch_size": 8}, "batch_size: 1 and 8"),
        ({"image_size_px": 128}, "image_size_px: 64 and 128"),
        ({"score_threshold": 0.001}, "score_threshold: 0.25 and 0.001"),
    ],
)
def test_compare__refuses_other_conditions_and_names_them(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PipelineError, match=rf"got {words}\. Run `dvc repro benchmark`"):
        compare_latencies(latency_of(5.0), latency_of(5.0, **changes))


def test_compare__another_fingerprint_is_explained_by_what_the_devices_are() -> None:
    b = latency_of(5.0, fingerprint="gpu-b")
    other = b.device.model_copy(
        update={"gpu": "Imaginary GPU", "versions": {"torch": "2.15.0", "onnxruntime": "1.33.0"}}
    )
    with pytest.raises(PipelineError) as error:
        compare_latencies(latency_of(5.0), b.model_copy(update={"device": other}))
    assert "gpu: None and Imaginary GPU" in str(error.value)
    assert "onnxruntime version: 1.32.0 and 1.33.0" in str(error.value)
    assert "torch" not in str(error.value)


def test_compare__a_detector_and_a_segmenter_are_refused() -> None:
    b = latency_of(5.0)
    b = b.model_copy(update={"model": b.model.model_copy(update={"task": "segment"})})
    with pytest.raises(PipelineError, match=r"got task: detect and segment\. Run"):
        compare_latencies(latency_of(5.0), b)


@pytest.mark.parametrize("zero", ["a", "b"])
@pytest.mark.parametrize("batch", [False, True])
def test_compare__a_median_of_zero_is_refused(zero: str, batch: bool) -> None:
    rows = [runtime_latency("torch", 5.0)]
    nothing = rows[0].total.model_copy(update={"p50_ms": 0.0})
    if batch:
        rows[0].batches[0].infer = nothing
    else:
        rows[0].total = nothing
    pair = [latency_of(5.0, runtimes=rows), latency_of(5.0)]
    with pytest.raises(PipelineError, match=rf"above 0 ms, got 0 for torch on cpu at batch {4 if batch else 1}"):
        compare_latencies(*(pair if zero == "a" else reversed(pair)))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1.0"])
@pytest.mark.parametrize("key", ["p50_ms", "p90_ms", "mean_ms", "std_ms"])
def test_record__a_time_that_is_no_number_is_refused(tmp_path: Path, key: str, value: str) -> None:
    record = json.loads(latency_of(5.0).model_dump_json())
    record["runtimes"][0]["total"][key] = "@"
    (tmp_path / "a.json").write_text(json.dumps(record).replace('"@"', value))
    with pytest.raises(PipelineError, match=rf"(?s)is not a Latency record: .*{key}"):
        read_record(tmp_path / "a.json", Latency)


@pytest.mark.parametrize(
    "change",
    [
        {"p50_ms": 9.0},
        {"p90_ms": 99.0},
        {"p50_ms": None},
    ],
)
def test_record__percentiles_that_decrease_are_refused(change: dict[str, Any]) -> None:
    timing = {"mean_ms": 5.0, "std_ms": 1.0, "p50_ms": 5.0, "p90_ms": 6.0, "p99_ms": 7.0}
    assert Timing.model_validate(timing).p99_ms == 7
    with pytest.raises(ValidationError):
        Timing.model_validate(timing | change)


@pytest.mark.parametrize("change", [{"threads": 0}, {"threads": -5}, {"batch_size": 0}, {"device": {"cpu_threads": 0}}])
def test_record__counts_from_one_up(change: dict[str, Any]) -> None:
    record = json.loads(latency_of(5.0).model_dump_json())
    change = {key: record[key] | value if isinstance(value, dict) else value for key, value in change.items()}
    with pytest.raises(ValidationError):
        Latency.model_validate(record | change)


@pytest.mark.parametrize(("runs", "present"), [(50, []), (489, ["p90_ms"]), (2000, ["p90_ms", "p99_ms"])])
def test_record__an_older_commits_percentiles_of_too_few_runs_are_left_out(runs: int, present: list[str]) -> None:
    record = json.loads(latency_of(5.0).model_dump_json())
    for row in record["runtimes"]:
        row["runs"] = row["batches"][0]["runs"] = runs
        for timing in (row["total"], row["infer"], row["batches"][0]["infer"]):
            timing |= {"p90_ms": 50.0, "p99_ms": 70.0}
    (row, _) = Latency.model_validate(record).runtimes
    for timing in (row.total, row.infer, row.batches[0].infer):
        assert [name for name in ("p90_ms", "p99_ms") if getattr(timing, name) is not None] == present


UNSTEADY: dict[str, dict[str, Any]] = {
    "was not stable after the warm-up": {"warmup": WarmUp(seconds=5.0, stable=False)},
    "had medians of its blocks from 52 to 748 ms": {"blocks": Blocks(count=9, min_ms=52.0, max_ms=748.0)},
    "made 12 of 100 runs within benchmark.max_time_s": {"runs": 12, "asked_runs": 100},
}


@pytest.mark.parametrize("reason", UNSTEADY)
def test_compare__no_ratio_of_a_median_that_is_not_steady(reason: str) -> None:
    row = runtime_latency("torch", 53.0).model_copy(update=UNSTEADY[reason])
    assert doubts_of(row) == [reason]
    pair = latency_of(53.0, runtimes=[row]), latency_of(53.0)
    for a, b in (pair, pair[::-1]):
        one, batch = compare_latencies(a, b)
        assert (one.value, one.bounds) == (None, None)
        assert batch.value == pytest.approx(1)
        text = " ".join(" ".join(printed(comparison_table(a, b))).split())
        assert "unstable" in text
        assert f"toy {reason} in torch" in text


def test_doubts__none_of_a_steady_median() -> None:
    row = runtime_latency("torch", 5.0)
    assert doubts_of(row) == doubts_of(row.model_copy(update={"runs": 100, "asked_runs": 100})) == []
    assert doubts_of(row.model_copy(update={"warmup": None, "blocks": None})) == []


def test_compare__no_common_runtime_is_an_error() -> None:
    alone = [latency_of(5.0, runtimes=[runtime_latency(name, 5.0)]) for name in RUNTIMES]
    with pytest.raises(PipelineError, match="a runtime that is in both, got torch on cpu and onnxruntime-fp32 on cpu"):
        compare_latencies(*alone)


def test_compare__record_without_blocks_gives_a_ratio_without_spread() -> None:
    ratios = compare_latencies(Latency.model_validate(old(latency_of(12.0))), latency_of(4.0))
    assert [(ratio.batch_size, ratio.bounds) for ratio in ratios] == [(1, None), (1, None)]
    assert ratios[0].value == pytest.approx(3)


def test_comparison_table__doubts_of_both_and_another_power_mode() -> None:
    calm = conditions()
    hot = calm.model_copy(update={"temperatures_c": {"x86_pkg_temp": 91.0}})
    a = latency_of(5.0, before=calm, after=hot)
    b = latency_of(5.0, before=calm.model_copy(update={"cpu_governor": "powersave"}), after=None)
    lines = " ".join(" ".join(printed(comparison_table(a, b))).split())
    assert "WARNING a: temperatures rose while measuring: x86_pkg_temp 51 to 91 °C" in lines
    assert "WARNING power mode and CPU governor: (None, 'performance') and (None, 'powersave')" in lines


def test_tables__fit_80_columns_and_cut_nothing() -> None:
    rows = []
    for name in ("onnxruntime-fp32", "onnxruntime-int8", "tensorrt-int8"):
        row = runtime_latency(name, 12345.678)
        phases = dict.fromkeys(("host_to_device", "compute", "device_to_host"), row.infer)
        moving = WarmUp(seconds=10.0, stable=False)
        rows.append(row.model_copy(update={**phases, "warmup": moving}))
    for value in (12345.678, 0.0123):
        wide = latency_of(value)
        tables = [*latency_tables(wide.model_copy(update={"runtimes": rows})), *latency_tables(wide)]
        for lines in (printed(*tables), printed(comparison_table(wide, wide))):
            assert max(map(len, lines)) <= 80
            assert not any("…" in line for line in lines)
            assert any(line.startswith("onnxruntime-fp32 ") for line in lines)


def test_table__shows_the_spread_of_the_blocks_and_what_is_not_stable() -> None:
    row = runtime_latency("torch", 10.0)
    assert isinstance(row.total, Timing)
    rows = [row.model_copy(update={"blocks": Blocks(count=9, min_ms=9.9, max_ms=19.0)})]
    moving = WarmUp(seconds=5.0, stable=False)
    rows.append(runtime_latency("openvino-fp32", 10.0).model_copy(update={"warmup": moving}))
    lines = {line.split()[0]: line.split() for line in printed(latency_tables(latency_of(1.0, runtimes=rows))[0])}
    assert "9.90-19.0" in lines["torch"]
    assert lines["torch"][-2:] == ["0.8", "s"]
    assert lines["openvino-fp32"][-1] == "unstable"


def test_cli__compare_latency_prints_the_ratio_or_one_error(tmp_path: Path) -> None:
    for name, latency in (("a", latency_of(12.0)), ("b", latency_of(4.0)), ("c", latency_of(4.0, fingerprint="cpu-b"))):
        write_record(tmp_path / f"{name}.json", latency)
    done = CliRunner().invoke(app, ["compare-latency", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert done.exit_code == 0
    assert ["torch", "1", "12.0", "11.8-12.4", "4.00", "3.92-4.12", "3.00", "2.85-3.15"] in [
        line.split() for line in done.output.splitlines()
    ]
    done = CliRunner().invoke(app, ["compare-latency", str(tmp_path / "a.json"), str(tmp_path / "c.json")])
    assert done.exit_code != 0
    assert "fingerprint: cpu-a and cpu-b" in str(done.exception)
    done = CliRunner().invoke(app, ["compare-latency", str(tmp_path / "a.json"), str(tmp_path / "nowhere.json")])
    assert "nowhere.json not found" in str(done.exception)


def test_record__written_before_blocks_and_conditions_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(old(latency_of(5.0))))
    latency = read_record(tmp_path / "old.json", Latency)
    assert latency.runtimes[0].total.p50_ms == 5
    assert any(line.startswith("torch ") for line in printed(*latency_tables(latency)))
