"""Measure this bundle's models in ONNX Runtime on this device's CPU, and write records/FINGERPRINT.json.

    python3 benchmark.py [--seconds 5] [--threads N]

Needs Python 3.10, numpy and onnxruntime. Batch 1, host array to host array: no decoding, letterboxing or NMS. Models
take turns of a quarter of a second, so that a machine that slows down slows all of them; the first two runs of a turn
are not counted. `sh benchmark.sh` measures TensorRT instead where trtexec is.

The record names the device by what its speed depends on: CPU, threads, GPU, driver and versions, whose digest is the
fingerprint. It holds no clock and no host name. On the pipeline's machine: python -m pipeline import-records FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    sys.exit(f"benchmark.py: {error}: install numpy and onnxruntime")

ROOT = Path(__file__).resolve().parent
SKIPPED = {"int8-tensorrt"}  # for TensorRT only: ONNX Runtime's optimiser computes it wrongly
TURN_S, UNCOUNTED = 0.25, 2
PACKAGES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "openvino": ("openvino",),
}


def probe() -> dict[str, Any]:
    """Describe the device as pipeline/device.py does: equal devices give equal fingerprints."""
    gpu, driver = _gpu()
    facts = {
        "cpu": _cpu(),
        "cpu_threads": _threads(),
        "gpu": gpu,
        "gpu_driver": driver,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return {**facts, "fingerprint": digest[:16]}


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    cpuinfo, board = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    if board.exists():
        return board.read_text().strip("\0\n ")
    return platform.processor() or platform.machine()


def _gpu() -> tuple[str | None, str | None]:
    rows = [
        line.split(",") for line in _answer("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    ]
    if not rows or any(len(row) != 2 for row in rows):
        return None, None
    names = [name.strip() for name, _ in rows]
    counts = {name: names.count(name) for name in names}
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in counts.items()), rows[0][1].strip()


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


def _answer(*command: str) -> list[str]:
    """Run a program; its lines, none where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()]


def read_state() -> dict[str, str]:
    """Read power mode and clocks, as far as this device tells them."""
    state = {}
    for line in _answer("nvpmodel", "-q"):
        if "Power Mode:" in line:
            state["power_mode"] = line.split(":", 1)[1].strip()
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        state["cpu_governor"] = governor.read_text().strip()
    return state


def measure(sessions: dict[str, Any], image: Any, seconds: float) -> dict[str, list[float]]:
    """Time every session until each has run for its seconds; milliseconds per run."""
    runs: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        _turn(session, image)  # warm-up
    while any(sum(times) < seconds * 1000 for times in runs.values()):
        for name, session in sessions.items():
            runs[name] += _turn(session, image)[UNCOUNTED:]
    return runs


def _turn(session: Any, image: Any) -> list[float]:
    feed = {session.get_inputs()[0].name: image}
    times: list[float] = []
    end = perf_counter() + TURN_S
    while len(times) <= UNCOUNTED or perf_counter() < end:
        start = perf_counter()
        session.run(None, feed)
        times.append((perf_counter() - start) * 1000)
    return times


def timing(precision: str, runs: list[float]) -> dict[str, Any]:
    """Sum up one model's runs as a row of the record."""
    p50, p90, p99 = np.percentile(runs, [50, 90, 99])
    return {
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "precision": precision,
        "batch_size": 1,
        "runs": len(runs),
        "mean_ms": float(np.mean(runs)),
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "compute_p50_ms": None,
    }


def open_session(model: Path, threads: int) -> Any:
    """Open an ONNX file on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Measure, print a row per model, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="per model (default 5)")
    parser.add_argument("--threads", type=int, default=_threads(), help="CPU threads (default: all of this process)")
    arguments = parser.parse_args()
    bundle = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    files = [path for path in sorted((ROOT / "models").glob("*.onnx")) if path.stem not in SKIPPED]
    sessions = {path.stem: open_session(path, arguments.threads) for path in files}
    size = bundle["image_size_px"]
    image = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    rows = [timing(*item) for item in measure(sessions, image, arguments.seconds).items()]
    for row in rows:
        p50, p99 = row["p50_ms"], row["p99_ms"]
        print(f"onnxruntime {row['precision']}: p50 {p50:.3f} ms, p99 {p99:.3f} ms over {row['runs']} runs")
    device = probe()
    keys = ("task", "student", "checkpoint_digest", "image_size_px", "commit")
    record = {
        "format": 1,
        **{key: bundle[key] for key in keys},
        "threads": arguments.threads,
        "device": device,
        "state": read_state(),
        "timings": rows,
    }
    out = ROOT / "records" / f"{device['fingerprint']}.json"
    out.parent.mkdir(exist_ok=True)
    partial = out.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    partial.replace(out)
    print(out.relative_to(ROOT))


if __name__ == "__main__":
    main()
