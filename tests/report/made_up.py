"""Records, histories and a dataset as a run leaves them, without training anything."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.data.prepared import IGNORE, DatasetInfo, SplitInfo
from pipeline.records import (
    Accuracy,
    BackendBuild,
    BatchLatency,
    Blocks,
    Conditions,
    DetectionDetails,
    DeviceInfo,
    EngineRecord,
    Latency,
    Load,
    ModelInfo,
    OperatingPoint,
    OutputError,
    Parity,
    Robustness,
    Role,
    RuntimeLatency,
    Skipped,
    Timing,
    WarmUp,
    write_record,
)
from pipeline.tasks import Task

CLASSES = ["circle", "square", "triangle", "star"]
TASK_CLASSES: dict[Task, list[str]] = {"detect": CLASSES, "segment": ["background", *CLASSES]}
SHIFT = {"teacher": 0.0, "control": -0.16, "distilled": -0.107}
DIGEST = "5e7d1c0a9b42"
CORRUPTIONS = {"fog": 0.9, "jpeg": 0.95, "gaussian_noise": 0.6}  # share of the score that severity 1 leaves


def write_model(
    root: Path, task: Task, name: str, role: Role, *, level: float, p50_ms: float | None, fingerprint: str
) -> None:
    """Write a model's records; `level` is the teacher's main score."""
    folder = root / "results" / task / (name if role == "teacher" else f"{name}/{role}")
    info = ModelInfo(
        task=task, name=name, role=role, architecture="scenes-m" if role == "teacher" else "scenes-n",
        params_m=2.5893 if role == "teacher" else 0.3127, image_size_px=128, digest="d" * 12,
    )  # fmt: skip
    score, size = level + SHIFT[role], 10.4 if role == "teacher" else 1.31
    runtimes = ["torch", "onnxruntime-fp32"] if role == "distilled" else ["torch"]
    for runtime in runtimes:
        value = score - (0.0003 if runtime != "torch" else 0)
        place = folder if runtime == "torch" else folder.parent / "export"
        write_record(place / f"accuracy-{runtime}.json", accuracy(info, runtime, size, value))
        write_record(folder / f"robustness-{runtime}.json", robustness(info, runtime, value))
    if role == "distilled":
        write_record(folder.parent / "export/parity-onnxruntime-fp32.json", parity(info, score))
        built = EngineRecord(model=info, device=device(fingerprint), builds=builds())
        write_record(folder.parent / "engine/engine.json", built)
    if p50_ms is not None:
        timings = [runtime_latency(runtime, p50_ms * (0.45 if runtime != "torch" else 1)) for runtime in runtimes]
        latency = Latency(
            model=info, device=device(fingerprint), threads=2, batch_size=1, runtimes=timings,
            load=Load(average=0.2, cpus=2), before=conditions(), after=conditions(),
        )  # fmt: skip
        write_record(root / "results/latency" / task / f"{name}.json", latency)
    write_history(folder / "history.csv", score, role)


def write_skipped_control(root: Path, task: Task, name: str) -> None:
    for record in ("accuracy-torch", "robustness-torch"):
        skipped = Skipped(skipped="control.enabled is false in params.yaml")
        write_record(root / f"results/{task}/{name}/control/{record}.json", skipped)


def accuracy(info: ModelInfo, runtime: str, size_mb: float, score: float) -> Accuracy:
    scores: dict[str, float | None] = {
        "detect": {
            "map50_95": score, "map50": min(1, score * 1.38), "map75": score * 1.07, "map_small": score * 0.61,
            "map_medium": score * 1.1, "map_large": None, "precision": score * 1.2, "recall": score, "f1": score * 1.1,
        },
        "segment": {"miou": score, "pixel_accuracy": min(1, score * 1.4), "boundary_f": score * 0.8},
    }[info.task]  # type: ignore[assignment]  # fmt: skip
    return Accuracy(
        model=info, runtime=runtime, size_mb=size_mb, split="test", images=200, dataset=DIGEST, scores=scores,
        per_class={name: score + 0.06 * (index - 1.5) for index, name in enumerate(TASK_CLASSES[info.task])},
        details=details(score) if info.task == "detect" and runtime == "torch" else None,
    )  # fmt: skip


def details(score: float) -> DetectionDetails:
    return DetectionDetails(
        confidence=0.41,
        operating_points={name: OperatingPoint(precision=score, recall=score, f1=score) for name in CLASSES},
        precision_at_recall={name: [max(0.0, 1 - i / 100 / score) for i in range(101)] for name in CLASSES},
        confusions={**{name: {name: 31, "": 5} for name in CLASSES}, "": {"circle": 9}},
    )


def robustness(info: ModelInfo, runtime: str, score: float) -> Robustness:
    corrupted = {
        name: {str(severity): score * share**severity for severity in (1, 3, 5)} for name, share in CORRUPTIONS.items()
    }
    mean = float(np.mean([value for scores in corrupted.values() for value in scores.values()]))
    return Robustness(
        model=info, runtime=runtime, split="test", images=100, dataset=DIGEST, seed=0, clean=score,
        corrupted=corrupted, mean_corrupted=mean, relative=mean / score,
    )  # fmt: skip


def parity(info: ModelInfo, score: float) -> Parity:
    has_boxes = info.task == "detect"
    return Parity(
        model=info, runtime="onnxruntime-fp32", images=16, agreement=0.9991,
        max_box_error_px=0.0042 if has_boxes else None, max_score_error=0.00013 if has_boxes else None,
        least_alike=["0.png"], score_torch=score, score_exported=score - 0.0003, drop=0.0003, max_drop=0.002,
        outputs=[OutputError(name="scores" if has_boxes else "logits", max_abs=3.1e-4, relative_l2=1.9e-6)],
    )  # fmt: skip


def builds() -> list[BackendBuild]:
    return [
        BackendBuild(
            backend="onnxruntime", precision="fp32", status="built", reason=None, version="1.32.0",
            file="artifacts/detect/nano/export/fp32.onnx", size_mb=1.31,
        ),
        BackendBuild(
            backend="tensorrt", precision="fp32", status="skipped", reason="no NVIDIA device on this machine",
            version=None, file=None, size_mb=None,
        ),
    ]  # fmt: skip


def device(fingerprint: str) -> DeviceInfo:
    return DeviceInfo(
        cpu="Imaginary CPU 3.0 GHz", cpu_threads=2, gpu=None, gpu_driver=None, fingerprint=fingerprint,
        versions={"onnxruntime": "1.32.0", "torch": "2.15.0"},
    )  # fmt: skip


def runtime_latency(runtime: str, p50_ms: float) -> RuntimeLatency:
    def timing(share: float) -> Timing:
        mid = p50_ms * share
        return Timing(mean_ms=mid * 1.04, std_ms=mid * 0.12, p50_ms=mid, p90_ms=mid * 1.15, p99_ms=mid * 1.4)

    warmup = WarmUp(seconds=0.8, stable=True)
    batch = BatchLatency(
        batch_size=4, runs=104, infer=timing(2.8), throughput_per_s=4000 / (p50_ms * 2.8), warmup=warmup,
        blocks=Blocks(count=12, min_ms=p50_ms * 2.7, max_ms=p50_ms * 2.9),
    )  # fmt: skip
    return RuntimeLatency(
        runtime=runtime, runs=412, preprocess=timing(0.08), infer=timing(0.8), postprocess=timing(0.12),
        total=timing(1), throughput_per_s=1000 / (p50_ms * 1.04), warmup=warmup,
        blocks=Blocks(count=12, min_ms=p50_ms * 0.98, max_ms=p50_ms * 1.03), batches=[batch],
    )  # fmt: skip


def conditions() -> Conditions:
    return Conditions(
        cpu_governor="performance", power_mode=None, clocks_mhz={"cpu": 3000.0}, temperatures_c={"x86_pkg_temp": 51.0},
        power_limits_w={},
    )  # fmt: skip


def write_history(path: Path, score: float, role: str, epochs: int = 40) -> None:
    rng = np.random.default_rng(len(role))
    extra = ["train/high", "train/low", "train/distill_share"] if role == "distilled" else []
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["epoch", "train/one_loss", "train/two_loss", *extra, "val/score", "learning_rate"])
        for epoch in range(1, epochs + 1):
            grown = score * (1 - np.exp(-epoch / 9)) + rng.normal(0, 0.006)
            fallen = [2.2 * np.exp(-epoch / 14) + 0.9, 1.8 * np.exp(-epoch / 11) + 0.5]
            distil = [0.8 * np.exp(-epoch / 10) + 0.3, 0.3 * np.exp(-epoch / 20) + 0.1, 0.2 + 0.1 / epoch][: len(extra)]
            writer.writerow([epoch, *np.round([*fallen, *distil], 5), round(grown, 5), 0.002])


def write_prompt_history(path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = ["iteration,task_loss,task_loss_plain,overlap"]
    for i in range(1, 201):
        plain = 2.0 + rng.normal(0, 0.1)
        rows.append(f"{i},{plain + 0.1 + np.exp(-i / 60):.5f},{plain:.5f},{0.98 * np.exp(-i / 90):.5f}")
    path.write_text("\n".join(rows) + "\n")


def write_dataset(root: Path, tasks: set[Task]) -> None:
    """Write three images per split with the labels of the tasks; a mask is 1/4 circle, 1/4 without a label."""
    for folder in ("images", "labels", "masks", "splits"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :4], mask[4:, 4:] = 1, IGNORE
    splits = {}
    for index, split in enumerate(("train", "val", "test")):
        names = [f"scene-{index}{number:04d}" for number in range(3)]
        for name in names:
            (root / "images" / f"{name}.png").touch()
            if "detect" in tasks:
                (root / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n2 0.3 0.3 0.1 0.1\n")
            if "segment" in tasks:
                cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
        (root / "splits" / f"{split}.txt").write_text("".join(f"images/{name}.png\n" for name in names))
        splits[split] = SplitInfo(images=3, boxes=6 if "detect" in tasks else 0, digest=f"{index}" * 12)
    (root / "calibration.txt").write_text("images/scene-00000.png\n")
    values: dict[str, Any] = {
        "source": "scenes", "licence": "CC0-1.0", "image_size_px": 128, "splits": splits, "digest": DIGEST,
        "classes": CLASSES if "detect" in tasks else [],
        "mask_classes": TASK_CLASSES["segment"] if "segment" in tasks else [],
    }  # fmt: skip
    (root / "dataset.json").write_text(DatasetInfo.model_validate(values).model_dump_json(indent=2))
