"""A segmenter in both runtimes: the class map that a device needs, and the logits behind it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.backends import Array, load
from pipeline.backends.torch import deployed
from pipeline.export.onnx import export_onnx
from pipeline.training.checkpoint import load_checkpoint
from tests.backends.conftest import PARAMS
from tests.tiny import CLASSES, awake, save

NAMES = ["micro-n-sem.yaml", "yolo26n-sem.yaml", "pspnet-mobilenet", "deeplabv3plus-resnet18", "unet-mobilenet"]


@pytest.fixture(scope="module", params=NAMES)
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an untrained segmenter of each family."""
    return save(tmp_path_factory.mktemp("segmenters") / "toy", awake(request.param, "segment"), "segment")


@pytest.fixture(scope="module")
def exported(segmenter: Path) -> Path:
    out = segmenter.with_suffix(".onnx")
    export_onnx(segmenter, out, PARAMS)
    return out


def images(count: int) -> Array:
    """Noise of another brightness in each quarter, so that the answer has regions."""
    rng = np.random.default_rng(0)
    light = np.kron(rng.random((count, 1, 2, 2), dtype=np.float32), np.ones((1, 1, 32, 32), np.float32))
    return light * rng.random((count, 3, 64, 64), dtype=np.float32)


def test_load__torch_and_onnxruntime_agree_on_a_segmenter(segmenter: Path, exported: Path) -> None:
    reference, other = load(segmenter, threads=1), load(exported, threads=1)
    assert reference.metadata == other.metadata
    assert (other.metadata.task, other.metadata.classes, other.metadata.end2end) == ("segment", CLASSES, False)
    stride = reference.metadata.strides[0]
    for count in (3, 1):
        for backend in (reference, other):
            shapes = [(output.shape, output.dtype) for output in backend(images(count))]
            grid = (count, len(CLASSES), 64 // stride, 64 // stride)
            assert shapes == [((count, 64, 64), np.uint8), (grid, np.float32)]
        (classes, logits), (found, answered) = reference(images(count)), other(images(count))
        assert (classes == found).mean() > 0.999
        np.testing.assert_allclose(answered, logits, atol=2e-3)
        assert len(np.unique(classes)) > 1


def test_deployed__the_class_map_is_the_likeliest_class_of_the_enlarged_logits(segmenter: Path) -> None:
    model, info = load_checkpoint(segmenter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        classes, logits = deployed(model)(torch.from_numpy(images(2)))
        torch.testing.assert_close(logits, model(torch.from_numpy(images(2))), rtol=1e-3, atol=1e-3)
    size = info.image_size_px
    full = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
    top = full.topk(2, dim=1).values
    clear = top[:, 0] - top[:, 1] > 1e-4
    assert torch.equal(classes[clear], full.argmax(dim=1)[clear].to(torch.uint8))
    assert clear.float().mean() > 0.99
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_load__a_segmenters_answer_depends_on_the_image(exported: Path) -> None:
    classes, logits = load(exported, threads=1)(images(2))
    assert not np.array_equal(classes[0], classes[1])
    assert np.abs(logits[0] - logits[1]).max() > 0.01
