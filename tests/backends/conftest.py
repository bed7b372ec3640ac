"""One tiny untrained checkpoint of each kind of head, and its ONNX file."""

from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from models import build
from pipeline.export.onnx import export_onnx
from pipeline.params import Export
from pipeline.training.checkpoint import save_checkpoint

SIZE = 64
PARAMS = Export(opset=17, dynamic_batch=True, max_ap_drop=0.002, parity_images=4)


def awake(name: str) -> DetectionModel:
    """Build a model whose random weights answer to the image: BatchNorm has seen noise, the class bias is gone."""
    model = build(name, ["circle", "square", "star"], seed=0)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(4, 3, SIZE, SIZE))
        head = model.model[-1]
        for branch in (head.cv3, getattr(head, "one2one_cv3", None) or ()):
            for level in branch:
                level[-1].bias.zero_()
    return model.eval()


@pytest.fixture(scope="session", params=["micro-n.yaml", "yolo26n.yaml"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends") / request.param
    save_checkpoint(
        folder, awake(request.param), name="toy", role="teacher", image_size_px=SIZE, best_epoch=1, made_by="test"
    )
    return folder


@pytest.fixture(scope="session")
def onnx_file(checkpoint: Path) -> Path:
    out = checkpoint.with_suffix(".onnx")
    export_onnx(checkpoint, out, PARAMS)
    return out
