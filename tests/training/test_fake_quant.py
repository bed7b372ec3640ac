"""Fake quantization against ONNX Runtime, its gradient, and the plain model around it."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.quant_utils import quantize_nparray
from torch import Tensor, nn

from models import build
from pipeline.errors import PipelineError
from pipeline.export.onnx import export_onnx
from pipeline.features import output_layers
from pipeline.int8 import activation_grid, weight_scales
from pipeline.params import Params
from pipeline.tasks import Task
from pipeline.training.fake_quant import (
    RANGES,
    Ranges,
    fake_quantize,
    fake_quantize_input,
    fake_quantize_weight,
    insert,
    observe,
    quantized_layers,
    read_ranges,
    remove,
    write_ranges,
)
from tests.tiny import CLASSES, SIZE_PX, awake, save


def session_of(nodes: list[Any], constants: dict[str, np.ndarray[Any, Any]]) -> onnxruntime.InferenceSession:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def onnx_pair(x: Tensor, scale: Any, zero: Any, axis: int = 0) -> Tensor:
    """Run QuantizeLinear and DequantizeLinear in ONNX Runtime."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
    ]
    session = session_of(nodes, {"scale": np.asarray(scale), "zero": zero})
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("lowest", [0.0, -0.07, -1.0])
@pytest.mark.parametrize("highest", [1e-30, 3e-5, 0.37, 1.0, 127.0, 911.3])
def test_fake_quantize__of_activations_is_onnx_runtimes_bit_for_bit(lowest: float, highest: float) -> None:
    scale, zero = activation_grid(lowest * highest, highest)
    spread = torch.randn(40_000) * highest * 2
    ties = (torch.arange(-300, 300) + 0.5) * float(scale)
    x = torch.cat([spread, ties, torch.tensor([0.0, -0.0, highest, -highest, 1e30, -1e30])])
    found = fake_quantize_input(x, lowest * highest, highest)
    assert torch.equal(found, onnx_pair(x, scale, np.array(zero, np.uint8)))
    assert found.unique().numel() == 256


@pytest.mark.parametrize("axis", [0, 1])
def test_fake_quantize__of_weights_is_onnx_runtimes_bit_for_bit(axis: int) -> None:
    weight = torch.randn(32, 32, 3, 3) * torch.logspace(-6, 2, 32).view([-1 if a == axis else 1 for a in range(4)])
    weight.select(axis, 3).zero_()
    scales = weight_scales(weight.numpy(), axis)
    assert scales[3] == 1
    found = fake_quantize_weight(weight, axis)
    assert torch.equal(found, onnx_pair(weight, scales, np.zeros(32, np.int8), axis))
    for channel in (0, 3, 17):
        stored = quantize_nparray(
            TensorProto.INT8, weight.select(axis, channel).numpy(), scales[channel], np.int8(0), -127, 127
        )
        assert np.array_equal(found.select(axis, channel).numpy(), stored * scales[channel])


def test_fake_quantize__a_channel_of_one_weight_takes_all_levels() -> None:
    weight = torch.randn(8, 1, 1, 1)
    torch.testing.assert_close(fake_quantize_weight(weight, 0), weight)


def test_fake_quantize__a_factor_per_channel_leaves_the_int8_numbers_as_they_are() -> None:
    """So the unfolded weight is quantized as the one with BatchNorm folded in."""
    weight, factor = torch.randn(64, 32, 3, 3), torch.randn(64, 1, 1, 1) * 5
    unfolded, folded = factor * fake_quantize_weight(weight, 0), fake_quantize_weight(factor * weight, 0)
    torch.testing.assert_close(unfolded, folded, rtol=1e-6, atol=0)


def test_fake_quantize__gradient_is_one_inside_and_zero_where_it_clips() -> None:
    x = torch.tensor([0.0, 0.4, -1.0, 1.0, 1.02, -1.01, -5.0, 3.0], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0) / 127).backward(torch.full((8,), 3.0))
    assert x.grad is not None
    assert x.grad.tolist() == [3, 3, 3, 3, 0, 3, 0, 0]  # -1.01 still rounds to -128, 1.02 to 130


def test_fake_quantize__outliers_are_kept_as_far_as_levels_reach() -> None:
    x = torch.tensor([1.3, 1.5, -0.1], requires_grad=True)
    found = fake_quantize_input(x, 0.0, 1.0)
    found.sum().backward()
    assert found.tolist() == pytest.approx([1.3, 255 / 181, 0.0], abs=0.003)
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0, 0]


