"""Segmenters of segmentation_models_pytorch, with the interface that Ultralytics' trainer and the taps expect.

A model is cut in two: everything up to the decoder's output, and the head that reads it. The head is the last layer,
takes a list of maps and gives logits at their stride, as Ultralytics' semantic head does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils.loss import SemanticSegmentationLoss

from pipeline.errors import PipelineError
from pipeline.model_names import SEGMENTER

DECODERS: dict[str, tuple[str, dict[str, Any]]] = {  # the library's name, and options
    "pspnet": ("PSPNet", {"encoder_depth": 5}),
    "deeplabv3plus": ("DeepLabV3Plus", {}),
    "unet": ("Unet", {}),
}
PSPNET_STRIDE = (
    8  # dilated as in the paper (arXiv:1612.01105, 5.1); the library cuts the encoder at this stride instead
)
ENCODERS = {
    "resnet18": "resnet18", "resnet34": "resnet34", "resnet50": "resnet50", "resnet101": "resnet101",
    "mobilenet": "mobilenet_v2",
}  # fmt: skip
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which the encoders' weights expect
STRIDE = 32  # of the encoder's coarsest map: sides have to be multiples of it


class Body(nn.Module):
    """Encoder and decoder: (N, 3, H, W) RGB in [0, 1] to a list of one map."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder
        if hasattr(self.decoder, "psp"):
            self.decoder.psp.blocks = nn.ModuleList(PyramidBlock(block) for block in self.decoder.psp.blocks)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the decoder's output."""
        return [self.decoder(self.encoder((images - self.mean) / self.std))]


class PyramidBlock(nn.Module):
    """One grid of PSPNet's pyramid, pooled by matrices: the exporter takes no grid that does not divide the map."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.cells, self.pool = block.pool_size, block.pool  # pooling, then convolution

    def forward(self, x: Tensor) -> Tensor:
        """Average over the grid's cells, convolve, and interpolate back to the map's size."""
        height, width = int(x.shape[2]), int(x.shape[3])
        rows, columns = (_averages(side, self.cells).to(x) for side in (height, width))  # (cells, H), (cells, W)
        mixed = self.pool[1](rows @ x @ columns.transpose(0, 1))
        return F.interpolate(mixed, size=(height, width), mode="bilinear", align_corners=True)


def _averages(side: int, cells: int) -> Tensor:
    """Weigh a side's positions for each cell, as `nn.AdaptiveAvgPool2d` does: (cells, side)."""
    weights = torch.zeros(cells, side)
    for cell in range(cells):
        start, end = cell * side // cells, -(-(cell + 1) * side // cells)
        weights[cell, start:end] = 1 / (end - start)
    return weights


class Head(nn.Module):
    """The classifier: a list of one map to logits (N, classes, h, w) at the map's stride."""

    def __init__(self, network: Any, classes: int) -> None:
        super().__init__()
        self.classifier = network.segmentation_head[0]  # without its upsampling
        self.nc = classes

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return logits."""
        return self.classifier(features[0])  # type: ignore[no-any-return]


class PlainSegmenter(BaseModel):
    """An encoder, a decoder and a head."""

    def __init__(self, architecture: dict[str, Any], classes: int, pretrained: bool = False) -> None:
        import segmentation_models_pytorch as smp  # takes seconds, which no stage without such a model should wait

        super().__init__()
        encoder = ENCODERS[architecture["encoder"]]
        weights = "imagenet" if pretrained else None
        decoder, options = DECODERS[architecture["decoder"]]
        network = getattr(smp, decoder)(encoder, encoder_weights=weights, classes=classes, **options)
        if decoder == "PSPNet":
            network.encoder.make_dilated(output_stride=PSPNET_STRIDE)
        self.model = nn.Sequential(Body(network), Head(network, classes))
        self.yaml = dict(architecture)
        self.stride = torch.tensor([float(STRIDE)])
        self.task, self.save = "semantic", list[int]()

    def predict(self, images: Tensor, *_arguments: Any, **_options: Any) -> Tensor:
        """Return logits (N, classes, h, w)."""
        return self.model(images)  # type: ignore[no-any-return]

    def fuse(self, verbose: bool = True, imgsz: int = 640) -> PlainSegmenter:
        """Return itself: eager torch runs these encoders as they are."""
        return self

    def init_criterion(self) -> SemanticSegmentationLoss:
        """Build Ultralytics' loss: cross-entropy and Dice."""
        return SemanticSegmentationLoss(self)


def architecture_of(name: str) -> dict[str, Any] | None:
    """Return what a name such as `pspnet-resnet18` means, or None if it is none of these."""
    found = SEGMENTER.fullmatch(name)
    return None if found is None else {"decoder": found["decoder"], "encoder": found["encoder"]}


def require_known(architecture: dict[str, Any], source: str) -> None:
    """Refuse an architecture that names anything but a known decoder and encoder.

    Raises:
        PipelineError: naming `source` and the key at fault.

    """
    for key, known in (("decoder", DECODERS), ("encoder", ENCODERS)):
        value = architecture.get(key)
        if not isinstance(value, str) or value not in known:
            came = repr(value)[:100] if isinstance(value, str) else type(value).__name__
            raise PipelineError(f"{source}: architecture: {key}: expected one of {', '.join(known)}, got {came}")


def build_pretrained(architecture: dict[str, Any], classes: int) -> PlainSegmenter:
    """Build a segmenter whose encoder has ImageNet's weights, downloaded once.

    Raises:
        PipelineError: if they cannot be had.

    """
    try:
        return PlainSegmenter(architecture, classes, pretrained=True)
    except Exception as error:
        name = f"{architecture['decoder']}-{architecture['encoder']}"
        raise PipelineError(
            f"model {name}-imagenet: the encoder's weights could not be downloaded ({error}). On a machine without "
            f"internet, use {name} (from scratch), or copy torch's and Hugging Face's caches here"
        ) from error
