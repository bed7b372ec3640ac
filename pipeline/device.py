"""What a latency depends on, read from the machine: no clock, no host name, so equal devices give equal records."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

from pipeline.digest import value_digest
from pipeline.records import DeviceInfo

CPUINFO: Final = Path("/proc/cpuinfo")
BOARD: Final = Path("/proc/device-tree/model")  # ARM boards name themselves here, their cpuinfo has no model name
NVIDIA_SMI: Final = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")

# What we call it -> the packages that provide it, the first found counts. Metadata only: nothing is imported.
PACKAGES: Final = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "openvino": ("openvino",),
}


def probe() -> DeviceInfo:
    """Read CPU, threads, GPU, driver and the versions of the runtimes.

    Returns:
        The device; `versions` has a key only for what is installed, `fingerprint` is the digest of all the rest.

    """
    gpu, driver = _gpu()
    facts = {
        "cpu": _cpu(),
        "cpu_threads": available_threads(),
        "gpu": gpu,
        "gpu_driver": driver,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    return DeviceInfo.model_validate({**facts, "fingerprint": value_digest(facts)})


def available_threads() -> int:
    """Count the CPUs that this process may use (its affinity), not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """Name the CPU or board: `AMD EPYC 7763`, `NVIDIA Jetson Orin Nano`, or at least the architecture."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    if BOARD.exists():
        return BOARD.read_text().strip("\0\n ")
    return platform.processor() or platform.machine()


def _gpu() -> tuple[str | None, str | None]:
    """Ask the NVIDIA driver for its GPUs (`2 x NVIDIA H200`) and its version; None where there is no driver."""
    try:
        answer = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
    if not rows or any(len(row) != 2 for row in rows):
        return None, None
    names = [name for name, _ in rows]
    counts = {name: names.count(name) for name in names}
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items()), rows[0][1]


def _versions() -> dict[str, str]:
    found = {}
    for name, packages in PACKAGES.items():
        for package in packages:
            try:
                found[name] = metadata.version(package)
                break
            except metadata.PackageNotFoundError:
                continue
    return found
