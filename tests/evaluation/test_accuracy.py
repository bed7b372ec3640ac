from collections.abc import Callable

import numpy as np
import pytest

from pipeline.backends import Array, Backend
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.boxes import predict_boxes, truth_of
from pipeline.params import Evaluate
from pipeline.records import ModelInfo

Make = Callable[..., Backend]
Run = Callable[[Array], list[Array]]


def test_evaluate__one_for_a_network_that_knows_the_labels(
    known_dataset: PreparedDataset, make_backend: Make, oracle: Run, evaluate_params: Evaluate, model_info: ModelInfo
) -> None:
    accuracy = evaluate(make_backend(oracle), known_dataset, "test", evaluate_params, model=model_info, size_mb=1.5)
    assert (accuracy.main, accuracy.scores["map50"]) == (1.0, 1.0)
    assert (accuracy.images, accuracy.dataset, accuracy.runtime) == (5, "split-digest", "torch")
    assert accuracy.per_class == {"circle": 1.0, "square": 1.0, "star": 1.0}


def test_evaluate__zero_for_a_network_that_sees_nothing(
    known_dataset: PreparedDataset, make_backend: Make, evaluate_params: Evaluate, model_info: ModelInfo
) -> None:
    backend = make_backend(lambda images: [np.zeros((len(images), 4, 6), dtype=np.float32)])
    accuracy = evaluate(backend, known_dataset, "test", evaluate_params, model=model_info, size_mb=1.5)
    assert accuracy.main == 0.0


def test_evaluate__refuses_other_classes(
    known_dataset: PreparedDataset, make_backend: Make, oracle: Run, evaluate_params: Evaluate, model_info: ModelInfo
) -> None:
    backend = make_backend(oracle, classes=["cat", "dog", "cow"])
    with pytest.raises(PipelineError, match="trained on the classes cat, dog, cow"):
        evaluate(backend, known_dataset, "test", evaluate_params, model=model_info, size_mb=1.5)


@pytest.mark.parametrize(("dynamic_batch", "expected"), [(True, [2, 2, 1]), (False, [1, 1, 1, 1, 1])])
def test_predict__batches_as_the_backend_allows(
    known_dataset: PreparedDataset,
    make_backend: Make,
    oracle: Run,
    evaluate_params: Evaluate,
    dynamic_batch: bool,
    expected: list[int],
) -> None:
    sizes = []

    def spy(images: Array) -> list[Array]:
        sizes.append(len(images))
        return oracle(images)

    backend = make_backend(spy, dynamic_batch=dynamic_batch)
    found = predict_boxes(backend, known_dataset.images("test"), evaluate_params)
    assert sizes == expected
    assert [prediction.image for prediction in found] == known_dataset.images("test")


def test_predict__answers_in_pixels_of_the_original_image(
    known_dataset: PreparedDataset, make_backend: Make, oracle: Run, evaluate_params: Evaluate
) -> None:
    for found in predict_boxes(make_backend(oracle), known_dataset.images("test"), evaluate_params):
        truth = truth_of(known_dataset, found.image, found.width, found.height)
        np.testing.assert_allclose(found.boxes[:, :4], truth.boxes, atol=1e-3)
        np.testing.assert_array_equal(found.boxes[:, 5], truth.class_ids)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predict__refuses_what_is_not_finite(
    known_dataset: PreparedDataset, make_backend: Make, evaluate_params: Evaluate, value: float
) -> None:
    backend = make_backend(lambda images: [np.full((len(images), 4, 6), value, dtype=np.float32)])
    with pytest.raises(PipelineError, match=r"0\.png: 48 of the output's 48 values are NaN or infinite"):
        predict_boxes(backend, known_dataset.images("test"), evaluate_params)


def test_truth_of__scales_labels_to_pixels(known_dataset: PreparedDataset) -> None:
    truth = truth_of(known_dataset, known_dataset.images("test")[0], width=64, height=48)
    np.testing.assert_allclose(truth.boxes[0], [0.15 * 64, 0.15 * 48, 0.45 * 64, 0.55 * 48], rtol=1e-5)
