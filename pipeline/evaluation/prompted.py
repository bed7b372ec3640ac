"""Accuracy of the teacher whose features pass through its frequency prompts' masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.backends.torch import metadata_of, torch_backend
from pipeline.checkpoint_info import SKIPPED, WEIGHTS
from pipeline.data.prepared import PreparedDataset
from pipeline.device import available_threads
from pipeline.distill.prompt import prompted
from pipeline.evaluation.accuracy import evaluate
from pipeline.features import Features, replaced_features
from pipeline.params import Evaluate, Machine
from pipeline.records import Skipped, read_record, write_record
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.devices import backend_device
from pipeline.training.prompts import load_prompts


def evaluate_prompted(
    teacher: Path, prompts: Path, dataset: PreparedDataset, params: Evaluate, machine: Machine, record: Path
) -> None:
    """Measure the prompted teacher on the test split with torch and write the record (runtime `torch-prompted`).

    Beside the plain teacher's accuracy it says what the masked bands still hold of what the teacher needs.

    Args:
        teacher: The teacher's checkpoint.
        prompts: Folder of the prompts, or with `skipped.json`, which then becomes the record.
        dataset: The prepared dataset.
        params: Section `evaluate`.
        machine: Section `machine`, for the device.
        record: The file to write.

    """
    if (prompts / SKIPPED).exists():
        write_record(record, read_record(prompts / SKIPPED, Skipped))
        return
    model, info = load_checkpoint(teacher)
    tokens, trained = load_prompts(prompts)

    def rebuild(features: Features) -> Features:
        return [prompted(f, tokens[str(level)], trained.wavelet)[0] for level, f in enumerate(features)]

    with replaced_features(model, rebuild):  # the backend's copy of the model keeps the hook
        backend = torch_backend(model, metadata_of(info), backend_device(machine.device), available_threads())
    size_mb = round((teacher / WEIGHTS).stat().st_size / 1e6, 4)
    backend = replace(backend, runtime="torch-prompted")
    write_record(record, evaluate(backend, dataset, "test", params, model=info.model_info(), size_mb=size_mb))
