"""Export a trained student in every precision, measure each file, and refuse what is not the model that was trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from pipeline.backends import Array, Backend, load
from pipeline.data.prepared import PreparedDataset
from pipeline.export.fp16 import write_half
from pipeline.export.gate import Trained, check_gate, draw_least_alike, measure, parity_table
from pipeline.export.modelopt import quantize_with_modelopt
from pipeline.export.onnx import export_onnx
from pipeline.export.quantize import TENSORRT, calibrate, quantize, quantize_for_tensorrt, use_learned_ranges
from pipeline.export.sensitivity import describe, rank_layers
from pipeline.preprocess import letterbox, load_image
from pipeline.records import Parity, write_record
from pipeline.training.fake_quant import read_ranges

RANGES: Final = "activation-ranges.json"
RANKED_ON: Final = 8  # images
WAYS_OUT: Final = (
    "Or go on without such a file (export.precisions), accept the loss (export.max_drop), or, for a trial run of a "
    "model that is hardly trained, let no drop fail the stage (export.enforce_max_drop: false)"
)


def export_student(
    trained: Trained, out: Path, records: Path, scratch: Path, modelopt_python: str | None = None
) -> None:
    """Write `<precision>.onnx` for each precision, with its accuracy on the test split and its parity with torch.

    Beside `int8.onnx`, which is for CPUs, `int8-tensorrt.onnx` has signed activations and half-precision floats: what
    TensorRT takes. ONNX Runtime runs it for the parity alone. Where the student was fine-tuned for INT8, both are made
    of that.

    Args:
        trained: The student.
        out: Folder for the ONNX files.
        records: Folder for their records.
        scratch: Folder for what a person needs after a failure.
        modelopt_python: Interpreter of ModelOpt's environment; None: this one.

    Raises:
        PipelineError: if a file costs more of the main score than `export.max_drop` allows, unless
            `export.enforce_max_drop` is false.

    """
    ranges = scratch / RANGES
    files = _write_files(trained, out, ranges, modelopt_python or sys.executable)
    measured = [measure(trained, _load(file), file.stat().st_size / 1e6) for file in files]
    parities = [parity for _, parity in measured]
    if trained.export.enforce_max_drop:
        check_gate(parities, "\n".join(_advice(trained, out, ranges, parities)))
    else:
        print(parity_table(parities), file=sys.stderr)
    for accuracy, parity in measured:
        write_record(records / f"parity-{parity.runtime}.json", parity)
        if parity.precision in trained.export.precisions:
            write_record(records / f"accuracy-{accuracy.runtime}.json", accuracy)


def _write_files(trained: Trained, out: Path, ranges: Path, modelopt_python: str) -> list[Path]:
    params = trained.export
    fp32, fp16, int8, signed = (out / f"{name}.onnx" for name in ("fp32", "fp16", "int8", TENSORRT))
    export_onnx(trained.checkpoint, fp32, params)
    files = [fp32]
    if "fp16" in params.precisions:
        write_half(fp32, fp16)
        files.append(fp16)
    if "int8" in params.precisions:
        source = fp32 if trained.qat is None else ranges.with_name("qat.onnx")
        if trained.qat is not None:
            export_onnx(trained.qat, source, params)
        calibrate(source, _calibration(trained.dataset), params.int8, ranges)
        if trained.qat is not None:
            use_learned_ranges(source, ranges, read_ranges(trained.qat))
        quantize(source, ranges, int8, params.int8)
        if params.int8.quantizer == "modelopt":
            quantize_with_modelopt(source, _calibration(trained.dataset), signed, params.int8, modelopt_python)
        else:
            quantize_for_tensorrt(source, ranges, signed, params.int8)
        files += [int8, signed]
    return files


def _load(file: Path) -> Backend:
    """Load a file in ONNX Runtime; what is TensorRT's it computes rightly without its optimizer alone."""
    return load(file, runtime="onnxruntime_unoptimized" if file.stem == TENSORRT else "onnxruntime")


def _calibration(dataset: PreparedDataset) -> Iterator[Array]:
    """Yield the calibration images as the network gets them."""
    return (letterbox(load_image(path), dataset.info.image_size_px)[0] for path in dataset.calibration_images)


def _advice(trained: Trained, out: Path, ranges: Path, parities: list[Parity]) -> Iterator[str]:
    """Draw the worst images of each file that failed, and rank the layers where int8 is among them."""
    failed = [parity for parity in parities if parity.verdict == "failed"]
    for parity in failed:
        exported = _load(out / f"{parity.precision}.onnx")
        yield draw_least_alike(ranges.parent, trained, exported, parity)
    if any(parity.precision == "fp32" for parity in failed):
        yield "fp32 should be equal to torch: try another export.opset"
    if any(parity.precision == "int8" for parity in failed):
        params, images = trained.export.int8, list(islice(_calibration(trained.dataset), RANKED_ON))
        yield describe(rank_layers(out / "fp32.onnx", ranges, images, params, trained.evaluate))
        yield "Or try another export.int8.calibration, or fine-tune the student with quantization: qat.enabled"
    if failed:
        yield WAYS_OUT