def test_fake_quantize__zeros_stay_zeros_and_train() -> None:
    x = torch.zeros(5, requires_grad=True)
    found = fake_quantize_input(x, 0.0, 0.0)
    found.sum().backward()
    assert found.tolist() == [0] * 5
    assert x.grad is not None
    assert x.grad.tolist() == [1] * 5


def test_fake_quantize__keeps_half_precision() -> None:
    x = torch.randn(100).half()
    found = fake_quantize_input(x, -1.0, 2.0)
    assert found.dtype == torch.float16
    assert torch.equal(found, fake_quantize_input(x.float(), -1.0, 2.0).half())


# -- in a model

MODELS: dict[str, Task] = {
    "micro-n.yaml": "detect",
    "yolo26n.yaml": "detect",
    "micro-n-sem.yaml": "segment",
    "yolo26n-sem.yaml": "segment",
    "pspnet-mobilenet": "segment",
}
each_model = pytest.mark.parametrize("name", MODELS)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIZE_PX, SIZE_PX)


def answer(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found = model(x)
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]


@each_model
def test_quantized_layers__are_all_but_the_heads_outputs(name: str) -> None:
    model = build(name, MODELS[name], CLASSES, seed=0)
    kept = {path for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    assert kept - set(quantized_layers(model)) == set(output_layers(model))
    head = f"model.{len(model.model) - 1}."
    float_paths = {
        "micro-n.yaml": "cv2.0.2 cv2.2.2 cv3.0.2 cv3.2.2 dfl.conv",
        "yolo26n.yaml": "cv2.1.2 cv3.1.2 one2one_cv2.0.2 one2one_cv3.2.2",
        "micro-n-sem.yaml": "classifier.1",
        "yolo26n-sem.yaml": "classifier.1",
        "pspnet-mobilenet": "classifier",
    }[name]
    assert not {head + path for path in float_paths.split()} & set(quantized_layers(model))
    assert {head + path for path in float_paths.split()} <= kept


@each_model
def test_insert__quantizes_a_copy_too_and_removal_gives_the_plain_model_back(name: str) -> None:
    model, x = awake(name, MODELS[name]), images()
    plain, state, keys = answer(model, x), deepcopy(model.state_dict()), list(model.state_dict())
    handles = insert(model, observe(model, [x]))
    quantized = answer(model, x)
    assert not torch.equal(quantized, plain)
    assert torch.equal(answer(deepcopy(model), x), quantized)
    assert list(model.state_dict()) == keys
    assert all(isinstance(layer.weight, nn.Parameter) for layer in quantized_layers(model).values())
    remove(handles)
    assert torch.equal(answer(model, x), plain)
    torch.testing.assert_close(dict(model.state_dict()), dict(state), rtol=0, atol=0)


def test_insert__a_forward_pass_that_fails_leaves_the_parameters_in_place() -> None:
    model = awake("micro-n.yaml")
    insert(model, observe(model, [images()]))
    with pytest.raises(RuntimeError):
        model(torch.rand(1, 4, SIZE_PX, SIZE_PX))
    assert all(isinstance(layer.weight, nn.Parameter) for layer in quantized_layers(model).values())


def test_insert__gradients_reach_the_plain_parameters() -> None:
    model = awake("micro-n.yaml")
    insert(model, observe(model, [images()]))
    model.train()
    parts = [part.square().sum() for part in model(images()).values() if isinstance(part, Tensor)]
    torch.stack(parts).sum().backward()
    layers = quantized_layers(model)
    assert layers
    assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in layers.values())  # type: ignore[union-attr,operator]


def test_insert__training_through_it_brings_a_coarse_student_nearer_to_its_float_self() -> None:
    model, x = awake("micro-n-sem.yaml", "segment"), images()
    target = answer(model, x)
    coarse = {path: (16 * lowest, 16 * highest) for path, (lowest, highest) in observe(model, [x]).items()}
    insert(model, coarse)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
    losses = []
    for _ in range(30):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]


def test_observe__keeps_the_range_of_all_batches_and_leaves_training_layers_out() -> None:
    model = awake("yolo26n-sem.yaml", "segment")
    dark, bright = images() / 4, images()
    ranges = observe(model, [dark, bright, dark])
    assert ranges["model.0.conv"] == (float(min(dark.min(), bright.min())), float(bright.max()))
    assert ranges == observe(model, [bright, dark])
    assert set(ranges) < set(quantized_layers(model)), "the auxiliary head runs in training alone"
    assert not any(layer._forward_pre_hooks for layer in quantized_layers(model).values())


