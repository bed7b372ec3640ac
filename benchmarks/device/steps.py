"""The steps of the device check, most valuable first; each writes one JSON file of what it found."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.device.workspace import SMALL, make_workspace, run_stage, stage_command

NEEDS_DEVICE: Final = 3  # exit status of a step that has nothing to run here
STUDENT: Final = "micro-s"
KEPT: Final = "trained"  # the folder beside the results in which the first step's models stay for later ones

Facts = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a step is asked: where to write, whether to run small, and where COCO128 lies."""

    out: Path
    dry: bool
    coco128: Path | None


@dataclass(frozen=True)
class Step:
    """One step: its name, its time limit in seconds, and what it does."""

    name: str
    limit_s: int
    run: Callable[[Request], Facts]


def train(request: Request) -> Facts:
    """Run the stages that train with mixed precision, and evaluate and export what they trained."""
    folder = request.out / KEPT
    shutil.rmtree(folder, ignore_errors=True)
    make_workspace(folder, SMALL if request.dry else {})
    stages = [("source",), ("prepare",), ("teacher", "detect"), ("prompt", "detect")]
    stages += [("control", STUDENT), ("distill", STUDENT)]
    stages += [("qat", STUDENT), ("evaluate_teacher", "detect"), ("evaluate", STUDENT), ("export", STUDENT)]
    facts: Facts = {"device": _device_name(), "seconds_of": {}}
    for stage in stages:
        facts["seconds_of"][" ".join(stage)] = run_stage(folder, *stage)
        _save(request, "train", facts)
    for place in ("teacher", f"{STUDENT}/control", f"{STUDENT}/distilled"):
        record = json.loads((folder / "results/detect" / place / "accuracy-torch.json").read_text())
        facts[f"{Path(place).name}_ap"] = round(record["scores"]["map50_95"], 4)
    return facts


def resume(request: Request) -> Facts:
    """Kill the distillation after an epoch, go on, and compare the checkpoint with the uninterrupted one."""
    folder = _trained(request)
    distilled = folder / f"artifacts/detect/{STUDENT}/distilled/model.json"
    before = json.loads(distilled.read_text())["digest"]
    process = subprocess.Popen(stage_command("distill", STUDENT), cwd=folder, start_new_session=True)
    states = folder / f".state/distill-{STUDENT}"
    while process.poll() is None and not any(states.glob("*/last.pt")):
        time.sleep(0.05)
    if process.poll() is not None:
        raise RuntimeError(f"the distillation ended before it could be killed, status {process.returncode}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seconds = run_stage(folder, "distill", STUDENT)
    after = json.loads(distilled.read_text())["digest"]
    return {"equal_bytes": before == after, "uninterrupted": before, "resumed": after, "seconds_of_the_rest": seconds}


def ddp(request: Request) -> Facts:
    """Average gradients over two processes, by NCCL or else gloo, and compare them with one process's."""
    from benchmarks.device.ddp import compare_backends

    return compare_backends(request.dry)


def benchmarks(request: Request) -> Facts:
    """Time the FreeKD loss and a distillation step on the GPU."""
    _require_gpu("the loss and step benchmarks measure the GPU; on a CPU run `make bench`")
    facts: Facts = {}
    for name in ("freekd_loss", "distillation_step"):
        command = [sys.executable, "-m", f"benchmarks.{name}", "--device", "cuda", "--out", str(request.out)]
        subprocess.run(command, check=True)
        facts[name] = json.loads((request.out / f"{name}.json").read_text())["rows"]
        _save(request, "benchmarks", facts)
    return facts


def rtx(request: Request) -> Facts:
    """Build TensorRT for RTX engines of the exported files; load, run, compare and time them where that works."""
    from benchmarks.device.rtx import check_file

    exported = _trained(request) / f"artifacts/detect/{STUDENT}/export"
    facts: Facts = {}
    for file in sorted(exported.glob("*.onnx")):
        facts[file.stem] = check_file(file)
        _save(request, "rtx", facts)
    return facts


def coco(request: Request) -> Facts:
    """Distill a detector at 640 px on COCO128, as far as the time goes: what counts is that it runs, and its speed."""
    if request.coco128 is None:
        print("give --coco128 DIR")
        raise SystemExit(NEEDS_DEVICE)
    size, epochs = (64, 1) if request.dry else (640, 20)
    models = ("micro-s.yaml", "micro-n.yaml") if request.dry else ("yolov8s.yaml", "yolov8n.yaml")
    changes = {
        "prepare.source": "yolo",
        "prepare.path": str(request.coco128),
        "prepare.image_size_px": size,
        "teacher.detect.model": models[0],
        "teacher.detect.epochs": epochs,
        f"students.{STUDENT}.model": models[1],
        "student.detect.epochs": epochs,
        "prompt.iterations": 4 if request.dry else 60,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_workspace(Path(temporary) / "coco", changes)
        facts: Facts = {"device": _device_name(), "image_size_px": size, "epochs": epochs, "seconds_of": {}}
        for stage in [("source",), ("prepare",), ("teacher", "detect"), ("prompt", "detect"), ("distill", STUDENT)]:
            facts["seconds_of"][" ".join(stage)] = run_stage(folder, *stage)
            _save(request, "coco", facts)
    return facts


STEPS: Final = (
    Step("train", 240, train),
    Step("resume", 120, resume),
    Step("ddp", 90, ddp),
    Step("benchmarks", 150, benchmarks),
    Step("rtx", 120, rtx),
    Step("coco", 240, coco),
)


def _trained(request: Request) -> Path:
    """Return the workspace of the first step.

    Raises:
        SystemExit: if it has not run.

    """
    folder = request.out / KEPT
    if not (folder / f"artifacts/detect/{STUDENT}/export/fp32.onnx").exists():
        sys.exit(f"{folder} has no trained student: run step train first")
    return folder


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _require_gpu(reason: str) -> None:
    import torch

    if not torch.cuda.is_available():
        print(reason)
        raise SystemExit(NEEDS_DEVICE)


def _save(request: Request, name: str, facts: Facts) -> None:
    (request.out / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=[step.name for step in STEPS])
    parser.add_argument("out", type=Path)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--coco128", type=Path)
    asked = parser.parse_args()
    request = Request(asked.out, asked.dry, asked.coco128)
    step = next(step for step in STEPS if step.name == asked.step)
    _save(request, step.name, step.run(request))


if __name__ == "__main__":
    main()
