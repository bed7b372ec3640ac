"""Files that could hold pickles: what is no tensor and no known class is not unpickled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models import build, load_trained
from pipeline.digest import file_digest
from pipeline.errors import PipelineError
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.state import load_state
from tests.security.conftest import Mark
from tests.tiny import CLASSES, save

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", ["model", "ema", "train_args"])
def test_build__an_unknown_class_in_a_pt_is_refused(place: str, mark: Mark, tmp_path: Path) -> None:
    content = {"model": build("micro-n.yaml", "detect", CLASSES, seed=0), place: mark}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(PipelineError, match="not a readable Ultralytics checkpoint"):
        build(str(tmp_path / "model.pt"), "detect", CLASSES, seed=0)
    assert not mark.is_left


def test_build__an_unknown_class_inside_of_a_known_one_is_refused(mark: Mark, tmp_path: Path) -> None:
    model = build("micro-n.yaml", "detect", CLASSES, seed=0)
    model.model[0].act.hidden = mark
    torch.save({"model": model}, tmp_path / "model.pt")
    with pytest.raises(PipelineError, match="not a readable Ultralytics checkpoint"):
        build(str(tmp_path / "model.pt"), "detect", CLASSES, seed=0)
    assert not mark.is_left


@pytest.mark.parametrize("lacking", ["yaml", "head", "branch"])
def test_build__a_pt_without_an_architecture_or_a_head_is_one_message(lacking: str, tmp_path: Path) -> None:
    model = build("micro-n.yaml", "detect", CLASSES, seed=0)
    if lacking == "yaml":
        del model.yaml
    elif lacking == "head":
        model.model = model.model[:-1]
    else:
        del model.model[-1].cv2
    torch.save({"model": model}, tmp_path / "model.pt")
    message = {"yaml": "a model with its architecture", "head": "a detector whose last", "branch": "its layers are not"}
    with pytest.raises(PipelineError, match=rf"model\.pt: .*{message[lacking]}"):
        build(str(tmp_path / "model.pt"), "detect", CLASSES, seed=0)


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04", b"\x80\x04N."])
def test_build__a_pt_of_other_bytes_is_one_message(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(PipelineError, match="not a readable Ultralytics checkpoint"):
        build(str(tmp_path / "model.pt"), "detect", CLASSES, seed=0)


def test_load_checkpoint__a_pickle_in_place_of_the_weights_is_refused(mark: Mark, tmp_path: Path) -> None:
    folder = save(tmp_path / "toy", build("micro-n.yaml", "detect", CLASSES, seed=0))
    before = file_digest(folder / "model.safetensors")
    torch.save(mark, folder / "model.safetensors")
    info = folder / "model.json"
    info.write_text(info.read_text().replace(before, file_digest(folder / "model.safetensors")))
    with pytest.raises(PipelineError, match=r"model\.safetensors does not hold the weights"):
        load_checkpoint(folder)
    assert not mark.is_left


def test_load_state__a_payload_in_a_training_state_is_not_run(mark: Mark, tmp_path: Path) -> None:
    torch.save({"epoch": 1, "model": mark}, tmp_path / "state.pt")
    with pytest.raises(PipelineError, match=r"state\.pt is no training state .*: remove .* to start over"):
        load_state(tmp_path / "state.pt")
    assert not mark.is_left


def test_safe_load__is_on_before_ultralytics_is_imported_and_in_child_processes() -> None:
    code = (
        "import os, models; from ultralytics.utils import SAFE_LOAD;"
        "print(SAFE_LOAD, os.environ['ULTRALYTICS_SAFE_LOAD'])"
    )
    environment = {**os.environ, "ULTRALYTICS_SAFE_LOAD": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["True", "1"], "a DDP worker inherits the environment"


@pytest.mark.parametrize("package", ["pipeline", "models", "benchmarks"])
def test_safe_load__every_package_that_imports_ultralytics_sets_it_first(package: str) -> None:
    text = (ROOT / package / "__init__.py").read_text()
    assert "import pipeline" in text or "ULTRALYTICS_SAFE_LOAD" in text
    strangers = [file for file in (ROOT / "stages").glob("*.py") if "ultralytics" in file.read_text()]
    assert strangers == [], "a package that this test does not know imports Ultralytics"


@pytest.mark.parametrize("name", ["pipe.pt", "pipe.yaml", "folder.pt", "n" * 300 + ".pt", "n" * 300 + ".yaml"])
def test_build__a_path_that_is_no_file_is_one_message(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    for pipe in ("pipe.pt", "pipe.yaml"):
        os.mkfifo(tmp_path / pipe)
    with pytest.raises(PipelineError, match=r"no regular file|no such file|unknown"):
        build(str(tmp_path / name), "detect", CLASSES, seed=0)


@pytest.mark.parametrize("names", [3, ["a", "b"], {0: 1}, None])
def test_load_trained__a_pt_without_class_names_is_one_message(names: object, tmp_path: Path) -> None:
    model = build("micro-n.yaml", "detect", CLASSES, seed=0)
    model.names = names
    torch.save({"model": model}, tmp_path / "a.pt")
    with pytest.raises(PipelineError, match=r"a\.pt: expected a model with the names of its classes"):
        load_trained(str(tmp_path / "a.pt"), "detect", CLASSES)


@pytest.mark.parametrize("kind", ["meta", "sparse", "no layers"])
def test_build__a_pt_whose_weights_are_none_is_one_message(kind: str, tmp_path: Path) -> None:
    model = build("micro-n.yaml", "detect", CLASSES, seed=0)
    if kind == "meta":
        model.to("meta")
    elif kind == "sparse":
        model.model[0].conv.weight = torch.nn.Parameter(model.model[0].conv.weight.detach().to_sparse())
    else:
        del model.model
    torch.save({"model": model}, tmp_path / "a.pt")
    with pytest.raises(PipelineError, match=r"a\.pt: expected a model with dense weights"):
        build(str(tmp_path / "a.pt"), "detect", CLASSES, seed=0)
