"""INT8 as the exported file computes it, inside a model that trains: fake quantization by hooks.

Activations are uint8 per tensor at the inputs of every convolution and linear layer, weights int8 per output channel,
on the grids of `int8.onnx` (`pipeline.int8`). The head's output layers stay in float, and so does every bias.

What ships has BatchNorm folded into its convolutions. The hooks quantize the unfolded weight, which is the same: a
channel's scale follows its largest weights, so a factor per channel leaves the int8 numbers as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pipeline.errors import PipelineError
from pipeline.features import output_layers
from pipeline.files import write_text
from pipeline.int8 import LARGEST_WEIGHT, LEVELS, TINY, activation_grid

RANGES: Final = "activation_ranges.json"
UNSIGNED, SIGNED = (0, 255), (-128, 127)
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

Ranges = dict[str, tuple[float, float]]  # module path -> lowest and highest value of its input


def fake_quantize(x: Tensor, scale: Tensor, zero: int = 0, levels: tuple[int, int] = SIGNED) -> Tensor:
    """Round to 8 bits and back: the numbers of ONNX's QuantizeLinear and DequantizeLinear.

    The gradient is 1 where x is in range and 0 where it is clipped; the scale gets none.

    Args:
        x: Any shape; computed in float32, whatever its type.
        scale: Above 0, float32; broadcast against x.
        zero: The level of zero.
        levels: The lowest and the highest level.

    """
    low, high = levels
    return _FakeQuantize.apply(x.float(), scale.detach(), low - zero, high - zero).to(x.dtype)  # type: ignore[no-any-return,no-untyped-call]


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        levels = (x / scale).round_()  # to even, as ONNX; torch's own operators multiply by 1 / scale
        ctx.save_for_backward((levels >= low) & (levels <= high))
        return levels.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def fake_quantize_input(x: Tensor, lowest: float, highest: float) -> Tensor:
    """Round an activation of a range to uint8 and back."""
    scale, zero = activation_grid(lowest, highest)
    return fake_quantize(x, torch.full((), float(scale), device=x.device), zero, UNSIGNED)


def fake_quantize_weight(weight: Tensor, axis: int) -> Tensor:
    """Round a weight to int8 and back, with the scales of `pipeline.int8.weight_scales`; `axis` is of the channels."""
    channels = weight.detach().float().movedim(axis, 0).flatten(1)
    pairs = torch.stack([_largest_pair(channels), _largest_pair(-channels)]).amax(0)
    scale = torch.maximum(channels.abs().amax(1) / LARGEST_WEIGHT, pairs / LEVELS)
    scale = scale.where(scale >= TINY, 1.0)
    return fake_quantize(weight, scale.reshape([-1 if place == axis else 1 for place in range(weight.ndim)]))


def _largest_pair(channels: Tensor) -> Tensor:
    return channels.clamp(min=0).topk(min(2, channels.shape[1]), dim=1).values.sum(1)


def quantized_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that INT8 reaches, by path."""
    kept = set(output_layers(model))
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LAYERS) and path not in kept}


@torch.no_grad()
def observe(model: nn.Module, batches: Iterable[Tensor]) -> Ranges:
    """Measure the inputs of the quantized layers on images.

    Args:
        model: On the device of the batches; left in eval mode.
        batches: Each (N, 3, S, S) float32 RGB in [0, 1].

    Returns:
        The lowest and the highest value of each input. Layers that only training runs are left out.

    """
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(path: str, _layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        ends = arguments[0].aminmax()
        lowest, highest = found.get(path, ends)
        found[path] = torch.minimum(lowest, ends[0]), torch.maximum(highest, ends[1])

    layers = quantized_layers(model.eval())
    handles = [layer.register_forward_pre_hook(partial(watch, path)) for path, layer in layers.items()]
    try:
        for images in batches:
            model(images)
    finally:
        remove(handles)
    return {path: (float(found[path][0]), float(found[path][1])) for path in layers if path in found}


def insert(model: nn.Module, ranges: Ranges) -> list[RemovableHandle]:
    """Quantize the layers that have a range, in place.

    Parameters, state dict and architecture stay the plain model's; a deepcopy is quantized as well.

    Returns:
        What `remove` takes.

    """
    handles = []
    for path, layer in quantized_layers(model).items():
        if path in ranges:
            handles.append(layer.register_forward_pre_hook(partial(_quantize, ranges[path])))
            handles.append(layer.register_forward_hook(_restore, always_call=True))
    return handles


def remove(handles: list[RemovableHandle]) -> None:
    """Take hooks out again."""
    for handle in handles:
        handle.remove()


def _quantize(ends: tuple[float, float], layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Let the layer read quantized numbers: its attribute `weight` hides the parameter until the layer has run."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    layer.__dict__["weight"] = fake_quantize_weight(weight, 1 if isinstance(layer, nn.ConvTranspose2d) else 0)
    return (fake_quantize_input(arguments[0], *ends), *arguments[1:])


def _restore(layer: nn.Module, *_call: Any) -> None:
    layer.__dict__.pop("weight", None)


def write_ranges(folder: Path, ranges: Ranges) -> None:
    """Write `activation_ranges.json` beside a checkpoint, atomically."""
    write_text(folder / RANGES, json.dumps(ranges, indent=2) + "\n")


def read_ranges(folder: Path) -> Ranges:
    """Read `activation_ranges.json`.

    Raises:
        PipelineError: if it is missing, or is not a table of pairs of numbers.

    """
    path, fix = folder / RANGES, "run `dvc repro qat` or `dvc checkout` to restore it"
    try:
        found = json.loads(path.read_text()).items()
        return {str(name): (float(lowest), float(highest)) for name, (lowest, highest) in found}
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: {fix}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: expected a table of module paths, each with its lowest and highest value ({error}): {fix}"
        ) from None
