from pathlib import Path

import pytest

from models import build
from pipeline.params import Export
from pipeline.training.checkpoint import save_checkpoint

CLASSES = ["circle", "square", 'a "quoted" näme']


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save one untrained checkpoint per kind of head."""
    folders = {}
    for name in ("micro-n", "yolo26n"):
        folders[name] = tmp_path_factory.mktemp("export") / name
        model = build(f"{name}.yaml", CLASSES, seed=0)
        save_checkpoint(
            folders[name], model, name=name, role="teacher", image_size_px=64, best_epoch=1, made_by="test"
        )
    return folders


@pytest.fixture(scope="session")
def export_params() -> Export:
    return Export(opset=17, dynamic_batch=True, max_ap_drop=0.002, parity_images=4)
