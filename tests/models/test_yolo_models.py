"""Models by name."""

from pathlib import Path

import pytest
import torch

from models import build, build_from_architecture
from pipeline.errors import PipelineError
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint

SHARED = Path(__file__).parents[3] / "shared"
CLASSES = ["cat", "dog", "owl"]


@pytest.mark.parametrize(("scale", "million"), [("n", 0.15), ("s", 0.3), ("m", 0.6), ("l", 1.0)])
def test_build__the_micro_family_stays_under_a_million_parameters(scale: str, million: float) -> None:
    model = build(f"micro-{scale}.yaml", "detect", CLASSES, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) < million * 1e6
    assert model.stride.tolist() == [8, 16, 32]
    assert model.names == {0: "cat", 1: "dog", 2: "owl"}


@pytest.mark.parametrize("name", ["yolo26n.yaml", "yolo11n.yaml", "yolov8n.yaml"])
def test_build__an_ultralytics_name_is_built_for_the_classes(name: str) -> None:
    assert build(name, "detect", CLASSES, seed=0).model[-1].nc == 3


def test_build__the_seed_decides_the_weights() -> None:
    first, second, other = (build("micro-n.yaml", "detect", CLASSES, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50", "unknown. Expected micro-"),
        ("yolo99n.yaml", "unknown. Expected micro-"),
        ("micro-z.yaml", "the micro family has n, s, m, l"),
        ("my.pt", "no such file"),
    ],
)
def test_build__an_unknown_name_says_what_is_known(name: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        build(name, "detect", CLASSES, seed=0)


def test_build__official_weights_that_cannot_be_downloaded_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("models.yolo.attempt_download_asset", offline)
    with pytest.raises(PipelineError, match=r"yolo26n\.pt: .*could not be downloaded \(no route\).*give its path"):
        build("yolo26n.pt", "detect", CLASSES, seed=0)


def test_build__a_file_that_runs_code_when_unpickled_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'owned')!r}, 'w')",)

    torch.save({"model": Attack()}, tmp_path / "bad.pt")
    with pytest.raises(PipelineError, match="not a readable Ultralytics checkpoint"):
        build(str(tmp_path / "bad.pt"), "detect", CLASSES, seed=0)
    assert not (tmp_path / "owned").exists()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolov8n-from-int8.pt", "yolo26n-from-int8.pt", "yolo11n-from-int8.pt"])
def test_build__pretrained_weights_survive_a_checkpoint(name: str, tmp_path: Path) -> None:
    model = build(str(SHARED / "weights" / name), "detect", CLASSES, seed=0).eval()
    save_checkpoint(
        tmp_path, model, task="detect", name="x", role="teacher", image_size_px=64, best_epoch=1, made_by="test"
    )
    restored, info = load_checkpoint(tmp_path)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(restored(image)[0], model(image)[0])
    assert info.end2end == name.startswith("yolo26")


def test_build_from_architecture__leaves_the_dict_alone() -> None:
    architecture = dict(build("micro-n.yaml", "detect", CLASSES, seed=0).yaml)
    before = dict(architecture)
    build_from_architecture(architecture, "detect", ["one"])
    assert architecture == before


def test_load_checkpoint__refuses_weights_that_model_json_does_not_name(tmp_path: Path) -> None:
    model = build("micro-n.yaml", "detect", CLASSES, seed=0)
    save_checkpoint(
        tmp_path, model, task="detect", name="x", role="teacher", image_size_px=64, best_epoch=1, made_by="test"
    )
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(PipelineError, match=r"not the file that model\.json names"):
        load_checkpoint(tmp_path)
