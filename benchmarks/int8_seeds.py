"""What INT8 costs students of several seeds, in each runtime that is here.

    python -m benchmarks.int8_seeds DATASET CHECKPOINT [CHECKPOINT ...]

Each checkpoint is exported as params.yaml says, and its files are measured on the test split against torch: `int8.onnx`
in ONNX Runtime and OpenVINO, and `int8-tensorrt.onnx` in ONNX Runtime without its optimizer. The record has the drop of
the main score for each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measure import record
from pipeline.backends import load
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import PreparedDataset, open_dataset
from pipeline.evaluation.accuracy import evaluate
from pipeline.export.gate import Trained, measure
from pipeline.export.student import export_student
from pipeline.params import Params
from pipeline.params_file import load_params
from pipeline.records import Parity, read_record


def drops(checkpoint: Path, dataset: PreparedDataset, params: Params) -> dict[str, object]:
    """Export and measure one checkpoint."""
    model = load_info(checkpoint).model_info()
    accuracy = evaluate(load(checkpoint), dataset, "test", params.evaluate, model=model, size_mb=0.0)
    export = params.export.model_copy(update={"enforce_max_drop": False})
    trained = Trained(checkpoint, accuracy, dataset, export, params.evaluate)
    with tempfile.TemporaryDirectory() as folder:
        out, records = Path(folder) / "export", Path(folder) / "records"
        export_student(trained, out, records, Path(folder))
        parities = [read_record(path, Parity) for path in sorted(records.glob("parity-*.json"))]
        parities.append(measure(trained, load(out / "int8.onnx", runtime="openvino"), 0.0)[1])
    found = {parity.runtime: round(parity.drop, 4) for parity in parities}
    return {"student": model.name, "checkpoint": model.digest, "torch": round(accuracy.main, 4), **found}


def main() -> None:
    """Measure all checkpoints."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    dataset, params = open_dataset(Path(sys.argv[1])), load_params()
    record("int8_seeds", [drops(Path(checkpoint), dataset, params) for checkpoint in sys.argv[2:]])


if __name__ == "__main__":
    main()
