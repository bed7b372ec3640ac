"""Accuracy of a trained checkpoint, or the note that it was not asked for."""

from __future__ import annotations

from pathlib import Path

from pipeline.backends import load
from pipeline.checkpoint_info import SKIPPED, WEIGHTS, load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.evaluation.accuracy import evaluate
from pipeline.params import Evaluate, Machine
from pipeline.records import Skipped, read_record, write_record
from pipeline.training.devices import backend_device


def evaluate_checkpoint(
    folder: Path, dataset: PreparedDataset, params: Evaluate, machine: Machine, record: Path
) -> None:
    """Measure a checkpoint on the test split with torch and write the record.

    Args:
        folder: A checkpoint, or a folder with `skipped.json`, which then becomes the record.
        dataset: The prepared dataset.
        params: Section `evaluate`.
        machine: Section `machine`, for the device.
        record: The file to write.

    """
    if (folder / SKIPPED).exists():
        write_record(record, read_record(folder / SKIPPED, Skipped))
        return
    backend = load(folder, device=backend_device(machine.device))
    size_mb = round((folder / WEIGHTS).stat().st_size / 1e6, 4)
    model = load_info(folder).model_info()
    accuracy = evaluate(backend, dataset, "test", params, model=model, size_mb=size_mb, detailed=True)
    write_record(record, accuracy)
