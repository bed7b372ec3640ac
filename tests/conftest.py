"""What several test folders need: a miniature prepared dataset and recipes that train in seconds."""

import random
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.prepare import prepare_dataset
from pipeline.data.prepared import PreparedDataset, open_dataset
from pipeline.params import Machine, Params, Teacher
from pipeline.params_file import load_params
from pipeline.tasks import Task

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    import torch

    absent = {
        "shared": None if SHARED.is_dir() else "../shared is not here",
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
    }
    for item in items:
        for marker, reason in absent.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Let a test draw the same random numbers, whatever ran before it in its process."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def params() -> Params:
    """Return the project's own params.yaml."""
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def mini_dataset(params: Params, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Prepare 24 + 8 + 8 scenes of 64 px, with boxes and masks."""
    scenes = params.prepare.scenes.model_copy(update={"train_images": 24, "val_images": 8, "test_images": 8})
    prepare = params.prepare.model_copy(
        update={"image_size_px": 64, "scenes": scenes, "path": str(ROOT / "pipeline/data/scenes.py")}
    )
    out = tmp_path_factory.mktemp("prepared") / "dataset"
    prepare_dataset(prepare, out)
    return open_dataset(out)


@pytest.fixture(scope="session")
def mini_recipes(params: Params) -> dict[Task, Teacher]:
    """Return each task's default recipe, three epochs long."""
    models: dict[Task, str] = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}
    recipes: dict[Task, Teacher] = {}
    for task, recipe in params.teacher.items():
        augment = {**recipe.augment, "mosaic": 0.5}
        update = {"epochs": 3, "batch_size": 8, "close_mosaic_epochs": 1, "model": models[task], "augment": augment}
        recipes[task] = recipe.model_copy(update=update)
    return recipes


@pytest.fixture(scope="session")
def cpu() -> Machine:
    """Return the machine section of a computer without GPUs."""
    return Machine(device="cpu", workers=0, threads=0, modelopt_python=None)
