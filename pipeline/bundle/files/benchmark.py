"""Measure this bundle's models in ONNX Runtime on this device's CPU, and write records/FINGERPRINT-SETTING.json.

    python3 benchmark.py [--seconds 5] [--threads N]

Needs Python 3.10, numpy and onnxruntime, and pillow to feed the bundle's samples: noise without it. Batch 1, host array
to host array: no decoding, letterboxing or NMS. Each model runs until its median rests, 5 seconds at most; then models
take turns of a quarter of a second, so that a machine that slows down slows all of them. The first two runs of a turn
are not counted. A percentile is left out where fewer than ten runs lie beyond it: the 99th needs 1000.
`sh benchmark.sh` measures TensorRT instead where trtexec is.

The record names the device by what its speed depends on: CPU, threads, GPU, driver and versions, whose digest is the
fingerprint. It holds no clock and no host name; another power mode or thread count is another record. On the pipeline's
machine: python -m pipeline import-records FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    sys.exit(f"benchmark.py: {error}: install numpy and onnxruntime")
try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent
SKIPPED = {"int8-tensorrt"}  # for TensorRT only: ONNX Runtime's optimiser computes it wrongly
TURN_S, UNCOUNTED = 0.25, 2
WARMUP_S, TOLERANCE = (
    (0.5, 5.0),
    0.05,
)  # at rest: two turns' medians this close, as a share; at least and at most so long
REPORT_S = 10.0  # between two lines of progress
LEAST_RUNS = {"p90_ms": 100, "p99_ms": 1000}
MODES = ("power_mode", "gpu_power_limit", "cpu_governor")  # of the state: they set the speed
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


def _default_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(_threads(), int(asked)) if asked.isdecimal() and int(asked) > 0 else _threads()


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


def load_images(size: int) -> tuple[list[Any], str]:
    """Read the samples, letterboxed already: (1, 3, size, size) float32 each; noise without samples or pillow."""
    paths = sorted((ROOT / "samples").glob("*.png")) if Image is not None else []
    images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    arrays = [np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255) for image in images]
    if arrays and all(array.shape == (1, 3, size, size) for array in arrays):
        return arrays, "samples"
    return [np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)], "noise"


def warm_up(session: Any, images: Any) -> dict[str, Any]:
    """Run a session until the medians of two turns agree."""
    start = perf_counter()
    medians: list[float] = []
    while True:
        seconds = perf_counter() - start
        stable = len(medians) > 1 and abs(medians[-1] - medians[-2]) <= TOLERANCE * medians[-2]
        if seconds >= WARMUP_S[1] or (stable and seconds >= WARMUP_S[0]):
            return {"seconds": seconds, "stable": stable}
        medians.append(median(_turn(session, images)))


def measure(sessions: dict[str, Any], images: Any, seconds: float) -> dict[str, list[list[float]]]:
    """Give every session turns until each has run for its seconds; milliseconds per run, turn by turn."""
    turns: dict[str, list[list[float]]] = {name: [] for name in sessions}
    start = last = perf_counter()
    spent = dict.fromkeys(sessions, 0.0)
    while (done := min(spent.values()) / seconds) < 1:
        for name, session in sessions.items():
            begin = perf_counter()
            turns[name].append(_turn(session, images))
            spent[name] += perf_counter() - begin
            if perf_counter() - last >= REPORT_S:
                last = perf_counter()
                print(f"{done:.0%} after {last - start:.0f} s, {name} ran", file=sys.stderr, flush=True)
    return turns


def _turn(session: Any, images: Any) -> list[float]:
    name = session.get_inputs()[0].name
    times: list[float] = []
    end = perf_counter() + TURN_S
    while len(times) <= UNCOUNTED or perf_counter() < end:
        image = next(images)
        start = perf_counter()
        session.run(None, {name: image})
        times.append((perf_counter() - start) * 1000)
    return times[UNCOUNTED:]


def timing(precision: str, turns: list[list[float]], warmup: dict[str, Any], inputs: str) -> dict[str, Any]:
    """Sum up one model's runs as a row of the record."""
    runs, medians = [time for turn in turns for time in turn], [median(turn) for turn in turns]
    p50, *tails = (float(value) for value in np.percentile(runs, [50, 90, 99]))
    row = {
        "runtime": "onnxruntime",
        "runtime_version": onnxruntime.__version__,
        "precision": precision,
        "batch_size": 1,
        "inputs": inputs,
        "runs": len(runs),
        "mean_ms": float(np.mean(runs)),
        "p50_ms": p50,
        "compute_p50_ms": None,
        "warmup": warmup,
        "blocks": {"count": len(medians), "min_ms": min(medians), "max_ms": max(medians)},
    }
    enough = {name: len(runs) >= least for name, least in LEAST_RUNS.items()}
    return row | {name: value if enough[name] else None for name, value in zip(LEAST_RUNS, tails, strict=True)}


def setting(state: dict[str, str], threads: int) -> str:
    """Digest what the speed depends on beside the device, as pipeline/bundle/device_records.py does."""
    text = "|".join([*(state.get(name, "") for name in MODES), str(threads), "1:"])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def say(row: dict[str, Any]) -> None:
    """Print a row, and what makes it doubtful."""
    tails = "".join(f", {name[:3]} {row[name]:.3f} ms" for name in LEAST_RUNS if row[name] is not None)
    print(f"onnxruntime {row['precision']}: p50 {row['p50_ms']:.3f} ms{tails} over {row['runs']} runs")
    if not row["warmup"]["stable"]:
        print("  unstable: the median was still moving after the warm-up; measure again on an idle machine")


def open_session(model: Path, threads: int) -> Any:
    """Open an ONNX file on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text}")
    return int(text)


def main() -> None:
    """Measure, print a row per model, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=_positive, default=5.0, help="per model (default 5)")
    threads = "CPU threads (default: OMP_NUM_THREADS, else all of this process)"
    parser.add_argument("--threads", type=_count, default=_default_threads(), help=threads)
    arguments = parser.parse_args()
    bundle = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    files = [path for path in sorted((ROOT / "models").glob("*.onnx")) if path.stem not in SKIPPED]
    if not files:
        sys.exit("benchmark.py: models/ has no ONNX file that ONNX Runtime can run")
    sessions = {path.stem: open_session(path, arguments.threads) for path in files}
    images, inputs = load_images(bundle["image_size_px"])
    endless = cycle(images)
    print(f"{len(sessions)} models, {arguments.threads} threads, input: {inputs}", file=sys.stderr, flush=True)
    warmups = {name: warm_up(session, endless) for name, session in sessions.items()}
    turns = measure(sessions, endless, arguments.seconds)
    rows = [timing(name, turns[name], warmups[name], inputs) for name in sessions]
    for row in rows:
        say(row)
    device, state = probe(), read_state()
    keys = ("task", "student", "checkpoint_digest", "image_size_px", "commit")
    record = {
        "format": 1,
        **{key: bundle[key] for key in keys},
        "threads": arguments.threads,
        "device": device,
        "state": state,
        "timings": rows,
    }
    out = ROOT / "records" / f"{device['fingerprint']}-{setting(state, arguments.threads)}.json"
    write(out, json.dumps(record, indent=2) + "\n")
    print(out.relative_to(ROOT))


def write(out: Path, text: str) -> None:
    """Write a file under a new name first: neither a half record nor a link that lies there gets in the way."""
    out.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=out.parent, prefix=".", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)  # temporary files are private
    Path(file.name).replace(out)


if __name__ == "__main__":
    main()
