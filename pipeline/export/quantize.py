"""INT8 as explicit Q/DQ, by ONNX Runtime's static quantization: one calibration, two files.

For CPUs (ONNX Runtime, OpenVINO) activations are uint8, on the grids of `pipeline.int8`: OpenVINO computes signed ones
wrongly on most CPUs. For TensorRT they are int8 with zero point 0, and it takes no others. In both, weights are int8
per output channel, activations have one scale per tensor, and biases and everything that is no convolution or matrix
product stay in float. So do the head's output layers and what decodes them: one int8 scale cannot span pixels up to
the image's side and scores up to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorData, create_calibrator, load_tensors_data, save_tensors_data
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from rich.progress import track

from pipeline.backends import Array
from pipeline.errors import PipelineError
from pipeline.export.fp16 import write_half
from pipeline.export.graph import module_path, nodes_of, properties_of, save_graph
from pipeline.int8 import activation_grid, weight_scales
from pipeline.params import Int8
from pipeline.text import PlainConsole

OPERATORS: Final = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
METHODS: Final = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
TENSORRT: Final = "int8-tensorrt"  # precision and name of the file for it
AT_ONCE: Final = 8  # images whose activations are in memory together
CHANNELS: Final = {"Conv": 0, "ConvTranspose": 1}  # axis of a weight's output channels
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
    name = onnx.load(source, load_external_data=False).graph.input[0].name
    remaining = iter(track(images, description="calibration", console=PlainConsole(stderr=True)))
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # it prints a line per chunk
        calibrator = create_calibrator(
            source, OPERATORS, f"{folder}/augmented.onnx", METHODS[params.calibration],
            extra_options={"symmetric": False, "percentile": params.percentile},
        )  # fmt: skip
        while chunk := list(islice(remaining, AT_ONCE)):
            calibrator.collect_data(_Reader(name, chunk))
        save_tensors_data(calibrator.compute_data(), ranges)


def use_learned_ranges(source: Path, ranges: Path, learned: Mapping[str, tuple[float, float]]) -> None:
    """Put the ranges that a student was fine-tuned with in the place of calibrated ones.

    Args:
        source: The fp32 ONNX file of the fine-tuned student.
        ranges: What `calibrate` wrote; changed in place. What no layer reads, such as attention's products, stays.
        learned: Path of a layer -> the lowest and the highest value of its input.

    """
    tensors = load_tensors_data(ranges)
    for node in onnx.load(source, load_external_data=False).graph.node:
        found = learned.get(module_path(node.name))
        if found is not None and node.op_type in OPERATORS and node.input[0] in tensors:
            lowest, highest = map(np.float32, found)
            tensors[node.input[0]] = TensorData(lowest=lowest, highest=highest)
    save_tensors_data(tensors, ranges)


def quantize(source: Path, ranges: Path, out: Path, params: Int8, only: Sequence[str] | None = None) -> None:
    """Write a file's Q/DQ version for ONNX Runtime and OpenVINO, with unsigned activations.

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
    nodes = _nodes(graph, params, source) if only is None else list(only)
    options = {**OPTIONS, "ActivationSymmetric": False, "TensorQuantOverrides": _unsigned(graph, ranges, nodes)}
    properties = {**properties_of(graph), "precision": "int8"}
    save_graph(_quantized(graph, ranges, params, nodes, QuantType.QUInt8, options), out, properties)


def quantize_for_tensorrt(source: Path, ranges: Path, out: Path, params: Int8) -> None:
    """Write a file's Q/DQ version for TensorRT, with signed activations and half-precision floats.

    Args:
        source: As of `quantize`; likewise `ranges`, `params` and what is raised.
        ranges: What `calibrate` wrote.
        out: The file.
        params: Section `export.int8`.

    """
    graph = onnx.load(source)
    properties, nodes = properties_of(graph), _nodes(graph, params, source)
    with TemporaryDirectory() as folder:
        signed = Path(folder) / "signed.onnx"
        save_graph(_quantized(graph, ranges, params, nodes, QuantType.QInt8, OPTIONS), signed, properties)
        write_half(signed, out, TENSORRT)


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


def _nodes(graph: ModelProto, params: Int8, source: Path) -> list[str]:
    for layer in params.float_layers:
        _require_layer(graph, layer, source)
    return quantizable(graph, params)


def _unsigned(graph: ModelProto, ranges: Path, nodes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the grids of what some nodes read, as ONNX Runtime's quantizer takes them: by the tensor's name."""
    tensors, taken = load_tensors_data(ranges), set(nodes)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    grids: dict[str, list[dict[str, Any]]] = {}
    for node in [node for node in graph.graph.node if node.name in taken]:
        for name in node.input[:2]:
            if name not in weights:
                lowest, highest = (float(np.ravel(end)[0]) for end in tensors[name].range_value)
                scale, zero = activation_grid(lowest, highest)
                grids[name] = [_grid(scale, zero, QuantType.QUInt8, np.uint8)]
            elif node.op_type in CHANNELS:
                axis = CHANNELS[node.op_type]
                scales = weight_scales(numpy_helper.to_array(weights[name]), axis)
                grids[name] = [{"axis": axis, **_grid(scale, 0, QuantType.QInt8, np.int8)} for scale in scales]
    return grids


def _grid(scale: Any, zero: int, kind: QuantType, dtype: type) -> dict[str, Any]:
    return {"quant_type": kind, "scale": np.array(scale, np.float32), "zero_point": np.array(zero, dtype)}


def _quantized(
    graph: ModelProto, ranges: Path, params: Int8, nodes: Sequence[str], activations: QuantType, options: dict[str, Any]
) -> ModelProto:
    add_pre_process_metadata(graph)  # the exporter has inferred its shapes; without it the quantizer warns
    with TemporaryDirectory() as folder:
        quantized = Path(folder) / "quantized.onnx"
        quantize_static(
            graph, quantized, None,
            quant_format=QuantFormat.QDQ, op_types_to_quantize=OPERATORS, per_channel=True,
            activation_type=activations, weight_type=QuantType.QInt8, nodes_to_quantize=list(nodes),
            calibrate_method=METHODS[params.calibration], calibration_cache_path=ranges, extra_options=options,
        )  # fmt: skip
        graph = onnx.load(quantized)
    ONNXModel(graph).topological_sort()
    return graph


def _require_layer(graph: onnx.ModelProto, layer: str, source: Path) -> None:
    if nodes_of(graph, [layer]):
        return
    known = sorted({module_path(node.name) for node in graph.graph.node if node.op_type in OPERATORS})
    raise PipelineError(
        f"export.int8.float_layers: {source.name} has no module {layer!r}; its layers are {', '.join(known)}"
    )
