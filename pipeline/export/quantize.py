"""INT8 as explicit Q/DQ that TensorRT, ONNX Runtime and OpenVINO take, by ONNX Runtime's static quantization.

int8 with zero point 0, weights per output channel, activations per tensor, biases and everything that is no
convolution or matrix product in float. The head's output layers and what decodes them stay in float as well: one int8
scale cannot span pixels up to the image's side and scores up to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import (
    HistogramCollector,
    TensorData,
    create_calibrator,
    load_tensors_data,
    save_tensors_data,
)
from onnxruntime.quantization.onnx_model import ONNXModel

from pipeline.backends import Array
from pipeline.errors import PipelineError
from pipeline.export.graph import module_path, nodes_of, properties_of, save_graph
from pipeline.params import Int8

OPERATORS: Final = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
METHODS: Final = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
AT_ONCE: Final = 8  # images whose activations are in memory together
OPTIONS: Final = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": False,  # int8 weights in the file
    "QuantizeBias": False,  # TensorRT's parser takes no int32 DequantizeLinear
    "OpTypesToExcludeOutputQuantization": OPERATORS,  # else nothing fuses a convolution with its activation
}


def calibrate(source: Path, images: Iterable[Array], params: Int8, ranges: Path) -> None:
    """Measure the range of every activation that will be quantized.

    Args:
        source: An fp32 ONNX file of this pipeline.
        images: (3, S, S) float32, as the network gets them.
        params: The method: minmax takes all that was seen, percentile cuts outliers off, entropy loses the least
            information (Kullback-Leibler).
        ranges: The JSON file to write, for `quantize`.

    """
    with TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            source, OPERATORS, f"{folder}/augmented.onnx", METHODS[params.calibration],
            extra_options={"symmetric": True, "percentile": params.percentile},
        )  # fmt: skip
        if params.calibration != "minmax":
            calibrator.collector = _Collector(
                calibrator.method, calibrator.symmetric, calibrator.num_bins, calibrator.num_quantized_bins,
                calibrator.percentile, calibrator.scenario,
            )  # fmt: skip
        name = onnx.load(source, load_external_data=False).graph.input[0].name
        remaining = iter(images)
        while chunk := list(islice(remaining, AT_ONCE)):
            calibrator.collect_data(_Reader(name, chunk))
        save_tensors_data(calibrator.compute_data(), ranges)


def use_learned_ranges(source: Path, ranges: Path, learned: Mapping[str, float]) -> None:
    """Put the ranges that a student was fine-tuned with in the place of calibrated ones.

    Args:
        source: The fp32 ONNX file of the fine-tuned student.
        ranges: What `calibrate` wrote; changed in place. What no layer reads, such as attention's products, stays.
        learned: Path of a layer -> the largest magnitude of its input.

    """
    tensors = load_tensors_data(ranges)
    for node in onnx.load(source, load_external_data=False).graph.node:
        largest = learned.get(module_path(node.name))
        if largest is not None and node.op_type in OPERATORS and node.input[0] in tensors:
            tensors[node.input[0]] = TensorData(lowest=np.float32(-largest), highest=np.float32(largest))
    save_tensors_data(tensors, ranges)


def quantize(source: Path, ranges: Path, out: Path, params: Int8, only: Sequence[str] | None = None) -> None:
    """Write a file's Q/DQ version.

    Args:
        source: An fp32 ONNX file of this pipeline; its metadata names the head's output layers.
        ranges: What `calibrate` wrote.
        out: The file.
        params: `float_layers`: modules that stay in float beside the head's outputs.
        only: Names of nodes; all others stay in float.

    Raises:
        PipelineError: if `float_layers` names a module that the model has not.

    """
    graph = onnx.load(source)
    properties = properties_of(graph)
    for layer in params.float_layers:
        _require_layer(graph, layer, source)
    quantized_nodes = quantizable(graph, params) if only is None else list(only)
    with TemporaryDirectory() as folder:
        quantized = Path(folder) / "quantized.onnx"
        quantize_static(
            graph, quantized, None,
            quant_format=QuantFormat.QDQ, op_types_to_quantize=OPERATORS, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            nodes_to_quantize=quantized_nodes,
            calibrate_method=METHODS[params.calibration], calibration_cache_path=ranges, extra_options=OPTIONS,
        )  # fmt: skip
        graph = onnx.load(quantized)
    ONNXModel(graph).topological_sort()
    save_graph(graph, out, {**properties, "precision": "int8"})


def quantizable(graph: onnx.ModelProto, params: Int8) -> list[str]:
    """List the names of the nodes that `quantize` quantizes."""
    kept = set(nodes_of(graph, [*properties_of(graph)["float_layers"], *params.float_layers]))
    constants = {tensor.name for tensor in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type in OPERATORS and node.name not in kept]
    return [node.name for node in products if not any(_is_computed(name, constants) for name in node.input)]


def _is_computed(name: str, constants: set[str]) -> bool:
    """Tell a constant that the exporter computed, such as a pooling matrix, from a weight: it is named by its node."""
    return name in constants and name.startswith("/")


class _Reader(CalibrationDataReader):
    """Hands the calibrator one image after the other."""

    def __init__(self, name: str, images: Sequence[Array]) -> None:
        self.inputs: Iterator[dict[str, Array]] = iter([{name: image[None]} for image in images])

    def get_next(self) -> dict[str, Array] | None:
        """Return the next image as a batch of one, None after the last."""
        return next(self.inputs, None)


class _Collector(HistogramCollector):
    """Counts a zero with each tensor, which a symmetric range holds anyway.

    numpy makes no histogram of values that differ by a rounding error alone, as those of a dead layer may.
    """

    def collect(self, name_to_arr: dict[str, list[npt.NDArray[np.float32]]]) -> None:
        """Add activations by tensor name."""
        zero = np.zeros(1, np.float32)
        super().collect({name: np.concatenate([*map(np.ravel, found), zero]) for name, found in name_to_arr.items()})


def _require_layer(graph: onnx.ModelProto, layer: str, source: Path) -> None:
    if nodes_of(graph, [layer]):
        return
    known = sorted({module_path(node.name) for node in graph.graph.node if node.op_type in OPERATORS})
    raise PipelineError(
        f"export.int8.float_layers: {source.name} has no module {layer!r}; its layers are {', '.join(known)}"
    )
