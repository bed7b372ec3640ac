"""The head's inputs, read and replaced, and the frozen teacher."""

import pytest
import torch
from torch import nn

from models import build
from pipeline.features import (
    HeadInputs,
    box_outputs,
    class_logits,
    features_only,
    frozen,
    head_channels,
    head_strides,
    output_layers,
    replaced_features,
    split_outputs,
)
from pipeline.tasks import Task
from tests.tiny import awake

CPU = torch.device("cpu")


@pytest.fixture(params=["micro-n.yaml", "yolo26n.yaml"], ids=["plain head", "end-to-end head"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    """Build a detector whose BatchNorm statistics are not those of its initialisation."""
    model = build(request.param, "detect", ["a", "b"], seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.rand(2, 3, 64, 64))
    return model.eval()


def test_features__are_what_the_head_reads(model: nn.Module) -> None:
    images = torch.rand(2, 3, 64, 64)
    tap = HeadInputs(model)
    model(images)
    features = features_only(model, images)
    torch.testing.assert_close(tap.features, features)
    assert [tuple(f.shape[2:]) for f in features] == [(8, 8), (4, 4), (2, 2)]
    assert [f.shape[1] for f in features] == head_channels(model)
    assert head_strides(model) == [8, 16, 32]


def test_head_channels__leave_modes_and_statistics_alone(model: nn.Module) -> None:
    model.train()
    model.model[1].eval()  # type: ignore[index,union-attr]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    head_channels(model)
    assert [module.training for module in model.modules()] == modes
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_head_inputs__separate_the_tasks_gradient(model: nn.Module) -> None:
    tap = HeadInputs(model)
    outputs = model.train()(torch.rand(2, 3, 64, 64))
    outputs = outputs.get("one2many", outputs)
    for view in [*tap.views, *tap.features]:
        view.retain_grad()
    beside = sum(f.sum() for f in tap.features)
    (outputs["scores"].square().sum() + 3 * beside).backward()
    torch.testing.assert_close(tap.features[-1].grad, tap.views[-1].grad + 3)  # the coarsest: the head alone reads it


def test_frozen__gives_the_same_features_without_batchnorm_or_gradients(model: nn.Module) -> None:
    images = torch.rand(2, 3, 64, 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    teacher = frozen(model, CPU)
    torch.testing.assert_close(features_only(teacher, images), features_only(model, images), rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in teacher.modules()) < 0.1 * len(before)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_outputs__of_the_branches_are_the_heads_own(model: nn.Module) -> None:
    images = torch.rand(2, 3, 64, 64)
    model.model[-1].training = True
    with torch.no_grad():
        outputs = model(images)
    branches = [outputs[name] for name in ("one2many", "one2one")] if "one2many" in outputs else [outputs]
    features = features_only(model, images)
    scores = torch.stack([branch["scores"] for branch in branches]).mean(dim=0)
    torch.testing.assert_close(class_logits(model, features), split_outputs(scores, features))
    torch.testing.assert_close(box_outputs(model, features), split_outputs(branches[0]["boxes"], features))


def test_replaced_features__reach_the_head(model: nn.Module) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain = model(images)[0]
        with replaced_features(model, lambda features: [torch.zeros_like(f) for f in features]):
            assert not torch.equal(model(images)[0], plain)
        torch.testing.assert_close(model(images)[0], plain)


SEGMENTERS = ["micro-n-sem.yaml", "yolo26n-sem.yaml", "pspnet-mobilenet", "deeplabv3plus-resnet18", "unet-mobilenet"]


@pytest.fixture(params=SEGMENTERS)
def segmenter(request: pytest.FixtureRequest) -> nn.Module:
    """Build a segmenter whose BatchNorm statistics are not those of its initialisation."""
    return awake(request.param, "segment")


def test_head_strides__of_a_segmenter_leave_modes_and_statistics_alone(segmenter: nn.Module) -> None:
    features = features_only(segmenter, torch.rand(1, 3, 64, 96))
    modules = list(segmenter.train().modules())
    for module in modules[: len(modules) // 2]:
        module.training = False
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    modes = [module.training for module in modules]
    assert head_channels(segmenter) == [feature.shape[1] for feature in features]
    assert head_strides(segmenter) == [64 // feature.shape[2] for feature in features]
    assert [module.training for module in modules] == modes
    torch.testing.assert_close(dict(segmenter.state_dict()), before, rtol=0, atol=0)


def test_frozen__gives_a_segmenters_features_and_logits(segmenter: nn.Module) -> None:
    images = torch.rand(2, 3, 64, 64)
    teacher = frozen(segmenter, CPU)
    features = features_only(teacher, images)
    torch.testing.assert_close(features, features_only(segmenter, images), rtol=1e-3, atol=1e-3)
    (logits,) = class_logits(teacher, features)
    with torch.no_grad():
        torch.testing.assert_close(logits, segmenter(images), rtol=1e-3, atol=1e-3)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_replaced_features__reach_a_segmenters_head(segmenter: nn.Module) -> None:
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain = segmenter(images)
        with replaced_features(segmenter, lambda features: [torch.zeros_like(f) for f in features]):
            assert not torch.equal(segmenter(images), plain)
        torch.testing.assert_close(segmenter(images), plain)


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("micro-n.yaml", "detect", "model.22.cv2.0.2 model.22.cv3.2.2 model.22.dfl.conv"),
        ("yolo26n.yaml", "detect", "model.23.cv2.0.2 model.23.one2one_cv2.1.2 model.23.one2one_cv3.2.2"),
        ("yolo26n-sem.yaml", "segment", "model.17.classifier.1"),
        ("pspnet-resnet18", "segment", "model.1.classifier"),
    ],
)
def test_output_layers__have_no_normalisation_behind_them(name: str, task: Task, expected: str) -> None:
    model = build(name, task, ["a", "b"], seed=0)
    layers = dict(model.named_modules())
    found = output_layers(model)
    assert set(expected.split()) <= set(found)
    assert not [path for path in found if not isinstance(layers[path], nn.Conv2d) or path.endswith("0.conv")]
