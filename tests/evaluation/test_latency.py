"""The benchmark on a scripted clock: fake backends move it, so every number is known."""

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends import DEVICE_PHASES, Array, Backend
from pipeline.data.prepared import PreparedDataset
from pipeline.device import probe
from pipeline.errors import PipelineError
from pipeline.evaluation import latency as latency_module
from pipeline.evaluation import progress, turns
from pipeline.evaluation.latency import Contender, measure
from pipeline.params import Benchmark, Evaluate
from pipeline.records import Latency, ModelInfo, RuntimeLatency

Make = Callable[..., Backend]
Run = Callable[[Array], list[Array]]
ROOT = Path(__file__).parents[2]
PARAMS = Benchmark(
    threads=2,
    batch_sizes=[1],
    warmup_min_s=0.0,
    warmup_max_s=5.0,
    warmup_tolerance=0.05,
    min_time_s=2.0,
    min_runs=50,
    max_time_s=60.0,
)


class Clock:
    """A clock that stands still until somebody works."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def work(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * 1e6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (latency_module, turns):
        monkeypatch.setattr(module, "perf_counter_ns", clock)
    return clock


@pytest.fixture
def timed(known_dataset: PreparedDataset, evaluate_params: Evaluate, model_info: ModelInfo) -> Callable[..., Latency]:
    def run(*backends: Backend, **changes: object) -> Latency:
        params = Benchmark.model_validate({**PARAMS.model_dump(), **changes})
        images = known_dataset.images("test")
        contender = Contender(model_info, backends)
        (latency,) = measure([contender], images, params, device=probe(), evaluate=evaluate_params)
        return latency

    return run


def working(clock: Clock, milliseconds: Callable[[int], float], calls: list[tuple[str, int]], name: str = "") -> Run:
    """Answer after so many milliseconds, a function of how often it was called; note each call and its batch."""
    count = 0

    def run(images: Array) -> list[Array]:
        nonlocal count
        calls.append((name, len(images)))
        clock.work(milliseconds(count))
        count += 1
        return [np.zeros((len(images), 4, 6), dtype=np.float32)]

    return run


def steady(clock: Clock, milliseconds: float, calls: list[tuple[str, int]] | None = None, name: str = "") -> Run:
    return working(clock, lambda _: milliseconds, [] if calls is None else calls, name)


def by_runtime(latency: Latency) -> dict[str, RuntimeLatency]:
    return {row.runtime: row for row in latency.runtimes}


def test_measure__a_slow_backend_gives_larger_numbers(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock
) -> None:
    slow, quick = make_backend(steady(clock, 8), "slow"), make_backend(steady(clock, 2), "quick")
    rows = by_runtime(timed(slow, quick))
    assert (rows["slow"].infer.p50_ms, rows["quick"].infer.p50_ms) == (8, 2)
    assert (rows["slow"].total.p90_ms, rows["quick"].total.p90_ms) == (8, 2)
    assert rows["slow"].throughput_per_s == pytest.approx(125)
    assert rows["quick"].throughput_per_s == pytest.approx(500)


def test_measure__percentiles_and_parts_of_a_scripted_clock(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, post = latency_module.letterbox, latency_module.POSTPROCESS["detect"]

    def letterbox(image: Array, size: int) -> object:
        clock.work(3)
        return real(image, size)

    def postprocess(*arguments: object) -> None:
        clock.work(1)
        post(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(latency_module, "letterbox", letterbox)
    monkeypatch.setitem(latency_module.POSTPROCESS, "detect", postprocess)
    backend = make_backend(working(clock, lambda count: 10 + count % 10, []))
    (row,) = timed(backend, min_runs=1000).runtimes
    counted = np.array([10 + count % 10 for count in range(10_000)])  # a turn's first runs go, in no phase of these ten
    assert (row.preprocess.p50_ms, row.postprocess.p99_ms) == (3, 1)
    for timing, shift in ((row.infer, 0), (row.total, 4)):
        found = (timing.p50_ms, timing.p90_ms, timing.p99_ms)
        assert found == pytest.approx(np.percentile(counted + shift, [50, 90, 99]), abs=1)
        assert timing.p50_ms < timing.p90_ms < timing.p99_ms
    assert row.total.mean_ms == pytest.approx(row.infer.mean_ms + 4)


def test_timing_of__percentiles_of_known_runs() -> None:
    from pipeline.evaluation.latency_summary import timing_of

    timing = timing_of(np.arange(1, 1001, dtype=np.float64))
    assert (timing.p50_ms, timing.mean_ms) == (500.5, 500.5)
    assert timing.p90_ms == pytest.approx(900.1)
    assert timing.p99_ms == pytest.approx(990.01)


@pytest.mark.parametrize(
    ("runs", "present"),
    [(1, []), (99, []), (100, ["p90_ms"]), (999, ["p90_ms"]), (1000, ["p90_ms", "p99_ms"])],
)
def test_timing_of__a_percentile_needs_ten_runs_beyond_it(runs: int, present: list[str]) -> None:
    from pipeline.evaluation.latency_summary import timing_of

    timing = timing_of(np.linspace(1, 2, runs))
    assert [name for name in ("p90_ms", "p99_ms") if getattr(timing, name) is not None] == present


def test_measure__more_runs_give_more_percentiles(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for runs, shown in ((50, []), (200, ["p90"]), (1200, ["p90", "p99"])):
        latency = timed(make_backend(steady(clock, 10)), min_runs=runs, min_time_s=0.01)
        (row,) = latency.runtimes
        assert [name for name in ("p90", "p99") if getattr(row.total, f"{name}_ms") is not None] == shown
        headings = next(line.split() for line in capsys.readouterr().out.splitlines() if "post" in line.split())
        assert [name for name in headings if name in {"p90", "p99"}] == shown


def test_measure__max_time_ends_a_runtime_that_is_too_slow_for_its_runs(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, quick = make_backend(steady(clock, 700), "slow"), make_backend(steady(clock, 2), "quick")
    rows = by_runtime(timed(slow, quick, min_runs=100, max_time_s=4.0))
    assert (rows["slow"].asked_runs, rows["quick"].asked_runs) == (100, 100)
    assert rows["slow"].runs == 4  # its only turn: six runs, the first two do not count
    assert rows["quick"].runs >= 100
    assert clock.now_ns < 20e9  # seventy seconds of runs were asked of the slow one
    out = capsys.readouterr().out
    assert [line.split()[-2:] for line in out.splitlines() if line.startswith("slow ")] == [
        [str(rows["slow"].runs), "runs"]
    ]
    assert f"toy made {rows['slow'].runs} of 100 runs within benchmark.max_time_s in slow" in " ".join(out.split())


@pytest.mark.parametrize("seconds_per_run", [3.0, 9.0, 60.0])
def test_measure__one_run_may_exceed_the_limit_and_is_then_the_only_one(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, seconds_per_run: float
) -> None:
    (row,) = timed(make_backend(steady(clock, seconds_per_run * 1e3)), max_time_s=2.0).runtimes
    assert row.runs == 1
    assert row.total.p50_ms == seconds_per_run * 1e3
    assert clock.now_ns <= (PARAMS.warmup_max_s + 2 * seconds_per_run) * 1e9


def test_measure__progress_is_a_line_where_there_is_no_terminal(
    timed: Callable[..., Latency],
    make_backend: Make,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "REPORT_S", 0.0)
    timed(make_backend(steady(clock, 20), "slow"), make_backend(steady(clock, 5), "quick"))
    lines = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"warm-up: 50% after \d+ s, next quick on cpu", line) for line in lines)
    done = [int(line.split("%")[0].split()[-1]) for line in lines if line.startswith("latency: ")]
    assert done == sorted(done)
    assert 0 <= done[0] < 50 < done[-2] <= done[-1] == 100


@pytest.mark.parametrize(("min_time_s", "min_runs"), [(3.0, 1), (0.001, 400)])
def test_measure__runs_long_and_often_enough(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, min_time_s: float, min_runs: int
) -> None:
    backends = make_backend(steady(clock, 1), "a"), make_backend(steady(clock, 10), "b")
    latency = timed(*backends, min_time_s=min_time_s, min_runs=min_runs)
    assert (latency.batch_size, latency.threads, len(latency.runtimes)) == (1, 2, 2)
    for row in latency.runtimes:
        assert row.runs >= min_runs
        assert row.runs * row.total.mean_ms >= min_time_s * 1e3 * 0.999


def test_measure__runtimes_take_turns_to_the_end(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock
) -> None:
    calls: list[tuple[str, int]] = []
    runs = {name: steady(clock, time, calls, name) for name, time in (("a", 1), ("b", 5), ("c", 60))}
    latency = timed(*(make_backend(run, name) for name, run in runs.items()), warmup_max_s=0.0)
    turns_taken = [calls[0][0], *(after[0] for before, after in pairwise(calls) if before[0] != after[0])]
    assert turns_taken == ["a", "b", "c"] * (len(turns_taken) // 3)
    assert len(turns_taken) >= 15
    assert {row.blocks.count for row in latency.runtimes if row.blocks} == {len(turns_taken) // 3}


def test_measure__first_runs_of_a_turn_do_not_count(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock
) -> None:
    calls: list[tuple[str, int]] = []

    def run(images: Array) -> list[Array]:
        is_first = [name for name, _ in calls[-2:]] != ["a", "a"]
        calls.append(("a", len(images)))
        clock.work(50 if is_first else 4)
        return [np.zeros((1, 4, 6), dtype=np.float32)]

    rows = by_runtime(timed(make_backend(run, "a"), make_backend(steady(clock, 2, calls, "b"), "b"), warmup_max_s=0.0))
    assert rows["a"].infer.p50_ms == rows["a"].infer.mean_ms == 4


def test_measure__blocks_show_how_far_the_median_moves(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock
) -> None:
    moving = working(clock, lambda _: 4 if clock.now_ns % 2_000_000_000 < 1_000_000_000 else 6, [])
    rows = by_runtime(timed(make_backend(moving, "moving"), make_backend(steady(clock, 5), "steady"), warmup_max_s=0.0))
    for name, bounds in (("moving", (4, 6)), ("steady", (5, 5))):
        blocks = rows[name].blocks
        assert blocks is not None
        assert (blocks.min_ms, blocks.max_ms) == bounds


def test_warm_up__lasts_until_the_median_rests(timed: Callable[..., Latency], make_backend: Make, clock: Clock) -> None:
    cooling = working(clock, lambda _: max(2.0, 12 - clock.now_ns / 1e8), [])  # at rest after one second
    (row,) = timed(make_backend(cooling), warmup_max_s=20.0).runtimes
    assert row.warmup is not None
    assert row.warmup.stable
    assert 1 < row.warmup.seconds < 2
    assert row.infer.mean_ms == 2


def test_warm_up__at_least_its_minimum(timed: Callable[..., Latency], make_backend: Make, clock: Clock) -> None:
    (row,) = timed(make_backend(steady(clock, 1)), warmup_min_s=3.0).runtimes
    assert row.warmup is not None
    assert row.warmup.stable
    assert 3 <= row.warmup.seconds < 3.5


@pytest.mark.parametrize(("growth", "stable"), [(0.04, True), (0.06, False)])
def test_warm_up__tolerance_is_a_share_of_the_median(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, growth: float, stable: bool
) -> None:
    slowing = working(clock, lambda count: 100 * (1 + growth) ** (count // 7), [])  # a block is seven of these
    (row,) = timed(make_backend(slowing), warmup_max_s=9.0).runtimes
    assert row.warmup is not None
    assert row.warmup.stable == stable


def test_warm_up__one_that_never_rests_is_reported_unstable(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    slowing = working(clock, lambda count: 100 * 1.2 ** (count // 7), [])
    rows = by_runtime(timed(make_backend(slowing, "slowing"), make_backend(steady(clock, 1), "steady"), min_runs=5))
    assert rows["slowing"].warmup is not None
    assert rows["slowing"].warmup.seconds >= PARAMS.warmup_max_s
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "unstable" in line] == ["slowing"]
    assert "WARNING toy was not stable after the warm-up in slowing" in lines


def test_measure__batch_one_with_a_batch_that_is_not_free(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock
) -> None:
    calls: list[tuple[str, int]] = []
    backends = [
        make_backend(steady(clock, 3, calls, name), name, dynamic_batch=name == "free") for name in ("free", "fixed")
    ]
    rows = by_runtime(timed(*backends, batch_sizes=[1, 2, 8]))
    assert {size for name, size in calls if name == "fixed"} == {1}
    assert {size for name, size in calls if name == "free"} == {1, 2, 8}
    assert [batch.batch_size for batch in rows["free"].batches] == [2, 8]
    assert rows["fixed"].batches == []


def test_measure__throughput_of_a_batch_counts_images(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock
) -> None:
    def run(images: Array) -> list[Array]:
        clock.work(2 + 2 * len(images))
        return [np.zeros((len(images), 4, 6), dtype=np.float32)]

    (row,) = timed(make_backend(run), batch_sizes=[1, 4]).runtimes
    (batch,) = row.batches
    assert (row.infer.p50_ms, batch.infer.p50_ms) == (4, 10)
    assert batch.throughput_per_s == pytest.approx(400)
    assert (batch.blocks.min_ms, batch.blocks.max_ms, batch.warmup.stable) == (10, 10, True)


def test_measure__phases_of_the_device_pass_through_and_leave_infer_alone(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    def phases(images: Array) -> tuple[list[Array], dict[str, float]]:
        clock.work(9)  # events cost time too
        return [np.zeros((1, 4, 6), dtype=np.float32)], {"compute": 5.0, "device_to_host": 0.5, "host_to_device": 1.5}

    rows = by_runtime(
        timed(make_backend(steady(clock, 7), "gpu", phases=phases), make_backend(steady(clock, 4), "cpu"))
    )
    gpu, cpu = rows["gpu"], rows["cpu"]
    assert [getattr(gpu, phase).mean_ms for phase in DEVICE_PHASES] == [1.5, 5, 0.5]
    assert [getattr(cpu, phase) for phase in DEVICE_PHASES] == [None] * 3
    assert gpu.infer.mean_ms == gpu.total.mean_ms == 7
    out = capsys.readouterr().out
    assert "pageable memory, no CUDA graph" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["gpu", "compute", "5.00", "5.00", "5.00"] in lines  # median, p90 and mean of some hundred runs
    assert ["cpu", "compute"] not in [line[:2] for line in lines]


def test_measure__one_record_per_model(
    known_dataset: PreparedDataset, make_backend: Make, clock: Clock, evaluate_params: Evaluate, model_info: ModelInfo
) -> None:
    teacher = Contender(model_info, [make_backend(steady(clock, 4), "slow")])
    students = [make_backend(steady(clock, time), f"at-{time}") for time in (1, 2)]
    student = Contender(model_info.model_copy(update={"name": "small"}), students)
    params = PARAMS.model_copy(update={"batch_sizes": [1, 2]})
    records = measure(
        [teacher, student], known_dataset.images("test"), params, device=probe(), evaluate=evaluate_params
    )
    found = [(record.model.name, [(row.runtime, row.infer.p50_ms) for row in record.runtimes]) for record in records]
    assert found == [("toy", [("slow", 4)]), ("small", [("at-1", 1), ("at-2", 2)])]
    assert [[batch.infer.p50_ms for batch in row.batches] for row in records[1].runtimes] == [[1], [2]]


def test_measure__conditions_are_read_after_the_warm_up_and_at_the_end(
    timed: Callable[..., Latency], make_backend: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    for name in ("read_load", "read_conditions"):
        real = getattr(latency_module, name)
        monkeypatch.setattr(latency_module, name, lambda name=name, real=real: (calls.append((name, 0)), real())[1])
    latency = timed(make_backend(steady(clock, 5, calls, "run")))
    order = [calls[0][0], *(after[0] for before, after in pairwise(calls) if before[0] != after[0])]
    assert order == ["read_load", "run", "read_conditions", "run", "read_conditions"]
    assert latency.load is not None
    assert latency.before is not None
    assert latency.after is not None


def test_measure__refuses_unequal_threads(timed: Callable[..., Latency], make_backend: Make, clock: Clock) -> None:
    with pytest.raises(PipelineError, match=r"equal threads.*\[1, 2\]"):
        timed(make_backend(steady(clock, 1), threads=1), make_backend(steady(clock, 1), threads=2))


def test_latency__needs_no_torch() -> None:
    code = "import sys, pipeline.evaluation.latency, pipeline.checkpoint_info; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
