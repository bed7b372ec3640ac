"""The shell scripts: what they ask of trtexec, and the record that they write without Python."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bundle.device_records import import_records
from pipeline.bundle.write import FILES
from pipeline.device import probe
from pipeline.digest import value_digest
from pipeline.records import DeviceRecord, read_record
from tests.bundle.conftest import Shipped

STAND_IN = Path(__file__).parent / "stand_in"
SCRIPTS = sorted(FILES.glob("*.sh"))
VERSIONS = {10: "100300", 11: "110400"}
Done = subprocess.CompletedProcess[str]


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
            f"--timingCacheFile=engines/timing-{version}.cache", "--minShapes=images:1x3x64x64",
            "--optShapes=images:4x3x64x64", "--maxShapes=images:4x3x64x64",
        }  # fmt: skip
        assert ("--stronglyTyped" in call) == (major == 10)
        assert not call & {"--fp16", "--int8", "--best"}
    for name in ("fp32", "fp16", "int8-tensorrt"):
        assert (device / f"engines/{name}.plan").is_file()
        assert (device / f"engines/{name}.layers.json").is_file()
    assert not list((device / "engines").glob("*.partial"))


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
    assert [path.name for path in (device / "engines").iterdir() if path.suffix in {".plan", ".partial"}] == []


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
    program(
        device, "nvidia-smi", 'case "$1" in *name*) echo "NVIDIA \\"X\\", 570.1"; echo "NVIDIA \\"X\\", 570.1";; esac'
    )
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
    assert record.device.fingerprint == file.stem == value_digest(record.device.model_dump(exclude={"fingerprint"}))
    here = probe()
    assert (record.device.cpu, record.device.cpu_threads) == (here.cpu, here.cpu_threads)
    assert (record.device.gpu, record.device.gpu_driver) == ('2 x NVIDIA "X"', "570.1")
    assert record.state["power_mode"] == "MAXN_SUPER"
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
    assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms


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
