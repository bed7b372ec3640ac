"""INT8 as the exported file computes it, inside a model that trains: fake quantization by hooks.

Symmetric int8 with zero point 0: weights per output channel, activations per tensor at the inputs of every convolution
and linear layer. The head's output layers stay in float, and so does every bias.

What ships has BatchNorm folded into its convolutions. The hooks quantize the unfolded weight, which is the same: a
channel's scale follows its largest weight, so a factor per channel leaves the int8 numbers as they are.
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

RANGES: Final = "activation_ranges.json"
LOWEST, HIGHEST = -128, 127
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

Ranges = dict[str, float]  # module path -> largest magnitude of its input


def fake_quantize(x: Tensor, max_abs: Tensor) -> Tensor:
    """Round to int8 and back: the numbers of ONNX's QuantizeLinear and DequantizeLinear.

    The gradient is 1 where x is in range and 0 where it is clipped; the scale gets none.

    Args:
        x: Any shape; computed in float32, whatever its type.
        max_abs: Magnitude that becomes 127, not below 0; broadcast against x.

    """
    scale = max_abs.detach().float() / 127
    scale = scale.where(scale >= torch.finfo(torch.float32).tiny, 1.0)  # nothing but zeros: as ONNX Runtime does
    return _FakeQuantize.apply(x.float(), scale).to(x.dtype)  # type: ignore[no-any-return,no-untyped-call]


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        levels = (x / scale).round_()  # to even, as ONNX; torch's own operators multiply by 1 / scale
        ctx.save_for_backward((levels >= LOWEST) & (levels <= HIGHEST))
        return levels.clamp_(LOWEST, HIGHEST).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


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
        The largest magnitude of each input. Layers that only training runs are left out.

    """
    found: dict[str, Tensor] = {}

    def watch(path: str, _layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        largest = arguments[0].abs().amax()
        found[path] = torch.maximum(found.get(path, largest), largest)

    layers = quantized_layers(model.eval())
    handles = [layer.register_forward_pre_hook(partial(watch, path)) for path, layer in layers.items()]
    try:
        for images in batches:
            model(images)
    finally:
        remove(handles)
    return {path: float(found[path]) for path in layers if path in found}


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


def _quantize(max_abs: float, layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Let the layer read quantized numbers: its attribute `weight` hides the parameter until the layer has run."""
    weight, images = layer.weight, arguments[0]
    assert isinstance(weight, Tensor)
    channel = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    largest = weight.detach().abs().amax([axis for axis in range(weight.ndim) if axis != channel], keepdim=True)
    layer.__dict__["weight"] = fake_quantize(weight, largest)
    return (fake_quantize(images, torch.full((), max_abs, device=images.device)), *arguments[1:])


def _restore(layer: nn.Module, *_call: Any) -> None:
    layer.__dict__.pop("weight", None)


def write_ranges(folder: Path, ranges: Ranges) -> None:
    """Write `activation_ranges.json` beside a checkpoint, atomically."""
    write_text(folder / RANGES, json.dumps(ranges, indent=2) + "\n")


def read_ranges(folder: Path) -> Ranges:
    """Read `activation_ranges.json`.

    Raises:
        PipelineError: if it is missing, or is not a table of numbers.

    """
    path, fix = folder / RANGES, "run `dvc repro qat` or `dvc checkout` to restore it"
    try:
        return {str(name): float(max_abs) for name, max_abs in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: {fix}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise PipelineError(f"{path}: expected a table of module paths and numbers ({error}): {fix}") from None
