import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import device
from pipeline.device import available_threads, probe


def answer(stdout: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=stdout)


def test_probe__equal_on_an_equal_device() -> None:
    assert probe() == probe()


def test_probe__names_what_latency_depends_on() -> None:
    info = probe()
    assert info.cpu
    assert info.cpu_threads == available_threads() >= 1
    assert info.versions["python"] == platform.python_version()
    assert {"torch", "onnxruntime"} <= set(info.versions)
    assert socket.gethostname() not in info.model_dump_json()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_cpu", "another CPU"),
        ("available_threads", 3),
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