def test_insert__every_kind_of_layer_is_quantized_along_its_output_channels() -> None:
    layers = [nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(6, 5, 2), nn.Flatten(), nn.Linear(5 * 7 * 7, 3)]
    net = nn.Sequential(nn.Sequential(*layers), nn.Identity())
    model: Any = nn.Module()
    model.model = net
    model.forward = net.forward
    ranges = observe(model, [torch.randn(2, 4, 8, 8)])
    seen: dict[str, Tensor] = {}
    insert(model, ranges)
    for path, layer in quantized_layers(model).items():
        layer.register_forward_pre_hook(lambda layer, _, path=path: seen.update({path: layer.weight}))
    net(torch.randn(2, 4, 8, 8))
    assert list(seen) == ["model.0.0", "model.0.1", "model.0.3"]
    for weight, axis in zip(seen.values(), (0, 1, 0), strict=True):
        for channel in weight.unbind(axis):
            assert channel.unique().numel() <= 255
            scale = float(weight_scales(channel.detach().numpy()[None], 0)[0])
            levels = channel / channel.abs().max() * (channel.abs().max() / scale).round()
            torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)


# -- against the file that ships


def module_of(node: str) -> str:
    """Turn `/model.22/cv2.0/cv2.0.1/conv/Conv` into `model.22.cv2.0.1.conv`: children repeat their container."""
    parts: list[str] = []
    for part in node.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def with_pairs(path: Path, ranges: Ranges) -> bytes:
    """Put Q/DQ in front of a file's convolutions: int8 weights per channel, uint8 activations by their ranges."""
    model = onnx.load(path)
    weights = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        module = module_of(node.name)
        if node.op_type == "Conv" and module in ranges:
            weight = weights[node.input[1]]
            step, zero = activation_grid(*ranges[module])
            grids = (
                (np.asarray(step), np.array(zero, np.uint8)),
                (weight_scales(weight, 0), np.zeros(len(weight), np.int8)),
            )
            for index, grid in enumerate(grids):
                name = f"{node.name}:{index}"
                for end, value in zip(("scale", "zero"), grid, strict=True):
                    model.graph.initializer.append(numpy_helper.from_array(value, f"{name}:{end}"))
                ends = [f"{name}:scale", f"{name}:zero"]
                nodes.append(helper.make_node("QuantizeLinear", [node.input[index], *ends], [f"{name}:q"], axis=0))
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}:q", *ends], [f"{name}:dq"], axis=0))
                node.input[index] = f"{name}:dq"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()  # type: ignore[no-any-return]


def far(a: Tensor, b: Tensor) -> float:
    """Return the relative L2 distance."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", ["micro-n.yaml", "micro-n-sem.yaml"])
def test_insert__computes_what_the_quantized_file_computes(name: str, params: Params, tmp_path: Path) -> None:
    model, x = awake(name, MODELS[name]), images()
    ranges, plain = observe(model, [x]), answer(model, x)
    export_onnx(save(tmp_path / "c", model, MODELS[name]), tmp_path / "fp32.onnx", params.export)
    quantized = with_pairs(tmp_path / "fp32.onnx", ranges)
    convolutions = [node for node in onnx.load_from_string(quantized).graph.node if node.op_type == "Conv"]
    in_float = [module_of(node.name) for node in convolutions if not node.input[1].endswith(":dq")]
    assert set(in_float) <= set(output_layers(model))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # others round biases too
    session = onnxruntime.InferenceSession(quantized, options, providers=["CPUExecutionProvider"])
    shipped = torch.from_numpy(session.run([session.get_outputs()[-1].name], {"images": x.numpy()})[0])
    insert(model, ranges)
    fake = answer(model, x)  # unfolded, as it trains: 1e-7 off where no value falls to the other side of a tie
    assert far(fake, shipped) < 0.3 * far(plain, shipped)


# -- the ranges' file


def test_ranges__come_back_as_they_were(tmp_path: Path) -> None:
    ranges = observe(awake("micro-n.yaml"), [images()])
    write_ranges(tmp_path, ranges)
    assert read_ranges(tmp_path) == ranges
    assert [path.name for path in tmp_path.iterdir()] == [RANGES]


@pytest.mark.parametrize(("text", "message"), [(None, "not found"), ("[1]", "expected a table"), ("{", "expected")])
def test_ranges__a_file_that_is_none_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / RANGES).write_text(text)
    with pytest.raises(PipelineError, match=rf"{RANGES}.*{message}.*dvc repro qat"):
        read_ranges(tmp_path)
