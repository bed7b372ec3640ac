"""Export a trained student, measure what was exported, and refuse it if it is not the model that was trained."""

from __future__ import annotations

from pathlib import Path

from pipeline.backends import load
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.parity import check_gate, compare
from pipeline.export.onnx import export_onnx
from pipeline.params import Evaluate, Export
from pipeline.records import Accuracy, read_record, write_record


def export_student(
    checkpoint: Path, out: Path, records: Path, *, dataset: PreparedDataset, export: Export, evaluation: Evaluate
) -> None:
    """Write `fp32.onnx`, its accuracy on the test split and its parity with torch.

    Args:
        checkpoint: The student's.
        out: Folder for the ONNX file.
        records: Folder with `accuracy-torch.json`; gets the accuracy and parity of the ONNX file.
        dataset: The prepared dataset.
        export: Section `export`.
        evaluation: Section `evaluate`.

    Raises:
        PipelineError: if the main score differs by more than `export.max_drop`; nothing is written to `records`.

    """
    file = out / "fp32.onnx"
    export_onnx(checkpoint, file, export)
    model, exported = load_info(checkpoint).model_info(), load(file)
    trained = read_record(records / "accuracy-torch.json", Accuracy)
    size_mb = round(file.stat().st_size / 1e6, 4)
    accuracy = evaluate(exported, dataset, "test", evaluation, model=model, size_mb=size_mb)
    parity = compare(
        load(checkpoint),
        exported,
        dataset,
        "test",
        accuracy=(trained, accuracy),
        export=export,
        evaluate=evaluation,
    )
    check_gate(parity)
    write_record(records / f"accuracy-{exported.runtime}.json", accuracy)
    write_record(records / f"parity-{exported.runtime}.json", parity)
