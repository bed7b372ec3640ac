"""The files that people bring: our own exports, and what is made of them with ONNX Runtime and Ultralytics."""

from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from pipeline.export.onnx import export_onnx
from tests.tiny import SIZE_PX, awake, export_params_of, save

FIXED = export_params_of(dynamic_batch=False)
HEAD_OUTPUTS = ("cv2.0.2", "cv2.1.2", "cv2.2.2", "cv3.0.2", "cv3.1.2", "cv3.2.2")


class Images(CalibrationDataReader):
    """Two random images."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.images = iter([generator.random((1, 3, SIZE_PX, SIZE_PX), dtype=np.float32) for _ in range(2)])

    def get_next(self) -> dict[str, Any]:
        image = next(self.images, None)
        return {} if image is None else {"images": image}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export a small detector with the raw head."""
    folder = tmp_path_factory.mktemp("fp32")
    export_onnx(save(folder / "toy", awake("micro-n.yaml")), folder / "fp32.onnx", FIXED)
    return folder / "fp32.onnx"


@pytest.fixture(scope="session")
def int8(fp32: Path) -> Path:
    """Quantise symmetrically: int8 weights per channel, int8 activations per tensor, bias and head outputs in float."""
    ready, out = fp32.with_name("ready.onnx"), fp32.with_name("int8.onnx")
    quant_pre_process(fp32, ready)
    names = [node.name for node in onnx.load(ready).graph.node]
    quantize_static(
        ready,
        out,
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul"],
        nodes_to_exclude=[name for name in names if any(part in name for part in HEAD_OUTPUTS)],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": False,
            "QuantizeBias": False,
        },
    )
    return out


@pytest.fixture(scope="session")
def uint8(fp32: Path) -> Path:
    """Quantise with ONNX Runtime's type for x86, unsigned activations."""
    out = fp32.with_name("uint8.onnx")
    quantize_static(fp32, out, Images(), activation_type=QuantType.QUInt8, op_types_to_quantize=["Conv"])
    return out


@pytest.fixture(scope="session")
def defaults(fp32: Path) -> Path:
    """Quantise as Ultralytics' exporter does: ONNX Runtime's defaults on the layers with weights."""
    out = fp32.with_name("defaults.onnx")
    others = [node.name for node in onnx.load(fp32).graph.node if node.op_type not in {"Conv", "Gemm", "MatMul"}]
    quantize_static(fp32, out, Images(), nodes_to_exclude=others)
    return out


@pytest.fixture(scope="session")
def fp16(fp32: Path) -> Path:
    """Convert to FP16 between float32 inputs and outputs, nodes in order."""
    model = convert_float_to_float16(onnx.load(fp32), keep_io_types=True)
    nodes = list(model.graph.node)
    maker = {name: number for number, node in enumerate(nodes) for name in node.output}
    order = TopologicalSorter(
        {number: [maker[name] for name in node.input if name in maker] for number, node in enumerate(nodes)}
    )
    ordered = [nodes[number] for number in order.static_order()]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    onnx.save(model, fp32.with_name("fp16.onnx"))
    return fp32.with_name("fp16.onnx")
