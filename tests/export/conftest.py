from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import build, build_from_architecture
from pipeline.export.onnx import export_onnx
from pipeline.params import Export
from pipeline.training.checkpoint import save_checkpoint
from tests.tiny import export_params_of

CLASSES = ["circle", "square", 'a "quoted" näme']


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch off the cores that other work is on, and give it its threads back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save one untrained checkpoint per kind of head, `raw` and `end2end`."""
    raw = build("micro-n.yaml", "detect", CLASSES, seed=0)
    models = {"raw": raw, "end2end": build_from_architecture({**raw.yaml, "end2end": True}, "detect", CLASSES)}
    folder = tmp_path_factory.mktemp("export")
    for name, model in models.items():
        save_checkpoint(
            folder / name,
            model,
            task="detect",
            name=name,
            role="teacher",
            image_size_px=64,
            best_epoch=1,
            made_by="test",
        )
    return {name: folder / name for name in models}


@pytest.fixture(scope="session")
def export_params() -> Export:
    return export_params_of(parity_images=4)


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], export_params: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the raw checkpoint once for all tests of a file that only look at it."""
    out = tmp_path_factory.mktemp("exported") / "fp32.onnx"
    export_onnx(checkpoints["raw"], out, export_params)
    return out
