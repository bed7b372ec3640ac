"""Links that lie where something is about to be written, as in a folder that others write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import build
from pipeline.data.prepare import prepare_dataset
from pipeline.errors import PipelineError
from pipeline.export.ultralytics import export_ultralytics
from pipeline.params import Params
from tests.tiny import CLASSES, save


def test_prepare__follows_no_link_beside_the_dataset(params: Params, tmp_path: Path) -> None:
    counts = {"train_images": 3, "val_images": 1, "test_images": 1}
    scenes = params.prepare.scenes.model_copy(update=counts)
    prepare = params.prepare.model_copy(update={"image_size_px": 32, "scenes": scenes, "calibration_images": 2})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("mine")
    for name in (".dataset.partial", ".dataset.old"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    for _ in range(2):
        prepare_dataset(prepare, tmp_path / "dataset")
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.txt"]
    assert (tmp_path / "dataset/dataset.json").is_file()


def test_export_pt__replaces_a_link_and_no_folder(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "toy", build("micro-n.yaml", "detect", CLASSES, seed=0))
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "toy.pt").symlink_to(tmp_path / "mine")
    export_ultralytics(checkpoint, tmp_path / "toy.pt")
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "toy.pt").is_symlink()
    assert build(str(tmp_path / "toy.pt"), "detect", CLASSES, seed=0).names == dict(enumerate(CLASSES))
    (tmp_path / "folder.pt").mkdir()
    for out in (tmp_path / "folder.pt", tmp_path / "mine/toy.pt", tmp_path / f"{'n' * 300}.pt"):
        with pytest.raises(PipelineError, match=r"is a folder|cannot write this file"):
            export_ultralytics(checkpoint, out)
