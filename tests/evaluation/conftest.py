"""Datasets whose answers are known, and backends that are plain functions."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.backends import Array, Backend, Metadata
from pipeline.data.prepared import DatasetInfo, PreparedDataset, SplitInfo, open_dataset
from pipeline.digest import text_digest
from pipeline.evaluation.boxes import truth_of
from pipeline.params import Evaluate
from pipeline.preprocess import letterbox, load_image
from pipeline.records import ModelInfo

ROOT = Path(__file__).parents[2]
CLASSES = ["circle", "square", "star"]
SIZE = 64
SHAPES = [(48, 64), (90, 60), (200, 320), (64, 64), (33, 121)]


@pytest.fixture(scope="session")
def known_dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Five noise images of different shapes, two labelled boxes each but for the last, which has none."""
    root = tmp_path_factory.mktemp("known")
    for folder in ("images", "labels", "splits"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    for index, shape in enumerate(SHAPES):
        cv2.imwrite(str(root / f"images/{index}.png"), rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        rows = [(index % 3, 0.3, 0.35, 0.3, 0.4), ((index + 1) % 3, 0.7, 0.6, 0.4, 0.5)] if index < 4 else []
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (root / f"labels/{index}.txt").write_text(text)
    for split in ("train", "val", "test"):
        (root / f"splits/{split}.txt").write_text("".join(f"images/{index}.png\n" for index in range(len(SHAPES))))
    counts = SplitInfo(images=len(SHAPES), boxes=8, digest="split-digest")
    info = DatasetInfo(
        source="test",
        licence="none",
        classes=CLASSES,
        image_size_px=SIZE,
        splits={"train": counts, "val": counts, "test": counts},
        digest="dataset-digest",
    )
    (root / "dataset.json").write_text(info.model_dump_json())
    return open_dataset(root)


@pytest.fixture(scope="session")
def make_backend() -> Callable[..., Backend]:
    """Return a function that wraps a function as an end2end backend."""

    def make(run: Callable[[Array], list[Array]], runtime: str = "torch", **changes: object) -> Backend:
        metadata = {"task": "detect", "classes": CLASSES, "image_size_px": SIZE, "strides": [8], "end2end": True}
        values = {**metadata, "precision": "fp32", **changes}
        dynamic, threads = bool(values.pop("dynamic_batch", True)), values.pop("threads", 2)
        phases = values.pop("phases", None)
        return Backend(runtime, "cpu", threads, dynamic, Metadata(**values), run, phases)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def oracle(known_dataset: PreparedDataset) -> Callable[[Array], list[Array]]:
    """Return a network that recognises the images by heart and answers their labels, in input pixels."""
    answers = {}
    for path in known_dataset.images("test"):
        square, transform = letterbox(load_image(path), SIZE)
        truth = truth_of(known_dataset, path, transform.width, transform.height)
        rows = np.zeros((4, 6), dtype=np.float32)
        pad = [transform.pad_left, transform.pad_top] * 2
        gain = np.array(transform.resized * 2) / ([transform.width, transform.height] * 2)
        rows[: len(truth.boxes), :4] = truth.boxes * gain + pad
        rows[: len(truth.boxes), 4] = [0.9, 0.8][: len(truth.boxes)]
        rows[: len(truth.boxes), 5] = truth.class_ids
        answers[text_digest(square.tobytes().hex())] = rows
    return lambda images: [np.stack([answers[text_digest(image.tobytes().hex())] for image in images])]


@pytest.fixture(scope="session")
def evaluate_params() -> Evaluate:
    return Evaluate(batch_size=2, score_threshold=0.001, nms_iou=0.7, max_detections=300, boundary_tolerance=0.0075)


@pytest.fixture(scope="session")
def model_info() -> ModelInfo:
    return ModelInfo(
        task="detect",
        name="toy",
        role="teacher",
        architecture="toy",
        params_m=0.1,
        image_size_px=SIZE,
        digest="abc",
    )


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    return ROOT.parent / "shared"
