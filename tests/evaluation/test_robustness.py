"""The main score on corrupted images, beside the score on the same images as they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.backends import Array, Backend, Metadata
from pipeline.checkpoint_info import SKIPPED
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import SCORERS, evaluate
from pipeline.evaluation.corruptions import CORRUPTIONS
from pipeline.evaluation.robustness import measure_robustness, record_robustness
from pipeline.export.onnx import export_onnx
from pipeline.params import Evaluate, Params, RobustnessParams
from pipeline.preprocess import letterbox, load_image
from pipeline.records import ModelInfo, Robustness, Skipped, read_record, write_record
from pipeline.tasks import TASKS, Task, main_score
from tests.tiny import awake, save

SIZE = 64
PARAMS = RobustnessParams(corruptions=["gaussian_noise", "contrast"], severities=[1, 5], images=8, seed=0)


def info_of(task: Task) -> ModelInfo:
    return ModelInfo(
        task=task, name="toy", role="control", architecture="toy", params_m=0.1, image_size_px=SIZE, digest="abc"
    )


def segmenter(dataset: PreparedDataset) -> Callable[[Array], list[npt.NDArray[Any]]]:
    """Answer the mask of the most similar known image, and background where the image differs from it."""
    paths = dataset.images("test")
    squares = np.stack([letterbox(load_image(path), SIZE)[0] for path in paths])
    masks = [dataset.mask(path) for path in paths]

    def run(images: Array) -> list[npt.NDArray[Any]]:
        distance = np.abs(squares[None] - images[:, None]).mean(axis=2)  # (N, known, S, S)
        nearest = distance.mean(axis=(2, 3)).argmin(axis=1)
        maps = [np.where(distance[n, k] < 0.1, masks[k], 0) for n, k in enumerate(nearest)]
        return [np.stack(maps).astype(np.uint8), np.zeros((len(images), 1, 1, 1), np.float32)]

    return run


def detector(dataset: PreparedDataset) -> Callable[[Array], list[npt.NDArray[Any]]]:
    """Answer the labels of the most similar known image, the further away the more the two differ."""
    paths = dataset.images("test")
    squares = np.stack([letterbox(load_image(path), SIZE)[0] for path in paths])
    labels = [dataset.boxes(path) for path in paths]

    def run(images: Array) -> list[npt.NDArray[Any]]:
        distance = np.abs(squares[None] - images[:, None]).mean(axis=(2, 3, 4))  # (N, known)
        rows = np.zeros((len(images), 8, 6), np.float32)
        for n, k in enumerate(distance.argmin(axis=1)):
            kinds, boxes = labels[k]
            centre, half = boxes[:, :2] * SIZE + 50 * distance[n, k], boxes[:, 2:] * SIZE / 2
            found = [centre - half, centre + half, np.full((len(boxes), 1), 0.9), kinds[:, None]]
            rows[n, : len(boxes)] = np.concatenate(found, axis=1)
        return [rows]

    return run


@pytest.fixture(params=TASKS)
def backend(request: pytest.FixtureRequest, mini_dataset: PreparedDataset) -> Backend:
    """Return a network of each task that knows the test images and suffers from their corruption."""
    task: Task = request.param
    run = {"detect": detector, "segment": segmenter}[task](mini_dataset)
    metadata = Metadata(task, mini_dataset.task_classes(task), SIZE, [1], True, "fp32")
    return Backend("torch", "cpu", 1, True, metadata, run)


def measured(backend: Backend, dataset: PreparedDataset, evaluate: Evaluate, **changes: Any) -> Robustness:
    params = PARAMS.model_copy(update=changes)
    return measure_robustness(backend, dataset, params, evaluate, info_of(backend.metadata.task))


def test_measure_robustness__clean_is_what_evaluate_measures(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    task = backend.metadata.task
    whole = evaluate(backend, mini_dataset, "test", evaluate_params, model=info_of(task), size_mb=1.0)
    assert measured(backend, mini_dataset, evaluate_params).clean == whole.main == pytest.approx(1.0)
    few = measured(backend, mini_dataset, evaluate_params, images=3)
    images = mini_dataset.images("test")[:3]
    scores, *_ = SCORERS[task](backend, mini_dataset, images, evaluate_params, "")
    assert (few.images, few.clean) == (3, scores[main_score(task)])


def test_measure_robustness__is_deterministic_and_each_corruption_stands_alone(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    record = measured(backend, mini_dataset, evaluate_params)
    assert measured(backend, mini_dataset, evaluate_params) == record
    alone = measured(backend, mini_dataset, evaluate_params, corruptions=["contrast"], severities=[5])
    assert alone.corrupted == {"contrast": {"5": record.corrupted["contrast"]["5"]}}


def test_measure_robustness__images_are_corrupted_alike_in_any_batch(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    single = replace(backend, dynamic_batch=False)
    assert measured(single, mini_dataset, evaluate_params) == measured(backend, mini_dataset, evaluate_params)


def test_measure_robustness__the_seed_draws_other_noise(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    seen: dict[int, list[bytes]] = {}

    def watched(seed: int) -> Backend:
        def run(images: Array) -> list[npt.NDArray[Any]]:
            seen.setdefault(seed, []).append(images.tobytes())
            return backend(images)

        return replace(backend, run=run)

    for seed in (0, 1):
        changes = {"corruptions": ["gaussian_noise"], "severities": [1], "seed": seed}
        measured(watched(seed), mini_dataset, evaluate_params, **changes)
    clean = len(seen[0]) // 2
    assert seen[0][:clean] == seen[1][:clean]
    assert not set(seen[0][clean:]) & set(seen[1][clean:])


def test_measure_robustness__every_image_has_noise_of_its_own(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    seen: list[Array] = []

    def run(images: Array) -> list[npt.NDArray[Any]]:
        seen.append(images)
        return backend(images)

    watched = replace(backend, run=run)
    measured(watched, mini_dataset, evaluate_params, corruptions=["gaussian_noise"], severities=[1], images=2)
    clean, corrupted = seen
    first, second = (corrupted - clean).reshape(2, -1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_measure_robustness__sums_up_what_is_lost(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    record = measured(backend, mini_dataset, evaluate_params)
    assert {name: list(scores) for name, scores in record.corrupted.items()} == {
        "gaussian_noise": ["1", "5"],
        "contrast": ["1", "5"],
    }
    for scores in record.corrupted.values():
        assert record.clean >= scores["1"] > scores["5"]
    scores = [score for severities in record.corrupted.values() for score in severities.values()]
    assert record.mean_corrupted == pytest.approx(mean(scores))
    assert record.relative == pytest.approx(mean(scores) / record.clean)
    assert (record.split, record.seed, record.dataset) == ("test", 0, mini_dataset.info.splits["test"].digest)


def test_measure_robustness__a_network_without_any_score_keeps_nothing(
    mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    metadata = Metadata("detect", mini_dataset.info.classes, SIZE, [1], True, "fp32")
    blind = Backend("torch", "cpu", 1, True, metadata, lambda images: [np.zeros((len(images), 4, 6), np.float32)])
    record = measured(blind, mini_dataset, evaluate_params)
    assert (record.clean, record.mean_corrupted, record.relative) == (0.0, 0.0, 0.0)


def test_measure_robustness__an_unknown_corruption_lists_the_known(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    with pytest.raises(PipelineError, match=r"corruption 'frog' is unknown; the known ones are gaussian_noise, "):
        measured(backend, mini_dataset, evaluate_params, corruptions=["frog"])


def test_measure_robustness__refuses_other_classes(
    backend: Backend, mini_dataset: PreparedDataset, evaluate_params: Evaluate
) -> None:
    other = replace(backend, metadata=replace(backend.metadata, classes=["x"]))
    with pytest.raises(PipelineError, match="trained on the classes x, but"):
        measured(other, mini_dataset, evaluate_params)


def test_params__ask_for_corruptions_that_exist(params: Params) -> None:
    assert set(params.robustness.corruptions) <= set(CORRUPTIONS)


def recorded(checkpoint: Path, records: Path, exported: Path, dataset: PreparedDataset, evaluate: Evaluate) -> None:
    record_robustness(
        checkpoint, records, dataset=dataset, params=PARAMS, evaluate=evaluate, device="cpu", exported=exported
    )


@pytest.mark.parametrize("task", TASKS)
def test_record_robustness__writes_torch_and_the_file_that_ships(
    task: Task, mini_dataset: PreparedDataset, evaluate_params: Evaluate, params: Params, tmp_path: Path
) -> None:
    name = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}[task]
    checkpoint = save(tmp_path / "toy", awake(name, task, mini_dataset.task_classes(task)), task)
    export_onnx(checkpoint, tmp_path / "toy.onnx", params.export)
    recorded(checkpoint, tmp_path, tmp_path / "toy.onnx", mini_dataset, evaluate_params)
    torch, exported = (
        read_record(tmp_path / f"robustness-{runtime}.json", Robustness) for runtime in ("torch", "onnxruntime-fp32")
    )
    assert (torch.runtime, exported.runtime) == ("torch", "onnxruntime-fp32")
    assert torch.model == exported.model
    assert exported.mean_corrupted == pytest.approx(torch.mean_corrupted, abs=0.01)


def test_record_robustness__of_a_model_that_was_not_asked_for_is_skipped_alike(
    mini_dataset: PreparedDataset, evaluate_params: Evaluate, tmp_path: Path
) -> None:
    write_record(tmp_path / SKIPPED, Skipped(skipped="control.enabled is false"))
    record_robustness(tmp_path, tmp_path, dataset=mini_dataset, params=PARAMS, evaluate=evaluate_params, device="cpu")
    record = read_record(tmp_path / "robustness-torch.json", Skipped)
    assert record.skipped == "control.enabled is false"


def test_record_robustness__without_corruptions_says_so_and_loads_nothing(
    mini_dataset: PreparedDataset, evaluate_params: Evaluate, tmp_path: Path
) -> None:
    record_robustness(
        tmp_path / "absent",
        tmp_path,
        dataset=mini_dataset,
        params=PARAMS.model_copy(update={"corruptions": []}),
        evaluate=evaluate_params,
        device="cpu",
        exported=tmp_path / "absent.onnx",
    )
    for runtime in ("torch", "onnxruntime-fp32"):
        record = read_record(tmp_path / f"robustness-{runtime}.json", Skipped)
        assert "robustness.corruptions is empty" in record.skipped
