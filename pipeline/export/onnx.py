"""A checkpoint as an ONNX file that says what it is: checked, slimmed, and the same bytes for the same weights."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any, Final

import onnx
import onnxslim
import torch
from torch import Tensor, nn
from ultralytics.nn.modules import C2f
from ultralytics.nn.tasks import BaseModel

from pipeline.backends.torch import deployed
from pipeline.checkpoint_info import CheckpointInfo
from pipeline.export.graph import PRODUCER, nodes_of, save_graph
from pipeline.features import output_layers
from pipeline.params import Export
from pipeline.preprocess import DESCRIPTION
from pipeline.tasks import Task
from pipeline.training.checkpoint import load_checkpoint

INPUT: Final = "images"
OUTPUTS: Final[dict[Task, list[str]]] = {"detect": ["output0"], "segment": ["class_map", "logits"]}
LICENCE: Final = "AGPL-3.0"
MAX_DETECTIONS: Final = 300  # rows of an end2end output, Ultralytics' default


def export_onnx(checkpoint_folder: Path, out: Path, params: Export) -> None:
    """Write a checkpoint as an fp32 ONNX file.

    Input `images` (N, 3, S, S) float32 RGB in [0, 1]. A detector's output `output0`: (N, min(300, A), 6) xyxy, score,
    class, best first, where the head needs no NMS; else (N, 4 + classes, A) with centre x, centre y, width, height, in
    pixels of the S x S input. A segmenter's: `class_map` (N, S, S) uint8, what a device needs, and `logits`
    (N, classes, h, w) at the head's stride, for parity. N is 1, or free with `params.dynamic_batch`. The metadata holds
    one JSON value per key: what `pipeline.backends` and a device need, the digest of the weights, and the layers that
    quantization leaves in float (`float_layers`, paths of modules); no date, path or host name.

    Args:
        checkpoint_folder: What a training stage wrote.
        out: The file; written whole or not at all.
        params: Opset and batch axis.

    Raises:
        PipelineError: if the folder is not a checkpoint.
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: if the exporter made an invalid graph, a bug.

    """
    model, info = load_checkpoint(checkpoint_folder)
    size = info.image_size_px
    ready = _exportable(model, size)
    with torch.inference_mode():
        answer = ready(torch.zeros(1, 3, size, size))
    outputs = dict(zip(OUTPUTS[info.task], answer if isinstance(answer, tuple) else (answer,), strict=True))
    graph = onnxslim.slim(_traced(ready, size, list(outputs), params))
    _pin_outputs(graph, outputs, params.dynamic_batch)
    float_layers = [layer for layer in output_layers(model) if nodes_of(graph, [layer])]
    save_graph(graph, out, {**_properties(info), "float_layers": float_layers})


def _exportable(model: BaseModel, size: int) -> nn.Module:
    """Copy a model and set what Ultralytics' exporter sets before it traces."""
    ready: Any = deployed(model)
    if hasattr(model.model[-1], "cv2"):
        head = ready.model[-1]
        head.format = "onnx"
        head.dynamic = False  # anchors are constants: the image size is fixed, only the batch may be free
        head.max_det = min(MAX_DETECTIONS, sum((size // int(stride)) ** 2 for stride in model.stride))
    for module in ready.modules():
        if isinstance(module, C2f):
            module.forward = module.forward_split  # Split instead of two slices
    return ready  # type: ignore[no-any-return]


def _traced(model: nn.Module, size: int, outputs: list[str], params: Export) -> onnx.ModelProto:
    """Trace with the TorchScript exporter, whose graphs are equal from run to run."""
    axes = {name: {0: "batch"} for name in (INPUT, *outputs)} if params.dynamic_batch else None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer warnings about shapes that are constants here
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, size, size),),
            f"{folder}/traced.onnx",
            opset_version=params.opset,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
        return onnx.load(f"{folder}/traced.onnx")


def _pin_outputs(graph: onnx.ModelProto, outputs: dict[str, Tensor], dynamic_batch: bool) -> None:
    for described in graph.graph.output:
        output = outputs[described.name]
        sides = ["batch" if dynamic_batch else 1, *output.shape[1:]]
        kind = onnx.helper.np_dtype_to_tensor_dtype(output.numpy().dtype)
        described.CopyFrom(onnx.helper.make_tensor_value_info(described.name, kind, sides))


def _properties(info: CheckpointInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "task": info.task,
        "classes": info.classes,
        "image_size_px": info.image_size_px,
        "strides": info.strides,
        "end2end": info.end2end,
        "precision": "fp32",
        "preprocessing": DESCRIPTION,
        "checkpoint_digest": info.digest,
        "licence": LICENCE,
        "producer": PRODUCER,
    }
