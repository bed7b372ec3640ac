"""From a segmenter's checkpoint to its records: parity with the ONNX file, the gate, latency."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backends import Backend, load
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.device import probe
from pipeline.errors import PipelineError
from pipeline.evaluation import turns
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.latency import Contender, contenders, measure
from pipeline.evaluation.parity import compare
from pipeline.export.gate import Trained, check_gate
from pipeline.export.onnx import export_onnx
from pipeline.export.student import export_student
from pipeline.params import Benchmark, Evaluate, Params
from pipeline.records import Accuracy, Parity, read_record
from tests.tiny import awake, export_params_of, save

EXPORT = export_params_of(parity_images=3)


@pytest.fixture(scope="module")
def checkpoint(mini_dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = awake("micro-n-sem.yaml", "segment", mini_dataset.info.mask_classes)
    return save(tmp_path_factory.mktemp("gate") / "toy", model, "segment")


@pytest.fixture(scope="module")
def file(checkpoint: Path) -> Path:
    export_onnx(checkpoint, checkpoint.with_suffix(".onnx"), EXPORT)
    return checkpoint.with_suffix(".onnx")


def parity_of(first: Backend, second: Backend, dataset: PreparedDataset, params: Evaluate, folder: Path) -> Parity:
    model = load_info(folder).model_info()
    scores = [evaluate(backend, dataset, "test", params, model=model, size_mb=1.0) for backend in (first, second)]
    return compare(first, second, dataset, "test", accuracy=(scores[0], scores[1]), export=EXPORT, evaluate=params)


def changed(backend: Backend, logits: float = 0.0, flipped: float = 0.0) -> Backend:
    """Add to the logits, and give a share of the pixels another class."""

    def run(images: Any) -> list[Any]:
        classes, values = backend(images)
        rng = np.random.default_rng(0)
        wrong, other = rng.random(classes.shape) < flipped, (classes + rng.integers(1, 7, classes.shape)) % 7
        return [np.where(wrong, other, classes).astype(np.uint8), values + np.float32(logits)]

    return replace(backend, run=run, runtime="onnxruntime-fp32")


def test_compare__a_segmenters_onnx_file_is_the_model_that_was_trained(
    checkpoint: Path, file: Path, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    backends = load(checkpoint, threads=1), load(file, threads=1)
    parity = parity_of(*backends, mini_dataset, evaluate_params, checkpoint)
    check_gate([parity])
    assert [output.name for output in parity.outputs] == ["logits"]
    assert parity.outputs[0].relative_l2 < 1e-4
    assert parity.agreement > 0.999
    assert (parity.max_box_error_px, parity.max_score_error) == (None, None)
    assert (parity.images, parity.runtime) == (3, "onnxruntime-fp32")
    assert parity.drop == pytest.approx(parity.score_torch - parity.score_exported)


def test_compare__counts_pixels_and_measures_logits(
    checkpoint: Path, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    backend = load(checkpoint, threads=1)
    parity = parity_of(backend, changed(backend, 0.25, 0.1), mini_dataset, evaluate_params, checkpoint)
    assert parity.agreement == pytest.approx(0.9, abs=0.01)
    assert parity.outputs[0].max_abs == pytest.approx(0.25, abs=1e-4)


def test_check_gate__names_a_segmenters_score(
    checkpoint: Path, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    backend = load(checkpoint, threads=1)
    parity = parity_of(backend, changed(backend), mini_dataset, evaluate_params, checkpoint)
    check_gate([parity])
    with pytest.raises(PipelineError, match=r"(?s)onnxruntime-fp32 is not the model.*export\.max_drop.*mIoU") as error:
        check_gate([parity.model_copy(update={"drop": 0.1})])
    assert "AP" not in str(error.value)


def test_compare__refuses_a_segmenter_that_is_not_finite(
    checkpoint: Path, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    backend = load(checkpoint, threads=1)
    broken = changed(backend, float("nan"))
    model = load_info(checkpoint).model_info()
    accuracy = evaluate(backend, mini_dataset, "test", evaluate_params, model=model, size_mb=1.0)
    with pytest.raises(PipelineError, match="values are NaN or infinite"):
        compare(
            backend, broken, mini_dataset, "test", accuracy=(accuracy, accuracy), export=EXPORT,
            evaluate=evaluate_params,
        )  # fmt: skip


def trained(checkpoint: Path, dataset: PreparedDataset, params: Evaluate, **export: Any) -> Trained:
    model = load_info(checkpoint).model_info()
    accuracy = evaluate(load(checkpoint, threads=1), dataset, "test", params, model=model, size_mb=1.0)
    return Trained(checkpoint, accuracy, dataset, export_params_of(parity_images=3, **export), params)


def test_export_student__of_a_segmenter_writes_files_and_records(
    checkpoint: Path, mini_dataset: PreparedDataset, evaluate_params: Evaluate, tmp_path: Path
) -> None:
    drops = {"fp32": 0.002, "fp16": 1.0, "int8": 1.0}
    asked = {"precisions": ["fp32", "fp16", "int8"], "max_drop": drops}
    student = trained(checkpoint, mini_dataset, evaluate_params, **asked)
    export_student(student, tmp_path / "export", tmp_path / "records", tmp_path)
    files = {path.stem for path in (tmp_path / "export").iterdir()}
    assert files == {"fp32", "fp16", "int8", "int8-tensorrt"}
    for precision in student.export.precisions:
        exported = read_record(tmp_path / f"records/accuracy-onnxruntime-{precision}.json", Accuracy)
        size_mb = (tmp_path / f"export/{precision}.onnx").stat().st_size / 1e6
        assert exported.size_mb == pytest.approx(size_mb, abs=1e-4)
    for precision in files:
        parity = read_record(tmp_path / f"records/parity-onnxruntime-{precision}.json", Parity)
        assert (parity.precision, parity.score_torch) == (precision, student.accuracy.main)
        assert parity.max_drop == drops[precision.partition("-")[0]]
    assert not (tmp_path / "records/accuracy-onnxruntime-int8-tensorrt.json").exists()


def test_export_student__a_breach_ranks_layers_draws_images_and_records_nothing(
    checkpoint: Path, mini_dataset: PreparedDataset, evaluate_params: Evaluate, tmp_path: Path
) -> None:
    asked = {"precisions": ["fp32", "int8"], "max_drop": {"fp32": 0.002, "int8": 0.0}}
    student = trained(checkpoint, mini_dataset, evaluate_params, **asked)
    better = student.accuracy.model_copy(update={"scores": {**student.accuracy.scores, "miou": 1.0}})
    asked["max_drop"]["fp32"] = 1.0
    student = replace(student, accuracy=better, export=export_params_of(parity_images=3, **asked))
    with pytest.raises(PipelineError, match=r"(?s)onnxruntime-int8.*FAILED.*least-alike.*float_layers: \[model"):
        export_student(student, tmp_path / "export", tmp_path / "records", tmp_path)
    assert (tmp_path / "least-alike-onnxruntime-int8.png").exists()
    assert not (tmp_path / "records").exists()


def test_measure__times_a_segmenter_beside_a_detector(
    checkpoint: Path,
    file: Path,
    mini_dataset: PreparedDataset,
    evaluate_params: Evaluate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "BLOCK_S", 0.01)
    detector = save(tmp_path / "detector", awake("micro-n.yaml", "detect", mini_dataset.info.classes), "detect")
    models = [
        Contender(load_info(folder).model_info(), [load(path, threads=1) for path in paths])
        for folder, paths in ((checkpoint, [checkpoint, file]), (detector, [detector]))
    ]
    params = Benchmark(
        threads=1, batch_sizes=[1, 2], warmup_min_s=0.0, warmup_max_s=0.1, warmup_tolerance=0.5, min_time_s=0.01,
        min_runs=5, max_time_s=60.0,
    )  # fmt: skip
    records = measure(models, mini_dataset.images("test"), params, device=probe(), evaluate=evaluate_params)
    assert [(record.model.task, [row.runtime for row in record.runtimes]) for record in records] == [
        ("segment", ["torch", "onnxruntime-fp32"]),
        ("detect", ["torch"]),
    ]
    for row in records[0].runtimes:
        assert min(row.preprocess.p50_ms, row.infer.p50_ms, row.postprocess.p50_ms) > 0
        assert [batch.batch_size for batch in row.batches] == [2]


def test_contenders__are_each_tasks_teacher_and_every_student(
    mini_dataset: PreparedDataset, params: Params, tmp_path: Path
) -> None:
    names = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}
    for task in params.tasks:
        model = awake(names[task], task, mini_dataset.task_classes(task))
        save(tmp_path / task / "teacher", model, task, name="teacher")
        for student in params.students_of(task):
            save(tmp_path / task / student / "distilled", model, task, name=student)
    few = params.model_copy(update={"benchmark": params.benchmark.model_copy(update={"threads": 1})})
    deployed = load(tmp_path / params.tasks[0] / "teacher", threads=1)
    models = contenders(tmp_path, few, {name: [replace(deployed, runtime="openvino-int8")] for name in params.students})
    found = [(model.info.name, [backend.runtime for backend in model.backends]) for model in models]
    teachers = [("teacher", ["torch"])] * len(params.tasks)
    assert found == teachers + [(name, ["torch", "openvino-int8"]) for name in params.students]
