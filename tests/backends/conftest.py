"""One tiny untrained checkpoint of each kind of head, and its ONNX file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from models import build, build_from_architecture
from pipeline.export.onnx import export_onnx
from pipeline.training.checkpoint import save_checkpoint
from tests.tiny import export_params_of

SIZE = 64
PARAMS = export_params_of(parity_images=4)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch off the cores that other work is on, and give it its threads back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def awake(name: str, end2end: bool) -> DetectionModel:
    """Build a model whose random weights answer to the image, with boxes and scores of a plausible size."""
    classes = ["circle", "square", "star"]
    model = build_from_architecture(
        {**build(name, "detect", classes, seed=0).yaml, "end2end": end2end}, "detect", classes
    )
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # one batch settles its statistics
    with torch.no_grad():
        model(torch.rand(4, 3, SIZE, SIZE))
        head = model.model[-1]
        for boxes, labels in [(head.cv2, head.cv3)] + ([(head.one2one_cv2, head.one2one_cv3)] if end2end else []):
            for level in [*boxes, *labels]:
                level[-1].weight.mul_(0.3)
            for level in labels:
                level[-1].bias.zero_()
    return model.eval()


@pytest.fixture(scope="module", params=["raw", "end2end"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends") / request.param
    torch.manual_seed(0)
    model = awake("micro-n.yaml", request.param == "end2end")
    save_checkpoint(
        folder, model, task="detect", name="toy", role="teacher", image_size_px=SIZE, best_epoch=1, made_by="test"
    )
    return folder


@pytest.fixture(scope="module")
def onnx_file(checkpoint: Path) -> Path:
    out = checkpoint.with_suffix(".onnx")
    export_onnx(checkpoint, out, PARAMS)
    return out
