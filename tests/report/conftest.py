"""A whole run's records, histories and dataset, made up: what the report reads, without training anything."""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.data.prepared import DatasetInfo, SplitInfo
from pipeline.params import Params
from pipeline.records import (
    Accuracy,
    BackendBuild,
    DeviceInfo,
    EngineRecord,
    Latency,
    ModelInfo,
    OutputError,
    Parity,
    Role,
    RuntimeLatency,
    Skipped,
    Timing,
    write_record,
)
from pipeline.report.build import Drawings, build_report
from pipeline.report.drawing import Boxes, MaskedImage, Scene
from pipeline.report.metrics import Metrics, Summary, build_metrics, build_summary, read_results

CLASSES = ["circle", "square", "triangle", "star"]
SHIFT = {"teacher": 0.0, "control": -0.16, "distilled": -0.107}


@dataclass(frozen=True)
class Run:
    """Where a made-up run lies."""

    results: Path
    dataset: Path
    out: Path
    params: Params
    drawings: Drawings

    def build(self) -> None:
        scratch = self.out.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        build_report(
            self.results, self.dataset, params=self.params, out=self.out, scratch=scratch, drawings=self.drawings
        )

    def write_numbers(self) -> tuple[Metrics, Summary]:
        """Write metrics.json and summary.json only: what history reads."""
        results = read_results(self.results, "detect", list(self.params.students))
        metrics, summary = build_metrics(results), build_summary(results)
        self.out.mkdir(exist_ok=True)
        (self.out / "metrics.json").write_text(json.dumps(metrics))
        (self.out / "summary.json").write_text(json.dumps(summary))
        return metrics, summary


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Give `write_run`, by default in the test's own folder."""
    return partial(write_run, tmp_path)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give a run of two students outside a git checkout, with its report built; read only."""
    run = write_run(tmp_path_factory.mktemp("report"), students=("nano", "pico"))
    run.build()
    return run


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make the test's folder a git checkout; give a function that commits all of it and returns the short hash."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a git hook that runs the tests sets them

    def git(*arguments: str) -> str:
        plain = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost", "-c", "core.hooksPath=/dev/null"]
        command = ["git", "-C", str(tmp_path), *plain, "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def commit_all(subject: str) -> str:
        git("add", "--all")
        git("commit", "--quiet", "--message", subject)
        return git("rev-parse", "--short", "HEAD")

    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text(".state/\n")
    return commit_all


def write_run(
    root: Path,
    *,
    students: tuple[str, ...] = ("nano",),
    control: bool = True,
    fingerprint: str = "cpu-a",
    ap: float = 0.612,
    p50_ms: float = 21.3,
) -> Run:
    """Write records, histories and a dataset under a folder; each student is 0.03 AP below the one before."""
    _write_model(root, "teacher", "teacher", ap=ap, p50_ms=p50_ms, fingerprint=fingerprint)
    _write_history(root / "results/detect/teacher/history.csv", ap, "teacher")
    for index, name in enumerate(students):
        level, faster = ap - 0.03 * index, 0.24 / (index + 1)
        _write_model(root, name, "distilled", ap=level, p50_ms=p50_ms * faster, fingerprint=fingerprint)
        _write_history(root / f"results/detect/{name}/distilled/history.csv", level + SHIFT["distilled"], "distilled")
        if control:
            _write_model(root, name, "control", ap=level, p50_ms=None, fingerprint=fingerprint)
            _write_history(root / f"results/detect/{name}/control/history.csv", level + SHIFT["control"], "control")
        else:
            skipped = Skipped(skipped="control.enabled is false in params.yaml")
            write_record(root / f"results/detect/{name}/control/accuracy-torch.json", skipped)
    _write_prompt_history(root / "results/detect/teacher/prompt_history.csv")
    _write_dataset(root / "dataset")
    params, drawings = fake_params(students, control=control), fake_drawings(control=control)
    return Run(root / "results", root / "dataset", root / "reports", params, drawings)


def fake_params(students: tuple[str, ...], *, control: bool) -> Params:
    training: dict[str, Any] = {
        "epochs": 40, "batch_size": 16, "optimizer": "AdamW", "learning_rate": 0.002,
        "final_learning_rate_factor": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "warmup_epochs": 1.0,
        "cosine_schedule": True, "mixed_precision": False, "close_mosaic_epochs": 5, "augment": {"fliplr": 0.5},
        "seed": 0,
    }  # fmt: skip
    return Params.model_validate(
        {
            "machine": {"device": "auto", "workers": 0},
            "prepare": {
                "source": "scenes", "path": "", "annotations": None, "image_size_px": 128, "val_fraction": 0.1,
                "test_fraction": 0.1, "calibration_images": 8, "seed": 0,
                "scenes": {"train_images": 600, "val_images": 100, "test_images": 200},
            },
            "teacher": training | {"model": "scenes-m"},
            "prompt": {
                "levels": 3, "prompts": 2, "iterations": 200, "batch_size": 16, "learning_rate": 0.01,
                "weight_decay": 0.001, "wavelet": "haar", "overlap": "dice", "overlap_weight": 1.0, "seed": 0,
            },
            "students": dict.fromkeys(students, "scenes-n"),
            "student": training,
            "control": {"enabled": control},
            "distill": {
                "method": "freekd", "weight": 1.0, "weighting": "fixed", "options": {"freekd": {"mask": "prompt"}},
            },
            "evaluate": {"batch_size": 32, "score_threshold": 0.001, "nms_iou": 0.7, "max_detections": 100},
            "export": {"opset": 17, "dynamic_batch": True, "max_ap_drop": 0.002, "parity_images": 16},
            "engine": {"backends": ["onnxruntime", "tensorrt"]},
            "benchmark": {"threads": 2, "warmup_s": 1.0, "min_time_s": 3.0, "min_runs": 100},
            "report": {"images": 2, "history_commits": 10},
        }
    )  # fmt: skip


def fake_drawings(*, control: bool = True) -> Drawings:
    rng = np.random.default_rng(0)
    scenes, masked = [], []
    for index in range(2):
        image = _texture(rng)
        corner = rng.uniform(4, 80, (4, 2))
        boxes = np.hstack([corner, corner + rng.uniform(16, 44, (4, 2))]).astype(np.float32)
        classes = np.arange(4)
        columns = ["teacher", *(["control"] if control else []), "distilled ONNX"]
        predictions = {
            name: Boxes(boxes[: 4 - c] + rng.normal(0, 2, (4 - c, 4)), classes[: 4 - c], rng.uniform(0.3, 0.98, 4 - c))
            for c, name in enumerate(columns)
        }
        scenes.append(Scene(f"scene-{index:05d}", image, Boxes(boxes, classes), predictions))
        bands = {f"level {side}": rng.uniform(0.4, 0.6, (side, side)).astype(np.float32) for side in (16, 8)}
        masked.append(MaskedImage(f"scene-{index:05d}", image, bands))
    return Drawings(CLASSES, scenes, masked)


def _texture(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    small = rng.integers(60, 200, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC))


def _write_model(root: Path, name: str, role: Role, *, ap: float, p50_ms: float | None, fingerprint: str) -> None:
    folder = root / "results/detect" / (name if role == "teacher" else f"{name}/{role}")
    info = ModelInfo(
        task="detect", name=name, role=role, architecture="scenes-m" if role == "teacher" else "scenes-n",
        params_m=2.5893 if role == "teacher" else 0.3127, image_size_px=128, digest="d" * 12,
    )  # fmt: skip
    size = 10.4 if role == "teacher" else 1.31
    runtimes = ["torch", "onnxruntime-fp32"] if role == "distilled" else ["torch"]
    for runtime in runtimes:
        value = ap + SHIFT[role] - (0.0003 if runtime != "torch" else 0)
        write_record(folder / f"accuracy-{runtime}.json", _accuracy(info, runtime, size, value))
    if role == "distilled":
        write_record(folder / "parity-onnxruntime-fp32.json", _parity(info, ap + SHIFT[role]))
        write_record(folder / "engine.json", EngineRecord(model=info, device=_device(fingerprint), builds=_builds()))
    if p50_ms is not None:
        timings = [_runtime_latency(runtime, p50_ms * (0.45 if runtime != "torch" else 1)) for runtime in runtimes]
        latency = Latency(model=info, device=_device(fingerprint), threads=2, batch_size=1, runtimes=timings)
        write_record(root / "results/latency/detect" / f"{name}.json", latency)


def _accuracy(info: ModelInfo, runtime: str, size_mb: float, ap: float) -> Accuracy:
    return Accuracy(
        model=info, runtime=runtime, size_mb=size_mb, split="test", images=200, dataset="5e7d1c0a9b42",
        map50_95=ap, map50=min(1, ap * 1.38), map75=ap * 1.07, map_small=ap * 0.61, map_medium=ap * 1.1, map_large=None,
        per_class={name: ap + 0.06 * (index - 1.5) for index, name in enumerate(CLASSES)},
    )  # fmt: skip


def _parity(info: ModelInfo, ap: float) -> Parity:
    return Parity(
        model=info, runtime="onnxruntime-fp32", images=16, matched_boxes_share=1.0, max_box_error_px=0.0042,
        max_score_error=0.00013, map50_95_torch=ap, map50_95_exported=ap - 0.0003, map50_95_drop=0.0003,
        max_map50_95_drop=0.002, outputs=[OutputError(name="output0", max_abs=3.1e-4, relative_l2=1.9e-6)],
    )  # fmt: skip


def _builds() -> list[BackendBuild]:
    return [
        BackendBuild(
            backend="onnxruntime", precision="fp32", status="built", reason=None, version="1.32.0",
            file="artifacts/nano/engines/fp32.onnx", size_mb=1.31,
        ),
        BackendBuild(
            backend="tensorrt", precision="fp32", status="skipped", reason="no NVIDIA device on this machine",
            version=None, file=None, size_mb=None,
        ),
    ]  # fmt: skip


def _device(fingerprint: str) -> DeviceInfo:
    return DeviceInfo(
        cpu="Imaginary CPU 3.0 GHz", cpu_threads=2, gpu=None, gpu_driver=None, fingerprint=fingerprint,
        versions={"onnxruntime": "1.32.0", "torch": "2.15.0"},
    )  # fmt: skip


def _runtime_latency(runtime: str, p50_ms: float) -> RuntimeLatency:
    def timing(share: float) -> Timing:
        mid = p50_ms * share
        return Timing(mean_ms=mid * 1.04, std_ms=mid * 0.12, p50_ms=mid, p90_ms=mid * 1.15, p99_ms=mid * 1.4)

    return RuntimeLatency(
        runtime=runtime, runs=412, preprocess=timing(0.08), infer=timing(0.8), postprocess=timing(0.12),
        total=timing(1), throughput_per_s=1000 / (p50_ms * 1.04),
    )  # fmt: skip


def _write_history(path: Path, ap: float, role: str, epochs: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(role))
    extra = ["train/high", "train/low", "train/distill_share"] if role == "distilled" else []
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["epoch", "train/box_loss", "train/cls_loss", *extra, "val/map50", "val/map50_95", "learning_rate"]
        )
        for epoch in range(1, epochs + 1):
            grown = ap * (1 - np.exp(-epoch / 9)) + rng.normal(0, 0.006)
            fallen = [2.2 * np.exp(-epoch / 14) + 0.9, 1.8 * np.exp(-epoch / 11) + 0.5]
            distil = [0.8 * np.exp(-epoch / 10) + 0.3, 0.3 * np.exp(-epoch / 20) + 0.1, 0.2 + 0.1 / epoch][: len(extra)]
            writer.writerow([epoch, *np.round([*fallen, *distil], 5), round(grown * 1.38, 5), round(grown, 5), 0.002])


def _write_prompt_history(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    rows = ["iteration,task_loss,task_loss_plain,overlap"]
    for i in range(1, 201):
        plain = 2.0 + rng.normal(0, 0.1)
        rows.append(f"{i},{plain + 0.1 + np.exp(-i / 60):.5f},{plain:.5f},{0.98 * np.exp(-i / 90):.5f}")
    path.write_text("\n".join(rows) + "\n")


def _write_dataset(root: Path) -> None:
    for folder in ("images", "labels", "splits"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    splits = {}
    for index, split in enumerate(("train", "val", "test")):
        names = [f"scene-{index}{number:04d}" for number in range(3)]
        for name in names:
            (root / "images" / f"{name}.png").touch()
            (root / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n2 0.3 0.3 0.1 0.1\n")
        (root / "splits" / f"{split}.txt").write_text("".join(f"images/{name}.png\n" for name in names))
        splits[split] = SplitInfo(images=3, boxes=6, digest=f"{index}" * 12)
    (root / "calibration.txt").write_text("images/scene-00000.png\n")
    info = DatasetInfo.model_validate(
        {
            "source": "scenes",
            "licence": "CC0-1.0",
            "classes": CLASSES,
            "image_size_px": 128,
            "splits": splits,
            "digest": "5e7d1c0a9b42",
        }
    )
    (root / "dataset.json").write_text(info.model_dump_json(indent=2))
