"""The shell scripts: what they ask of trtexec, and the record that they write without Python."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bundle.device_records import import_records, setting_digest
from pipeline.bundle.write import FILES
from pipeline.device import probe
from pipeline.digest import value_digest
from pipeline.records import BatchProfile, DeviceRecord, read_record
from tests.bundle.conftest import Shipped

STAND_IN = Path(__file__).parent / "stand_in"
SCRIPTS = sorted(FILES.glob("*.sh"))
VERSIONS = {10: "100300", 11: "110400"}
Done = subprocess.CompletedProcess[str]
# Two GPUs of a driver that names what holds clocks down as older ones do; it drops the clock on every question.
SMI = r"""
case "$*" in
    *query-gpu=name,*) echo 'NVIDIA "X", 570.1'; echo 'NVIDIA "X", 570.1' ;;
    *query-gpu=name*) echo 'NVIDIA "X"'; echo 'NVIDIA "X"' ;;
    *clocks_event_reasons*) echo 'Field "clocks_event_reasons.sw_power_cap" is not a valid field to query.'; exit 2 ;;
    *clocks_throttle_reasons*) echo 'Active, Not Active, Not Active, Not Active, Active' ;;
    *clocks.sm*) n=$(cat "$0.asked" 2>/dev/null || echo 0); n=$((n + 1))
        echo $n >"$0.asked"; echo $((2000 - 100 * n)) ;;
    *power.limit*) echo '350.00 W' ;;
    *) exit 2 ;;
