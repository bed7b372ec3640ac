"""How much of its accuracy a model keeps on corrupted images (Michaelis et al., 2019: mPC and rPC)."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from statistics import mean

from pipeline.backends import Backend, load
from pipeline.checkpoint_info import SKIPPED, load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.evaluation.accuracy import SCORERS, require_same_classes
from pipeline.evaluation.corruptions import corrupt
from pipeline.evaluation.inference import Change
from pipeline.params import Evaluate, RobustnessParams
from pipeline.preprocess import Image
from pipeline.records import ModelInfo, Robustness, Skipped, read_record, write_record
from pipeline.tasks import main_score


def measure_robustness(
    backend: Backend, dataset: PreparedDataset, params: RobustnessParams, evaluate: Evaluate, model: ModelInfo
) -> Robustness:
    """Score a model on the first test images as they are, and under each corruption and severity.

    An image is corrupted alike for every model: the random numbers come from the seed and the image itself.
    """
    require_same_classes(backend, dataset)
    images = dataset.images("test")[: params.images]

    def score(label: str, change: Change | None = None) -> float:
        name = f"{model.label} {backend.runtime}, {label}"
        scores, *_ = SCORERS[model.task](backend, dataset, images, evaluate, name, change)
        return scores[main_score(model.task)] or 0.0

    clean = score("clean")
    corrupted: dict[str, dict[str, float]] = {
        name: {
            str(severity): score(f"{name} {severity}", partial(_corrupted, name, severity, params.seed))
            for severity in params.severities
        }
        for name in params.corruptions
    }
    mean_corrupted = mean(value for scores in corrupted.values() for value in scores.values())
    return Robustness(
        model=model,
        runtime=backend.runtime,
        split="test",
        images=len(images),
        dataset=dataset.info.splits["test"].digest,
        seed=params.seed,
        clean=clean,
        corrupted=corrupted,
        mean_corrupted=mean_corrupted,
        relative=mean_corrupted / clean if clean else 0.0,
    )


def record_robustness(
    checkpoint: Path,
    records: Path,
    *,
    dataset: PreparedDataset,
    params: RobustnessParams,
    evaluate: Evaluate,
    device: str,
    exported: Path | None = None,
) -> None:
    """Measure a checkpoint, and the ONNX file made from it, and write `robustness-<runtime>.json`.

    Args:
        checkpoint: A checkpoint, or a folder with `skipped.json`, which then becomes the record.
        records: The folder to write to.
        dataset: The prepared dataset.
        params: Section `robustness`; without corruptions the records say that nothing was asked for.
        evaluate: Section `evaluate`.
        device: Of the torch backend; ONNX Runtime runs on the CPU.
        exported: The ONNX file, or None.

    """
    paths = {"torch": checkpoint} | ({} if exported is None else {"onnxruntime-fp32": exported})
    for runtime, path in paths.items():
        record = records / f"robustness-{runtime}.json"
        if not params.corruptions:
            write_record(record, Skipped(skipped="robustness.corruptions is empty in params.yaml"))
        elif (checkpoint / SKIPPED).exists():
            write_record(record, read_record(checkpoint / SKIPPED, Skipped))
        else:
            backend = load(path, device if runtime == "torch" else "cpu")
            model = load_info(checkpoint).model_info()
            write_record(record, measure_robustness(backend, dataset, params, evaluate, model))


def _corrupted(name: str, severity: int, seed: int, image: Image) -> Image:
    return corrupt(image, name, severity, seed + zlib.crc32(image.tobytes()))
