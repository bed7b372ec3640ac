"""Segmenters by name: the own family, Ultralytics', and encoder-decoder pairs."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models import build
from models.segmenter import PyramidBlock
from pipeline.checkpoint_info import load_info
from pipeline.errors import PipelineError
from pipeline.features import features_only, head_of, head_strides
from pipeline.tasks import Task
from pipeline.training.checkpoint import load_checkpoint
from tests.tiny import CLASSES, awake, save

PLAIN = [
    f"{decoder}-{encoder}" for decoder in ("pspnet", "deeplabv3plus", "unet") for encoder in ("resnet18", "mobilenet")
]
STRIDES = {"pspnet": [8], "deeplabv3plus": [4], "unet": [1], "micro": [4, 8], "yolo26n": [8, 16]}


def strides_of(name: str) -> list[int]:
    return STRIDES[name.split("-", maxsplit=1)[0]]


@pytest.mark.parametrize(("scale", "million"), [("n", 0.1), ("s", 0.3), ("m", 0.5), ("l", 1.0)])
def test_build__the_micro_family_stays_under_a_million_parameters(scale: str, million: float) -> None:
    model = build(f"micro-{scale}-sem.yaml", "segment", CLASSES, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) < million * 1e6
    assert head_strides(model) == [4, 8]
    assert model.names == dict(enumerate(CLASSES))


@pytest.mark.parametrize("name", ["micro-n-sem.yaml", "yolo26n-sem.yaml", *PLAIN])
def test_build__one_logit_per_class_at_the_stride_of_the_finest_feature(name: str) -> None:
    model = build(name, "segment", CLASSES, seed=0).eval()
    assert head_strides(model) == strides_of(name)
    with torch.inference_mode():
        logits = model(torch.rand(2, 3, 64, 96))
    finest = strides_of(name)[0]
    assert logits.shape == (2, len(CLASSES), 64 // finest, 96 // finest)


@pytest.mark.parametrize("name", PLAIN)
def test_build__every_parameter_has_a_part_in_the_answer(name: str) -> None:
    model = build(name, "segment", CLASSES, seed=0).train().requires_grad_(True)
    model.predict(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [path for path, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["micro-n-sem.yaml", *PLAIN])
def test_build__features_are_what_the_head_reads(name: str) -> None:
    model, images = awake(name, "segment"), torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        read = head_of(model)(features_only(model, images))  # computed channels last: other rounding
        torch.testing.assert_close(read, model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["micro-n-sem.yaml", "yolo26n-sem.yaml", *PLAIN])
def test_checkpoint__gives_the_same_answers_and_names_the_model(name: str, tmp_path: Path) -> None:
    model, images = awake(name, "segment"), torch.rand(2, 3, 64, 64)
    restored, info = load_checkpoint(save(tmp_path, model, "segment"))
    with torch.inference_mode():
        torch.testing.assert_close(restored(images), model(images), rtol=0, atol=0)
    assert (info.task, info.classes, info.strides, info.end2end) == ("segment", CLASSES, strides_of(name), False)
    assert info.model_info().architecture == name.removesuffix(".yaml")
    assert restored.names == model.names


@pytest.mark.parametrize("name", ["micro-n-sem.yaml", "unet-resnet18"])
def test_build__the_seed_decides_the_weights(name: str) -> None:
    first, second, other = (build(name, "segment", CLASSES, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_build__the_encoder_reads_images_normalised_as_imagenets() -> None:
    model, seen = awake("unet-mobilenet", "segment"), []
    model.model[0].encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for colour in (mean, mean + std):
        model(colour.view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert [image.mean().item() for image in seen] == pytest.approx([0.0, 1.0], abs=1e-5)


def test_build__the_normalisation_of_the_encoder_is_no_weight() -> None:
    assert not {
        key for key in build("unet-resnet18", "segment", CLASSES, seed=0).state_dict() if "mean" in key.split(".")
    }


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        (
            "pspnet-resnet18",
            "detect",
            r"model pspnet-resnet18 is a segmenter, and the task is detect\. Expected micro-",
        ),
        (
            "micro-n-sem.yaml",
            "detect",
            r"micro-n-sem\.yaml ends in SemanticSegment, task detect needs Detect\. Expected",
        ),
        ("micro-n.yaml", "segment", r"micro-n\.yaml ends in Detect, task segment needs SemanticSegment\. Expected"),
        ("yolo26n-seg.yaml", "segment", r"yolo26n-seg\.yaml ends in Segment26, task segment needs SemanticSegment"),
        ("micro-z-sem.yaml", "segment", r"unknown scale, the micro family has n, s, m, l"),
        ("pspnet-vgg16", "segment", r"model pspnet-vgg16: unknown\. Expected micro-.*pspnet,deeplabv3plus,unet"),
        ("fpn-resnet18", "segment", r"model fpn-resnet18: unknown"),
        ("pspnet-resnet18-coco", "segment", r"model pspnet-resnet18-coco: unknown"),
    ],
)
def test_build__a_name_of_another_task_or_of_nothing_says_what_is_known(name: str, task: Task, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        build(name, task, CLASSES, seed=0)


def test_build__weights_of_another_task_are_refused(tmp_path: Path) -> None:
    torch.save({"model": build("micro-n.yaml", "detect", CLASSES, seed=0)}, tmp_path / "detector.pt")
    with pytest.raises(PipelineError, match=r"expected a SemanticSegmentationModel, found DetectionModel"):
        build(str(tmp_path / "detector.pt"), "segment", CLASSES, seed=0)


def test_build__own_weights_of_a_segmenter_are_taken_but_for_the_head(tmp_path: Path) -> None:
    model = awake("micro-n-sem.yaml", "segment", ["a", "b"])
    torch.save({"model": model}, tmp_path / "mine.pt")
    tuned = build(str(tmp_path / "mine.pt"), "segment", CLASSES, seed=1).state_dict()
    kept = {key for key, value in model.state_dict().items() if torch.equal(tuned[key], value)}
    assert tuned["model.19.classifier.1.weight"].shape[0] == len(CLASSES)
    assert all(key.startswith("model.19.") for key in set(tuned) - kept)


def test_build__pretrained_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    class Offline:
        def __init__(self, encoder: str, *, encoder_weights: str | None, **_options: int) -> None:
            assert encoder_weights == "imagenet"
            raise ConnectionError("no route")

    monkeypatch.setattr(smp, "PSPNet", Offline)
    with pytest.raises(PipelineError, match=r"pspnet-resnet18-imagenet: .*\(no route\).*use pspnet-resnet18 \(from"):
        build("pspnet-resnet18-imagenet", "segment", CLASSES, seed=0)


def test_build__a_pretrained_segmenter_is_rebuilt_without_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import segmentation_models_pytorch as smp

    asked, unet = [], smp.Unet

    def counted(encoder: str, *, encoder_weights: str | None, classes: int) -> nn.Module:
        asked.append(encoder_weights)
        return unet(encoder, encoder_weights=None, classes=classes)

    monkeypatch.setattr(smp, "Unet", counted)
    save(tmp_path, build("unet-resnet18-imagenet", "segment", CLASSES, seed=0), "segment")
    load_checkpoint(tmp_path)
    assert asked == ["imagenet", None]
    assert load_info(tmp_path).model_info().architecture == "unet-resnet18"


@pytest.mark.parametrize("size_px", [64, 96, 160])
def test_pyramid_block__equals_adaptive_pooling(size_px: int) -> None:
    blocks = awake("pspnet-resnet18", "segment").model[0].decoder.psp.blocks
    x = torch.rand(2, 512, size_px // 8, size_px // 8 + 1)
    assert [block.cells for block in blocks] == [1, 2, 3, 6]
    for block in blocks:
        assert isinstance(block, PyramidBlock)
        expected = nn.functional.interpolate(block.pool(x), size=x.shape[2:], mode="bilinear", align_corners=True)
        torch.testing.assert_close(block(x), expected)
