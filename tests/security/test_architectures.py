"""Whatever carries an architecture: only known layers, activations and plain arguments are built."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics
from ruamel.yaml import YAML
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils import SAFE_LOAD

from models import build, build_from_architecture
from models.architecture import require_known
from pipeline.errors import PipelineError
from pipeline.model_names import HEADS
from pipeline.tasks import Task
from pipeline.training.checkpoint import load_checkpoint
from tests.security.conftest import Mark
from tests.tiny import CLASSES, save

Architecture = dict[str, Any]
Carrier = Callable[[BaseModel, Architecture, Path], BaseModel]
FAMILIES = Path(ultralytics.__file__).parent / "cfg/models"
NAMES: dict[Task, str] = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}


@pytest.fixture(scope="module", params=["detect", "segment"])
def model(request: pytest.FixtureRequest) -> BaseModel:
    return build(NAMES[request.param], request.param, CLASSES, seed=0)


def task_of(architecture: Architecture) -> Task:
    return "segment" if "sem" in architecture["yaml_file"] else "detect"


def as_pt(model: BaseModel, architecture: Architecture, folder: Path) -> BaseModel:
    hostile = copy.deepcopy(model)
    hostile.yaml = architecture
    torch.save({"model": hostile}, folder / "model.pt")
    return build(str(folder / "model.pt"), task_of(architecture), CLASSES, seed=0)


def as_yaml(model: BaseModel, architecture: Architecture, folder: Path) -> BaseModel:
    YAML().dump(architecture, folder / "model.yaml")
    return build(str(folder / "model.yaml"), task_of(architecture), CLASSES, seed=0)


def as_checkpoint(model: BaseModel, architecture: Architecture, folder: Path) -> BaseModel:
    save(folder / "checkpoint", model, task_of(architecture))
    info = json.loads((folder / "checkpoint/model.json").read_text())
    (folder / "checkpoint/model.json").write_text(json.dumps({**info, "architecture": architecture}))
    return load_checkpoint(folder / "checkpoint")[0]


def activation(architecture: Architecture, mark: Mark) -> None:
    architecture["activation"] = mark.expression


def hidden_activation(architecture: Architecture, mark: Mark) -> None:
    architecture["activation"] = f"torch.nn.ReLU({mark.expression})"


def backbone_row(architecture: Architecture, mark: Mark) -> None:
    torch.save({"model": mark}, mark.file.with_suffix(".pt"))
    architecture["backbone"][1] = [-1, 1, "torch_safe_load", [f"'{mark.file.with_suffix('.pt')}'"]]


def module_of_torch(architecture: Architecture, mark: Mark) -> None:
    architecture["backbone"][1] = [-1, 1, "nn.modules.container.Sequential", []]


def argument(architecture: Architecture, mark: Mark) -> None:
    architecture["backbone"][1][3] = [64, 3, 2, None, 1, 1, mark.expression]


def local_variable(architecture: Architecture, mark: Mark) -> None:
    architecture["backbone"][1][3] = ["layers", 3, 2]


def repeats(architecture: Architecture, mark: Mark) -> None:
    architecture["backbone"][2][1] = 10**9


def channels(architecture: Architecture, mark: Mark) -> None:
    architecture["backbone"][1][3] = [10**9, 3, 2]


def width(architecture: Architecture, mark: Mark) -> None:
    architecture["scales"]["n"] = [0.34, float("inf"), 256]


@pytest.mark.parametrize("carrier", [as_pt, as_yaml, as_checkpoint])
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (activation, "activation: expected one such as torch.nn.ReLU"),
        (hidden_activation, "activation: expected one such as torch.nn.ReLU"),
        (backbone_row, "layer 1: expected a known layer, got 'torch_safe_load'"),
        (module_of_torch, "layer 1: expected a known layer, got 'nn.modules.container.Sequential'"),
        (argument, "layer 1, Conv: expected numbers, booleans and known words, got .__import__"),
        (local_variable, "layer 1, Conv: expected numbers, booleans and known words, got 'layers'"),
        (repeats, "layer 2: expected 1 to 64 repeats, got 1000000000"),
        (channels, "layer 1, Conv: expected numbers, booleans and known words, got 1000000000"),
        (width, r"scales\.'n': expected \[depth, width, max_channels\]"),
    ],
)
def test_build__a_payload_in_an_architecture_is_refused_before_anything_is_built(
    model: BaseModel,
    carrier: Carrier,
    payload: Callable[[Architecture, Mark], None],
    message: str,
    mark: Mark,
    tmp_path: Path,
) -> None:
    architecture = copy.deepcopy(model.yaml)
    payload(architecture, mark)
    with pytest.raises(PipelineError, match=message) as error:
        carrier(model, architecture, tmp_path)
    assert str(tmp_path) in str(error.value), "the file is named"
    assert not mark.is_left


@pytest.mark.parametrize("carrier", [as_pt, as_yaml, as_checkpoint])
def test_build__the_same_carriers_take_the_architecture_as_it_is(
    model: BaseModel, carrier: Carrier, tmp_path: Path
) -> None:
    built = carrier(model, copy.deepcopy(model.yaml), tmp_path)
    assert {key: value.shape for key, value in built.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "__import__('os')"}, "encoder: expected one of resnet18, .*, got"),
        ({"decoder": "create_model"}, "decoder: expected one of pspnet, .*, got 'create_model'"),
        ({"encoder": ["resnet18"]}, "encoder: expected one of resnet18, .*, got list"),
        ({"encoder": None}, "encoder: expected one of resnet18"),
    ],
)
def test_build__a_segmenter_of_unknown_parts_is_refused(change: Architecture, message: str) -> None:
    architecture = {"decoder": "unet", "encoder": "resnet18", **change}
    with pytest.raises(PipelineError, match=rf"here/model\.json: architecture: {message}"):
        build_from_architecture(architecture, "segment", CLASSES, "here/model.json")


@pytest.mark.parametrize(
    "architecture",
    [
        None, [], "yolo26n.yaml", {}, {"backbone": 3, "head": []}, {"backbone": [[]], "head": [[]]},
        {"backbone": [[-1, 1, "Conv", [8, 3, 2]]]},
        {"backbone": [[-1, 1, "Conv", {}]], "head": [[-1, 1, "Detect", []]]},
        {"backbone": [[9, 1, "Conv", [8]]], "head": [[[0], 1, "Detect", ["nc"]]]},
        {"backbone": [[-1, 1, "Detect", ["nc"]]], "head": [[[0], 1, "Detect", ["nc"]]]},
        {"backbone": [[-1, True, "Conv", [8]]], "head": [[[0], 1, "Detect", ["nc"]]]},
        {"backbone": [[-1, 1, "Conv", [10**400]]], "head": [[[0], 1, "Detect", ["nc"]]]},
        {"nc": 10**400},
        {"depth_multiple": math.nan},
    ],
)  # fmt: skip
def test_require_known__anything_else_than_a_model_is_one_message(architecture: object) -> None:
    with pytest.raises(PipelineError, match=r"^file: architecture: .*expected"):
        require_known(architecture, "detect", "file")


@pytest.mark.parametrize("text", ["ReLU()", "nn.SiLU()", "torch.nn.LeakyReLU(0.1)", "nn.LeakyReLU(negative_slope=0.1)",
                                  "torch.nn.ReLU(inplace=True)", "nn.Hardtanh(-1, 1.5)"])  # fmt: skip
def test_require_known__takes_activations_as_ultralytics_documents_them(model: BaseModel, text: str) -> None:
    architecture, task = {**model.yaml, "activation": text}, task_of(model.yaml)
    if text.startswith(("nn.", "torch.nn.")):
        assert require_known(architecture, task, "file") == architecture
    else:
        with pytest.raises(PipelineError, match="activation"):
            require_known(architecture, task, "file")


def test_require_known__takes_every_detector_and_semantic_segmenter_of_ultralytics() -> None:
    taken = 0
    for file in sorted(FAMILIES.rglob("*.yaml")):
        described = YAML(typ="safe").load(file.read_text())
        tasks = [task for task, heads in HEADS.items() if described["head"][-1][2] in heads]
        for task in tasks:
            require_known(described, task, file.name)
            taken += 1
    assert taken > 25


def test_build__an_own_file_of_rtdetrs_layers_is_built(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("""
nc: 80
activation: nn.SiLU()
backbone:
  - [-1, 1, HGStem, [16, 24]]
  - [-1, 2, HGBlock, [24, 32, 3]]
  - [-1, 1, DWConv, [32, 3, 2, 1, False]]
  - [-1, 1, ResNetLayer, [32, 16, 1, False, 1]]