esac
"""


@pytest.fixture
def device(unpacked: Path, tmp_path: Path) -> Path:
    """Return an unpacked bundle beside a folder of programs with trtexec in it."""
    (tmp_path / "bin").mkdir()
    shutil.copy(STAND_IN / "trtexec", tmp_path / "bin")
    return unpacked


def sh(device: Path, script: str, *arguments: str, version: str = "100300", **environment: str) -> Done:
    path = f"{device.parent / 'bin'}:{os.environ['PATH']}"
    log = str(device.parent / "log")
    variables = {**os.environ, "PATH": path, "FAKE_VERSION": version, "FAKE_LOG": log, **environment}
    command = ["sh", str(device / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables, cwd=device.parent)


def asked(device: Path) -> list[set[str]]:
    """Return the arguments of each call of trtexec."""
    log = device.parent / "log"
    return [set(line.split()) for line in log.read_text().splitlines()] if log.exists() else []


def program(device: Path, name: str, text: str) -> None:
    path = device.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts__are_posix_and_clean(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip("no shellcheck here")
    done = subprocess.run(
        [found, "--shell=sh", "--exclude=SC1091", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", ["build_engine.sh", "benchmark.sh"])
def test_scripts__help_without_any_tool(device: Path, script: str) -> None:
    (device.parent / "bin/trtexec").unlink()
    done = sh(device, script, "--help")
    assert done.returncode == 0
    assert f"sh {script}" in done.stdout
    assert sh(device, script, "--nonsense").returncode == 2


@pytest.mark.parametrize("major", [10, 11])
def test_build_engine__asks_for_a_strongly_typed_engine_of_each_file(device: Path, major: int) -> None:
    for name in ("fp16", "int8", "int8-tensorrt"):
        shutil.copy(device / "models/fp32.onnx", device / f"models/{name}.onnx")
    program(device, "nvidia-smi", 'echo "NVIDIA X"')
    done = sh(device, "build_engine.sh", "--batch", "4", version=VERSIONS[major])
    assert done.returncode == 0, done.stderr
    calls = asked(device)
    assert [next(word for word in call if word.startswith("--onnx=")) for call in calls] == [
        "--onnx=models/fp32.onnx", "--onnx=models/fp16.onnx", "--onnx=models/int8-tensorrt.onnx"
    ]  # fmt: skip
    version = {10: "10.3.0.26", 11: "11.4.0.26"}[major]
    for call in calls:
        assert call >= {
            "--skipInference", "--memPoolSize=workspace:1024", "--profilingVerbosity=detailed",
            f"--timingCacheFile=engines/timing-NVIDIA-X-{version}.cache", "--minShapes=images:1x3x64x64",
            "--optShapes=images:4x3x64x64", "--maxShapes=images:4x3x64x64",
        }  # fmt: skip
        assert ("--stronglyTyped" in call) == (major == 10)
        assert not call & {"--fp16", "--int8", "--best"}
    for name in ("fp32", "fp16", "int8-tensorrt"):
        assert (device / f"engines/{name}.plan").is_file()
        assert (device / f"engines/{name}.layers.json").is_file()
        assert (device / f"engines/{name}.profile").read_text() == "1 4 4\n"
    assert not list((device / "engines").glob(".*"))


def test_build_engine__refuses_the_int8_file_of_other_runtimes(device: Path) -> None:
    shutil.copy(device / "models/fp32.onnx", device / "models/int8.onnx")
    done = sh(device, "build_engine.sh", "models/int8.onnx")
    assert done.returncode == 2
    assert "take models/int8-tensorrt.onnx" in done.stderr
    assert not list((device / "engines").glob("*.plan"))


def test_build_engine__a_fixed_batch_axis_has_no_profile(device: Path) -> None:
    environment = device / "bundle.env"
    environment.write_text(environment.read_text().replace("DYNAMIC_BATCH=1", "DYNAMIC_BATCH=0"))
    assert sh(device, "build_engine.sh", "models/fp32.onnx").returncode == 0
    assert not any("Shapes" in word for word in asked(device)[0])
    done = sh(device, "build_engine.sh", "--batch", "2")
    assert done.returncode == 2
    assert "one image at a time" in done.stderr


def test_build_engine__a_failed_build_leaves_no_engine_and_says_why(device: Path) -> None:
    done = sh(device, "build_engine.sh", FAKE_BROKEN="fp32")
    assert done.returncode == 1
    assert "no kernel for this node" in done.stderr
    assert "TensorRT 10.3.0.26 cannot build models/fp32.onnx" in done.stderr
    assert [path.name for path in (device / "engines").iterdir()] == ["fp32.log"]


def test_build_engine__without_the_gpus_name_there_is_no_timing_cache(device: Path) -> None:
    program(device, "nvidia-smi", "exit 9")
    assert sh(device, "build_engine.sh").returncode == 0
    assert not any("timingCacheFile" in word for word in asked(device)[0])


def test_build_engine__a_link_where_it_writes_is_replaced_and_not_followed(device: Path) -> None:
    (device / "engines").mkdir()
    (device.parent / "precious").mkdir()
    victims = [device.parent / "precious" / name for name in ("plan", "layers.json", "log", "profile")]
    for victim in victims:
        victim.write_text("precious")
        (device / f"engines/fp32.{victim.name}").symlink_to(victim)
    (device / "engines/fp32.partial").symlink_to(victims[0])
    assert sh(device, "build_engine.sh").returncode == 0
    assert {victim.read_text() for victim in victims} == {"precious"}
    assert not (device / "engines/fp32.plan").is_symlink()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--batch", "0"], {}, "--batch: expected a number from 1 on, got '0'"),
        (["--batch"], {}, "--batch: expected a number from 1 on, got ''"),
        (["--workspace", "1g"], {}, "--workspace: expected MiB, got '1g'"),
        (["models/none.onnx"], {}, "models/none.onnx: no such file"),
        ([], {"version": "8601"}, "expected TensorRT 10 or 11, got '&&&& RUNNING TensorRT.trtexec [TensorRT v8601]"),
    ],
)
def test_build_engine__refuses_in_one_line(
    device: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = sh(device, "build_engine.sh", *arguments, **environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not asked(device)


@pytest.mark.parametrize("major", [10, 11])
def test_benchmark__a_record_without_python(device: Path, shipped: Shipped, major: int, tmp_path: Path) -> None:
    program(device, "python3", "exit 1")
    program(device, "nvpmodel", 'echo "NV Power Mode: MAXN_SUPER"; echo 2')
    program(device, "nvidia-smi", SMI)
    assert sh(device, "build_engine.sh", version=VERSIONS[major]).returncode == 0
    done = sh(device, "benchmark.sh", "--seconds", "3", version=VERSIONS[major])
    assert done.returncode == 0, done.stderr
    call = asked(device)[-1]
    assert {"--loadEngine=engines/fp32.plan", "--duration=3", "--shapes=images:1x3x64x64"} <= call
    assert call & {"--useCudaGraph", "--useSpinWait", "--includeDataTransfers"} == {
        10: {"--useCudaGraph", "--useSpinWait"}, 11: {"--includeDataTransfers"}
    }[major]  # fmt: skip
    (file,) = (device / "records").iterdir()
    record = read_record(file, DeviceRecord)
    assert (record.student, record.task, record.checkpoint_digest) == ("toy", shipped.task, shipped.digest)
    assert record.device.fingerprint == value_digest(record.device.model_dump(exclude={"fingerprint"}))
    assert file.stem == f"{record.device.fingerprint}-{setting_digest(record)}"
    here = probe()
    assert (record.device.cpu, record.device.cpu_threads) == (here.cpu, here.cpu_threads)
    assert (record.device.gpu, record.device.gpu_driver) == ('2 x NVIDIA "X"', "570.1")
    assert record.state["power_mode"] == "MAXN_SUPER"
    assert record.state["gpu_power_limit"] == "350.00 W"
    (timing,) = record.timings
    assert (timing.runtime, timing.precision, timing.runs) == ("tensorrt", "fp32", 3200)
    assert timing.runtime_version == {10: "10.3.0.26", 11: "11.4.0.26"}[major]
    times = (timing.mean_ms, timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.compute_p50_ms)
    assert times == (1.41, 1.4, 1.6, 2.25, 1.15)
    results = Path(shutil.copytree(shipped.results, tmp_path / "results"))
    assert [imported.change for imported in import_records(device, results)] == ["new"]


def test_benchmark__without_trtexec_measures_onnxruntime(device: Path) -> None:
    (device.parent / "bin/trtexec").unlink()
    program(device, "python3", f'exec "{sys.executable}" -I "$@"')
    done = sh(device, "benchmark.sh", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    (file,) = (device / "records").iterdir()
    record = read_record(file, DeviceRecord)
    assert record.device == probe(), "a device is described as pipeline/device.py does"
    (timing,) = record.timings
    assert (timing.runtime, timing.precision, timing.batch_size) == ("onnxruntime", "fp32", 1)
    assert file.stem == f"{record.device.fingerprint}-{setting_digest(record)}"
    assert timing.inputs == "samples"
    assert timing.warmup is not None
    assert timing.blocks is not None
    assert 0 < timing.blocks.min_ms <= timing.p50_ms <= timing.blocks.max_ms
    assert [timing.p90_ms is None, timing.p99_ms is None] == [timing.runs < 100, timing.runs < 1000]


def records_of(device: Path) -> list[DeviceRecord]:
    return [read_record(path, DeviceRecord) for path in sorted((device / "records").iterdir())]


def test_benchmark__times_an_engine_at_the_batch_that_it_is_tuned_for(device: Path) -> None:
    sh(device, "build_engine.sh", "--batch", "8")
    done = sh(device, "benchmark.sh")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--shapes=images:8x3x64x64" in asked(device)[-1]
    ((timing,),) = (record.timings for record in records_of(device))
    assert timing.batch_size == 8
    assert timing.profile == BatchProfile(min=1, opt=8, max=8)


def test_benchmark__another_batch_than_the_tuned_one_is_said_and_is_another_record(device: Path) -> None:
    sh(device, "build_engine.sh", "--batch", "8")
    sh(device, "benchmark.sh")
    done = sh(device, "benchmark.sh", "--batch", "1")
    assert done.returncode == 0
    assert "engines/fp32.plan is tuned for 8 images and timed at 1" in done.stderr
    found = {timing.batch_size: timing.profile for record in records_of(device) for timing in record.timings}
    assert found == dict.fromkeys((1, 8), BatchProfile(min=1, opt=8, max=8))
    done = sh(device, "benchmark.sh", "--batch", "9")
    assert done.returncode == 2
    assert "engines/fp32.plan takes 1 to 8 images; build it with sh build_engine.sh --batch 9" in done.stderr


@pytest.mark.parametrize("content", [None, "", "8", "1 8", "one 8 8", "1 -8 8"])
def test_benchmark__an_engine_of_unknown_profile_is_timed_at_1_and_said(device: Path, content: str | None) -> None:
    sh(device, "build_engine.sh")
    profile = device / "engines/fp32.profile"
    profile.unlink()
    if content is not None:
        profile.write_text(content)
    done = sh(device, "benchmark.sh")
    assert done.returncode == 0, done.stderr
    assert "for which batch it is tuned is unknown" in done.stderr
    ((timing,),) = (record.timings for record in records_of(device))
    assert (timing.batch_size, timing.profile) == (1, None)


@pytest.mark.parametrize(("runs", "p90_ms", "p99_ms"), [(99, None, None), (100, 1.6, None), (1000, 1.6, 2.25)])
def test_benchmark__a_percentile_needs_ten_runs_beyond_it(
    device: Path, runs: int, p90_ms: float | None, p99_ms: float | None
) -> None:
    sh(device, "build_engine.sh")
    done = sh(device, "benchmark.sh", FAKE_RUNS=str(runs))
    assert done.returncode == 0, done.stderr
    assert ("no p99" in done.stdout) == (p99_ms is None)
    content = json.loads(next((device / "records").iterdir()).read_text())
    assert [content["timings"][0][key] for key in ("p90_ms", "p99_ms")] == [p90_ms, p99_ms]


def test_benchmark__clocks_and_what_held_them_down_are_read_while_it_runs(device: Path) -> None:
    program(device, "nvidia-smi", SMI)
    sh(device, "build_engine.sh")
    done = sh(device, "benchmark.sh", FAKE_SECONDS="1.5")
    assert done.returncode == 0, done.stderr
    (record,) = records_of(device)
    assert record.state["gpu_clock_reasons"] == "sw_power_cap, sw_thermal_slowdown"
    assert re.fullmatch(r"median 1\d00, lowest 1\d00, highest 1900 of [2-9]", record.state["gpu_clock_mhz"])
    assert not list((device / "engines").glob(".*"))


def test_benchmark__a_power_mode_is_a_record_and_a_second_run_replaces_its_own(device: Path) -> None:
    sh(device, "build_engine.sh")
    for mode in ("15W", "MAXN", "15W"):
        program(device, "nvpmodel", f'echo "NV Power Mode: {mode}"')
        assert sh(device, "benchmark.sh").returncode == 0
    assert sorted(record.state["power_mode"] for record in records_of(device)) == ["15W", "MAXN"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds: expected a number from 1 on, got '0'"),
        (["--seconds"], "--seconds: expected a number from 1 on, got ''"),
        (["--batch", "x"], "--batch: expected a number from 1 on, got 'x'"),
        (["--threads", "0"], "--threads: expected a number from 1 on, got '0'"),
        (["--threads", "2"], "--threads is of ONNX Runtime: python3 benchmark.py measures that beside trtexec"),
    ],
)
def test_benchmark__refuses_in_one_line(device: Path, arguments: list[str], message: str) -> None:
    done = sh(device, "benchmark.sh", *arguments)
    assert (done.returncode, done.stderr) == (2, f"benchmark.sh: {message}\n")


def python(device: Path, *arguments: str, **environment: str) -> Done:
    command = [sys.executable, "-I", str(device / "benchmark.py"), *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=device.parent, env=variables)


def test_benchmark_py__another_thread_count_is_another_record(device: Path) -> None:
    for threads in ("1", "2", "1"):
        assert python(device, "--seconds", "0.05", "--threads", threads).returncode == 0
    assert sorted(record.threads or 0 for record in records_of(device)) == [1, 2]
    for path in (device / "records").iterdir():
        record = read_record(path, DeviceRecord)
        assert path.stem == f"{record.device.fingerprint}-{setting_digest(record)}"


def test_benchmark__without_trtexec_threads_are_those_of_onnx_runtime(device: Path) -> None:
    (device.parent / "bin/trtexec").unlink()
    program(device, "python3", f'exec {sys.executable} "$@"')
    assert sh(device, "benchmark.sh", "--seconds", "1", "--threads", "2").returncode == 0
    assert [record.threads for record in records_of(device)] == [2]


def test_benchmark_py__the_environments_threads_are_the_default(device: Path) -> None:
    assert python(device, "--seconds", "0.05", OMP_NUM_THREADS="1").returncode == 0
    assert [record.threads for record in records_of(device)] == [1]


def test_benchmark_py__without_samples_it_feeds_noise_and_says_so(device: Path) -> None:
    for sample in (device / "samples").glob("*.png"):
        sample.unlink()
    done = python(device, "--seconds", "0.05")
    assert done.returncode == 0, done.stderr
    assert "input: noise" in done.stderr
    assert [timing.inputs for record in records_of(device) for timing in record.timings] == ["noise"]


@pytest.mark.parametrize(
    "arguments", [["--seconds", "0"], ["--seconds", "nan"], ["--seconds", "-1"], ["--threads", "0"], ["--threads", "x"]]
)
def test_benchmark_py__refuses_without_a_traceback(device: Path, arguments: list[str]) -> None:
    done = python(device, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert arguments[0] in done.stderr
    assert not (device / "records").exists()


def test_benchmark__without_engines_says_what_makes_them(device: Path) -> None:
    done = sh(device, "benchmark.sh")
    assert done.returncode == 2
    assert "run sh build_engine.sh first" in done.stderr


def test_records__name_no_clock_and_no_host(device: Path) -> None:
    sh(device, "build_engine.sh")
    sh(device, "benchmark.sh")
    (file,) = (device / "records").iterdir()
    assert os.uname().nodename not in file.read_text()
    assert "2026" not in json.dumps({**json.loads(file.read_text()), "commit": ""})
