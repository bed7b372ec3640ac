import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import device
from pipeline.device import available_threads, limit_threads, probe

ROOT = Path(__file__).parents[1]
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def answer(stdout: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=stdout)


def test_probe__equal_on_an_equal_device() -> None:
    assert probe() == probe()


def test_probe__names_what_latency_depends_on() -> None:
    info = probe()
    assert info.cpu
    assert info.cpu_threads == CPUS >= available_threads() >= 1
    assert info.versions["python"] == platform.python_version()
    assert {"torch", "onnxruntime"} <= set(info.versions)
    assert socket.gethostname() not in info.model_dump_json()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_cpu", "another CPU"),
        ("_cpus", 3),
        ("_gpu", ("NVIDIA H200", "1.2")),
        ("_versions", {"onnxruntime": "0"}),
    ],
)
def test_probe__fingerprint_changes_with_each_fact(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    before = probe().fingerprint
    monkeypatch.setattr(device, name, lambda: value)
    assert probe().fingerprint != before


def test_probe__leaves_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "PACKAGES", {"tensorrt": ("no-such-package",), "onnxruntime": ("absent", "numpy")})
    assert set(probe().versions) == {"python", "onnxruntime"}


@pytest.mark.parametrize(
    ("stdout", "gpu", "driver"),
    [
        ("NVIDIA H200, 580.65.06\n", "NVIDIA H200", "580.65.06"),
        ("NVIDIA H200, 580.65.06\nNVIDIA H200, 580.65.06\n", "2 x NVIDIA H200", "580.65.06"),
        ("NVIDIA L4, 5\nNVIDIA T4, 5\n", "NVIDIA L4, NVIDIA T4", "5"),
        ("No devices were found\n", None, None),
        ("", None, None),
    ],
)
def test_probe__reads_the_nvidia_driver(
    monkeypatch: pytest.MonkeyPatch, stdout: str, gpu: str | None, driver: str | None
) -> None:
    monkeypatch.setattr(subprocess, "run", answer(stdout))
    info = probe()
    assert (info.gpu, info.gpu_driver) == (gpu, driver)


def test_probe__no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "NVIDIA_SMI", ("no-such-command",))
    assert probe().gpu is None


def test_probe__names_an_arm_board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 62.50\n")
    (tmp_path / "model").write_text("NVIDIA Jetson Orin Nano\0")
    monkeypatch.setattr(device, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(device, "BOARD", tmp_path / "model")
    assert probe().cpu == "NVIDIA Jetson Orin Nano"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_available_threads__follows_affinity() -> None:
    code = (
        "import os; from pipeline.device import available_threads;"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); assert available_threads() == 1"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


def run(code: str, **environment: str) -> None:
    """Run code in a process of its own, whose thread variables are those given alone."""
    kept = {key: value for key, value in os.environ.items() if key not in device.THREAD_VARIABLES}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept | environment, check=True)


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a machine of eight CPUs without limits; its control groups lie in the folder that is returned."""
    monkeypatch.setattr(device, "_cpus", lambda: 8)
    monkeypatch.setattr(device, "CGROUPS", tmp_path)
    monkeypatch.setattr(device, "CGROUP", tmp_path / "self")
    for name in device.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("value", "threads"),
    [("1", 1), ("3", 3), ("64", 8), ("2,4", 2), (" 5 ", 5), ("", 8), ("0", 8), ("-1", 8), ("many", 8)],
)
@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"])
def test_available_threads__openmps_variables_are_a_cap(
    eight_cpus: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, threads: int
) -> None:
    monkeypatch.setenv(variable, value)
    assert available_threads() == threads


@pytest.mark.parametrize(("quota", "threads"), [("200000", 2), ("150000", 2), ("50000", 1), ("max", 8), ("-1", 8)])
@pytest.mark.parametrize("folder", ["", "pod", "pod/container"])
def test_available_threads__a_containers_quota_is_a_cap(
    eight_cpus: Path, quota: str, threads: int, folder: str
) -> None:
    (eight_cpus / "pod/container").mkdir(parents=True)
    (eight_cpus / "self").write_text("0::/pod/container\n")
    (eight_cpus / folder / "cpu.max").write_text(f"{quota} 100000\n")
    assert available_threads() == threads


@pytest.mark.parametrize(("quota", "threads"), [("300000", 3), ("-1", 8)])
@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_available_threads__also_of_the_first_version_of_control_groups(
    eight_cpus: Path, name: str, quota: str, threads: int
) -> None:
    group = eight_cpus / name / "docker"
    group.mkdir(parents=True)
    (eight_cpus / "self").write_text(f"5:memory:/docker\n3:{name}:/docker\n0::/\n")
    (group / "cpu.cfs_quota_us").write_text(quota)
    (group / "cpu.cfs_period_us").write_text("100000")
    assert available_threads() == threads


@pytest.mark.parametrize(("limit", "asked", "threads"), [(0, "", 8), (0, "2", 2), (3, "", 3), (3, "2", 2), (99, "", 8)])
def test_limit_threads__is_capped_by_what_there_is(
    eight_cpus: Path, monkeypatch: pytest.MonkeyPatch, limit: int, asked: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    limit_threads(limit)
    assert available_threads() == int(os.environ["OMP_NUM_THREADS"]) == threads
    assert told == [threads]


def test_set_threads__every_library_computes_with_so_many() -> None:
    code = """
import ctypes, cv2, torch, ultralytics
from pathlib import Path
import numpy
from pipeline.device import set_threads
READ = "scipy_openblas_get_num_threads64_"
blas = [ctypes.CDLL(str(path)) for path in Path(numpy.__file__).parents[1].glob("numpy.libs/*openblas*")]
for threads in (1, 2, 1):
    set_threads(threads)
    told = [each.scipy_openblas_get_num_threads64_() for each in blas if hasattr(each, READ)]
    assert {cv2.getNumThreads(), torch.get_num_threads(), *told} == {threads}
"""
    run(code, OMP_NUM_THREADS="2")


def test_available_threads__ultralytics_own_default_is_not_the_users() -> None:
    code = "import pipeline, ultralytics, os; from pipeline.device import available_threads as count, _cpus, _quotas;"
    run(f"{code} assert count() == max(1, min([_cpus(), *_quotas()]))")