head:
  - [-1, 1, Conv, [64, 1, 1, None, 1, 1, False]]
  - [-1, 1, AIFI, [128, 8]]
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 1], 1, Concat, [1]]
  - [-1, 2, RepC3, [64]]
  - [[8], 1, Detect, [nc]]
""")
    assert build(str(tmp_path / "own.yaml"), "detect", CLASSES, seed=0).model[-1].nc == len(CLASSES)


def test_build__layers_that_do_not_fit_are_one_message_and_change_no_later_model(model: BaseModel) -> None:
    architecture, before = copy.deepcopy(model.yaml), str(Conv.default_act)
    architecture["activation"] = "nn.Tanh()"
    architecture["backbone"][1][3] = [None]
    with pytest.raises(PipelineError, match=r"^here\.yaml: its layers do not fit together \("):
        build_from_architecture(architecture, task_of(architecture), CLASSES, "here.yaml")
    assert str(Conv.default_act) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 100_000, "nested deeper than"),
        ("backbone: [1\n", "is not valid YAML"),
        ("- 1\n", "expected YAML with the keys backbone and head, got list"),
        ("just text", "expected YAML with the keys backbone and head, got str"),
        ("a: !!python/object/apply:os.system [id]\n", "got the tag !!python/object/apply:os.system"),
        (b"nc: 3 # caf\xe9\n", "expected utf-8 text"),
        ("nc: 3\n", "backbone: expected a list"),
    ],
)
def test_build__a_yaml_that_is_no_model_is_one_message(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "teacher.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineError, match=message):
        build(str(file), "detect", CLASSES, seed=0)


def test_build__no_address_is_downloaded() -> None:
    with pytest.raises(PipelineError, match="unknown"):
        build("http://127.0.0.1:9/model.yaml", "detect", CLASSES, seed=0)


def test_ultralytics__loads_safely_wherever_it_is_imported_from() -> None:
    assert SAFE_LOAD
