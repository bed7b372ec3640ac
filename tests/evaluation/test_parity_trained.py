"""The whole way from trained weights to the gate, on real images."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML
from ultralytics.nn.tasks import DetectionModel

from models.weights import load_weights
from pipeline.backends import load
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import SPLITS, DatasetInfo, PreparedDataset, SplitInfo, open_dataset
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.parity import compare
from pipeline.export.fp16 import write_half
from pipeline.export.gate import check_gate
from pipeline.export.onnx import export_onnx
from pipeline.params import Evaluate
from pipeline.preprocess import letterbox, load_image
from pipeline.training.checkpoint import save_checkpoint
from tests.tiny import export_params_of, save

SIZE = 320
IMAGES = 6


@pytest.fixture(scope="module")
def coco(shared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Lay out a few val2017 images as a prepared dataset."""
    source, root = shared_folder / "data/coco128", tmp_path_factory.mktemp("coco")
    names = YAML(typ="safe").load((source / "data.yaml").read_text())["names"]
    (root / "images").symlink_to(source / "images/val2017")
    (root / "labels").symlink_to(source / "labels/val2017")
    (root / "splits").mkdir()
    images = sorted(path.name for path in (root / "images").glob("*.jpg"))[:IMAGES]
    for split in SPLITS:
        (root / f"splits/{split}.txt").write_text("".join(f"images/{name}\n" for name in images))
    counts = SplitInfo(images=IMAGES, boxes=1, digest="")
    info = DatasetInfo(
        source="coco128",
        licence="COCO terms",
        classes=[names[index] for index in range(80)],
        image_size_px=SIZE,
        splits=dict.fromkeys(SPLITS, counts),
        digest="",
    )
    (root / "dataset.json").write_text(info.model_dump_json())
    return open_dataset(root)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(("name", "end2end"), [("yolo26n", True), ("yolov8n", False)])
def test_export__trained_weights_pass_the_gate(
    coco: PreparedDataset, shared_folder: Path, tmp_path: Path, evaluate_params: Evaluate, name: str, end2end: bool
) -> None:
    weights = load_weights(shared_folder / f"weights/{name}-from-int8.pt", DetectionModel)
    folder, file = tmp_path / name, tmp_path / "fp32.onnx"
    save_checkpoint(
        folder, weights, task="detect", name=name, role="teacher", image_size_px=SIZE, best_epoch=1, made_by="test"
    )
    export = export_params_of(parity_images=IMAGES)
    export_onnx(folder, file, export)
    torch_backend, onnx_backend = load(folder, threads=1), load(file, threads=1)
    assert onnx_backend.metadata.end2end == end2end
    info = load_info(folder).model_info()
    trained, exported = (
        evaluate(backend, coco, "test", evaluate_params, model=info, size_mb=1.0)
        for backend in (torch_backend, onnx_backend)
    )
    parity = compare(
        torch_backend,
        onnx_backend,
        coco,
        "test",
        accuracy=(trained, exported),
        export=export,
        evaluate=evaluate_params,
    )
    check_gate([parity])
    assert parity.score_torch > 0.2
    assert abs(parity.drop) < 1e-3
    assert parity.agreement > 0.999
    assert parity.max_box_error_px < 0.01
    assert parity.max_score_error < 1e-4
    assert all(output.relative_l2 < 1e-4 for output in parity.outputs)


@pytest.mark.shared
@pytest.mark.slow
def test_write_half__a_trained_detectors_boxes_are_off_by_hundredths_of_a_pixel(
    shared_folder: Path, tmp_path: Path
) -> None:
    size, files = 640, (tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    weights = load_weights(shared_folder / "weights/yolov8n-from-int8.pt", DetectionModel)
    export_onnx(save(tmp_path / "toy", weights, size_px=size), files[0], export_params_of())
    write_half(*files)
    path = min((shared_folder / "data/coco128/images/val2017").glob("*.jpg"))
    image = letterbox(load_image(path), size)[0][None]
    expected, found = (load(file, threads=1)(image)[0][:, :4] for file in files)
    assert np.abs(found - expected).mean() < 0.06  # each a float16 number: 0.1
