"""INT8 for TensorRT by NVIDIA's ModelOpt, in a process of its own: its pins exclude this pipeline's onnxruntime."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx

from pipeline.backends import Array
from pipeline.errors import PipelineError
from pipeline.export.fp16 import write_half
from pipeline.export.graph import properties_of, save_graph
from pipeline.export.quantize import OPERATORS, TENSORRT, quantizable
from pipeline.params import Int8

METHODS: Final = {"minmax": "max", "entropy": "entropy"}


def quantize_with_modelopt(source: Path, images: Iterable[Array], out: Path, params: Int8, python: str) -> None:
    """Write a file's Q/DQ version for TensorRT, with half-precision floats: pairs and scales as ModelOpt sees fit.

    Args:
        source: An fp32 ONNX file of this pipeline.
        images: (3, S, S) float32, as the network gets them; all are in memory at once.
        out: The file.
        params: `calibration`, minmax or entropy, and `float_layers`.
        python: Interpreter of an environment that has `nvidia-modelopt[onnx]`.

    Raises:
        PipelineError: with ModelOpt's last lines, if it is not there or fails.

    """
    graph = onnx.load(source)
    taken = set(quantizable(graph, params))
    kept = [node.name for node in graph.graph.node if node.op_type in OPERATORS and node.name not in taken]
    with TemporaryDirectory() as folder:
        calibration, quantized = Path(folder) / "calibration.npz", Path(folder) / "quantized.onnx"
        inputs: dict[str, Any] = {graph.graph.input[0].name: np.stack(list(images))}
        np.savez(calibration, **inputs)
        _run(
            [
                python, "-m", "modelopt.onnx.quantization", "--onnx_path", source, "--output_path", quantized,
                "--calibration_data_path", calibration, "--calibration_method", METHODS[params.calibration],
                "--calibration_eps", "cpu", "--high_precision_dtype", "fp32", "--dq_only",
                "--op_types_to_quantize", *OPERATORS, "--nodes_to_exclude", *(f"^{re.escape(name)}$" for name in kept),
            ],
            python,
        )  # fmt: skip
        signed = Path(folder) / "signed.onnx"
        save_graph(onnx.load(quantized), signed, properties_of(graph))
        write_half(signed, out, TENSORRT)


def _run(command: list[str | Path], python: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PipelineError(f"machine.modelopt_python: {python} does not run ({error})") from error
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise PipelineError(
            f"export.int8.quantizer: ModelOpt failed under {python}. It needs an environment with "
            f"nvidia-modelopt[onnx], named by machine.modelopt_python; its last words:\n{last}"
        )
