"""What a latency depends on, read from the machine: no clock, no host name, so equal devices give equal records.

Also how many threads this process may use, and the one place that tells every library so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Final

from pipeline.digest import value_digest
from pipeline.records import DeviceInfo

CPUINFO: Final = Path("/proc/cpuinfo")
CGROUPS: Final = Path("/sys/fs/cgroup")
CGROUP: Final = Path("/proc/self/cgroup")
THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")
BLAS_SETTERS: Final = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads")  # of numpy's wheels
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
        "cpu_threads": _cpus(),
        "gpu": gpu,
        "gpu_driver": driver,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    return DeviceInfo.model_validate({**facts, "fingerprint": value_digest(facts)})


def available_threads() -> int:
    """Count the threads that this process may use, at least 1.

    The least of its CPU affinity, its containers' CPU quota (rounded up), OMP_NUM_THREADS and OMP_THREAD_LIMIT.
    """
    return max(1, min([_cpus(), *_quotas(), *_asked()]))


def limit_threads(limit: int) -> None:
    """Let this process and those that it starts use at most so many threads; 0 sets no limit.

    OMP_NUM_THREADS and the CPUs stay the cap. Leaves OpenCV alone: data loaders fork, which its threads do not survive.
    """
    threads = available_threads() if limit == 0 else min(limit, available_threads())
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def set_threads(threads: int) -> None:
    """Let OpenCV, numpy's BLAS and, where it is imported, torch compute with exactly so many threads.

    Sessions of ONNX Runtime and OpenVINO have thread counts of their own. Importing Ultralytics resets OpenCV's, and
    torch starts with OMP_NUM_THREADS: call this after such an import.
    """
    if find_spec("cv2") is not None:  # what only runs a TensorRT engine does without
        import cv2

        cv2.setNumThreads(threads)
    _set_blas_threads(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def _set_blas_threads(threads: int) -> None:
    """Tell the OpenBLAS of numpy's wheels; another BLAS keeps what OMP_NUM_THREADS said when numpy was imported."""
    spec = find_spec("numpy")
    places = spec.submodule_search_locations if spec else None
    for place in places or []:
        for library in Path(place).parent.glob("numpy.libs/*openblas*"):
            handle = ctypes.CDLL(str(library))
            for setter in BLAS_SETTERS:
                if hasattr(handle, setter):
                    getattr(handle, setter)(threads)


def _cpus() -> int:
    """Count the CPUs of this process's affinity, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _asked() -> list[int]:
    """Read OpenMP's variables; `4,2` is for nested regions, the first counts. What is no number is ignored."""
    texts = [os.environ.get(name, "").partition(",")[0].strip() for name in THREAD_VARIABLES]
    return [int(text) for text in texts if text.isdecimal() and int(text) > 0]


def _quotas() -> list[int]:
    """Read the CPU quotas of this process's control group and of those above it, of version 1 or 2."""
    try:
        lines = [line.split(":", 2) for line in CGROUP.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, name in (line for line in lines if len(line) == 3):
        if controllers not in {"", "cpu", "cpu,cpuacct", "cpuacct,cpu"}:
            continue
        root = CGROUPS / controllers
        group = root / name.lstrip("/")
        for folder in [group, *(parent for parent in group.parents if parent.is_relative_to(root))]:
            found += _quota(folder)
    return found


def _quota(group: Path) -> list[int]:
    """Read one control group's quota in CPUs, rounded up; empty where it has none."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()  # `max 100000`: no quota
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return [ceil(int(quota) / int(period))] if int(quota) > 0 and int(period) > 0 else []
    except (OSError, ValueError):
        return []


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
