import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from pipeline.backends import Array, Backend
from pipeline.data.prepared import PreparedDataset
from pipeline.device import probe
from pipeline.errors import PipelineError
from pipeline.evaluation import latency as module
from pipeline.evaluation.latency import Contender, measure
from pipeline.params import Benchmark, Evaluate
from pipeline.records import Latency, ModelInfo, RuntimeLatency

Make = Callable[..., Backend]
Run = Callable[[Array], list[Array]]
PARAMS = Benchmark(threads=2, warmup_s=0.01, min_time_s=0.1, min_runs=20)


@pytest.fixture
def timed(
    known_dataset: PreparedDataset,
    evaluate_params: Evaluate,
    model_info: ModelInfo,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Latency]:
    monkeypatch.setattr(module, "BLOCK_S", 0.02)

    def run(*backends: Backend, params: Benchmark = PARAMS) -> Latency:
        images = known_dataset.images("test")
        (latency,) = measure(
            [Contender(model_info, backends)], images, params, device=probe(), evaluate=evaluate_params
        )
        return latency

    return run


def sleepy(oracle: Run, seconds: float, calls: list[float] | None = None) -> Run:
    def run(images: Array) -> list[Array]:
        if calls is not None:
            calls.append(seconds)
        time.sleep(seconds)
        return oracle(images)

    return run


def by_runtime(latency: Latency) -> dict[str, RuntimeLatency]:
    return {row.runtime: row for row in latency.runtimes}


def test_measure__finds_the_slower_runtime(timed: Callable[..., Latency], make_backend: Make, oracle: Run) -> None:
    slow, quick = make_backend(sleepy(oracle, 0.008), "slow"), make_backend(sleepy(oracle, 0.001), "quick")
    rows = by_runtime(timed(slow, quick))
    assert rows["slow"].infer.p50_ms >= 8
    assert 1 <= rows["quick"].infer.p50_ms < rows["slow"].infer.p50_ms
    assert rows["slow"].throughput_per_s < 125


@pytest.mark.parametrize(("min_time_s", "min_runs"), [(0.3, 1), (0.001, 60)])
def test_measure__runs_long_and_often_enough(
    timed: Callable[..., Latency], make_backend: Make, oracle: Run, min_time_s: float, min_runs: int
) -> None:
    params = Benchmark(threads=2, warmup_s=0.0, min_time_s=min_time_s, min_runs=min_runs)
    latency = timed(make_backend(sleepy(oracle, 0.001), "a"), make_backend(sleepy(oracle, 0.01), "b"), params=params)
    assert (latency.batch_size, latency.threads, len(latency.runtimes)) == (1, 2, 2)
    for row in latency.runtimes:
        assert row.runs >= min_runs
        assert row.runs * row.total.mean_ms >= min_time_s * 1e3 * 0.999


def test_measure__total_is_at_least_its_parts(timed: Callable[..., Latency], make_backend: Make, oracle: Run) -> None:
    (row,) = timed(make_backend(sleepy(oracle, 0.001))).runtimes
    parts = row.preprocess.mean_ms + row.infer.mean_ms + row.postprocess.mean_ms
    assert row.total.mean_ms == pytest.approx(parts, abs=0.01)
    assert row.total.p50_ms <= row.total.p90_ms <= row.total.p99_ms


def test_measure__runtimes_take_turns(timed: Callable[..., Latency], make_backend: Make, oracle: Run) -> None:
    calls: list[float] = []
    timed(
        make_backend(sleepy(oracle, 0.001, calls), "a"),
        make_backend(sleepy(oracle, 0.002, calls), "b"),
        params=PARAMS.model_copy(update={"warmup_s": 0.0}),
    )
    turns = sum(first != second for first, second in pairwise(calls))
    assert turns >= 5


def test_measure__batch_of_one_image(timed: Callable[..., Latency], make_backend: Make, oracle: Run) -> None:
    shapes = set()

    def spy(images: Array) -> list[Array]:
        shapes.add(images.shape)
        return oracle(images)

    timed(make_backend(spy))
    assert shapes == {(1, 3, 64, 64)}


def test_measure__one_record_per_model(
    known_dataset: PreparedDataset, make_backend: Make, oracle: Run, evaluate_params: Evaluate, model_info: ModelInfo
) -> None:
    teacher = Contender(model_info, [make_backend(sleepy(oracle, 0.004), "slow")])
    student = Contender(model_info.model_copy(update={"name": "small"}), [make_backend(oracle, "a")] * 2)
    records = measure(
        [teacher, student], known_dataset.images("test"), PARAMS, device=probe(), evaluate=evaluate_params
    )
    assert [(record.model.name, len(record.runtimes)) for record in records] == [("toy", 1), ("small", 2)]
    assert records[0].runtimes[0].infer.p50_ms >= 4 > records[1].runtimes[0].infer.p50_ms


def test_measure__prints_a_table(
    timed: Callable[..., Latency], make_backend: Make, oracle: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    timed(make_backend(oracle, "onnxruntime-fp32"))
    printed = capsys.readouterr().out
    assert "onnxruntime-fp32" in printed
    assert "p99" in printed


def test_measure__refuses_unequal_threads(timed: Callable[..., Latency], make_backend: Make, oracle: Run) -> None:
    with pytest.raises(PipelineError, match=r"equal threads.*\[1, 2\]"):
        timed(make_backend(oracle, threads=1), make_backend(oracle, threads=2))


def test_measure__percentiles_of_known_runs() -> None:
    timing = module._timing(np.arange(1, 101, dtype=np.float64))
    assert (timing.p50_ms, timing.mean_ms) == (50.5, 50.5)
    assert timing.p90_ms == pytest.approx(90.1)
    assert timing.p99_ms == pytest.approx(99.01)
