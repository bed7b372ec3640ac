from collections.abc import Callable
from typing import Protocol

import numpy as np
import pytest

from pipeline.backends import Array, Backend
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.difference import match
from pipeline.evaluation.parity import compare
from pipeline.export.gate import check_gate
from pipeline.params import Evaluate
from pipeline.records import ModelInfo, Parity
from tests.tiny import export_params_of

Make = Callable[..., Backend]
Run = Callable[[Array], list[Array]]


class Compare(Protocol):
    def __call__(
        self, exported: Run, reference: Run | None = None, sound: bool = True, **changes: object
    ) -> Parity: ...


@pytest.fixture
def against_oracle(
    known_dataset: PreparedDataset, make_backend: Make, oracle: Run, evaluate_params: Evaluate, model_info: ModelInfo
) -> Compare:
    def against(exported: Run, reference: Run | None = None, sound: bool = True, **changes: object) -> Parity:
        pair = (
            make_backend(reference or oracle, end2end=changes.get("end2end", True)),
            make_backend(exported, "onnxruntime-fp32", **changes),
        )
        scored = (pair[0], pair[1] if sound else pair[0])
        first, second = (
            evaluate(backend, known_dataset, "test", evaluate_params, model=model_info, size_mb=1.0)
            for backend in scored
        )
        return compare(
            *pair,
            known_dataset,
            "test",
            accuracy=(first, second),
            export=export_params_of(parity_images=5),
            evaluate=evaluate_params,
        )

    return against


def test_compare__zero_for_the_same_network(against_oracle: Compare, oracle: Run) -> None:
    parity = against_oracle(oracle)
    assert [(output.name, output.max_abs, output.relative_l2) for output in parity.outputs] == [
        ("boxes", 0.0, 0.0),
        ("scores", 0.0, 0.0),
    ]
    assert (parity.agreement, parity.max_box_error_px, parity.max_score_error) == (1.0, 0.0, 0.0)
    assert (parity.score_torch, parity.score_exported, parity.drop) == (1.0, 1.0, 0.0)
    assert (parity.images, parity.runtime) == (5, "onnxruntime-fp32")
    check_gate([parity])


def test_compare__measures_a_known_error(against_oracle: Compare, oracle: Run) -> None:
    parity = against_oracle(lambda images: [oracle(images)[0] + np.float32([0.0, 0, 0.0, 0.03, -0.01, 0])])
    boxes, scores = parity.outputs
    assert parity.agreement == 1.0
    assert parity.max_box_error_px == pytest.approx(0.03, rel=1e-3)
    assert boxes.max_abs == pytest.approx(0.03, rel=1e-3)
    assert scores.max_abs == pytest.approx(0.01, rel=1e-3)
    assert 0 < boxes.relative_l2 < 1e-3


def test_compare__end2end_rows_may_swap_places(against_oracle: Compare, oracle: Run) -> None:
    def close(images: Array, second: float) -> list[Array]:
        rows = oracle(images)[0].copy()
        rows[:, 1, 4] = np.where(rows[:, 1, 4] > 0, second, 0)
        return [np.stack([image[np.argsort(-image[:, 4], kind="stable")] for image in rows])]

    parity = against_oracle(
        lambda images: close(images, 0.9 + 1e-6), reference=lambda images: close(images, 0.9 - 1e-6)
    )
    assert parity.outputs[0].max_abs == 0.0
    assert parity.outputs[1].max_abs < 3e-6
    assert parity.agreement == 1.0


def test_compare__a_lost_box_is_a_smaller_share_and_a_drop(against_oracle: Compare, oracle: Run) -> None:
    def forgetful(images: Array) -> list[Array]:
        rows = oracle(images)[0].copy()
        rows[:, 1, 4] = 0
        return [rows]

    parity = against_oracle(forgetful)
    assert parity.agreement == 0.5
    assert parity.drop > 0.1
    with pytest.raises(PipelineError, match=r"(?s)export\.max_drop.*AP50-95.*onnxruntime-fp32 +0\."):
        check_gate([parity])


def test_check_gate__a_gain_is_a_difference_too(against_oracle: Compare, oracle: Run) -> None:
    parity = against_oracle(oracle).model_copy(update={"drop": -0.01})
    with pytest.raises(PipelineError, match="is not the model that was trained"):
        check_gate([parity])


def test_check_gate__passes_at_the_limit(against_oracle: Compare, oracle: Run) -> None:
    check_gate([against_oracle(oracle).model_copy(update={"drop": 0.002})])


def test_compare__raw_outputs_by_position(against_oracle: Compare) -> None:
    def raw(images: Array, error: float = 0.0) -> list[Array]:
        output = np.zeros((len(images), 4 + 3, 20), dtype=np.float32)
        output[:, :4] = 20
        output[:, 4, 3] = 0.5 + error
        return [output]

    parity = against_oracle(lambda images: raw(images, 0.125), reference=raw, end2end=False)
    boxes, scores = parity.outputs
    assert (boxes.max_abs, scores.max_abs, parity.max_score_error) == (0.0, 0.125, 0.125)
    assert scores.relative_l2 == pytest.approx(0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_compare__refuses_what_is_not_finite(against_oracle: Compare, oracle: Run, value: float) -> None:
    with pytest.raises(PipelineError, match=r"0\.png: 24 of the output's 24 values are NaN or infinite"):
        against_oracle(lambda images: [np.full_like(oracle(images)[0], value)], sound=False)


def test_compare__refuses_another_shape(against_oracle: Compare, oracle: Run) -> None:
    with pytest.raises(PipelineError, match=r"expected an output of shape \(1, 4, 6\), got \(1, 2, 6\)"):
        against_oracle(lambda images: [oracle(images)[0][:, :2]], sound=False)


def test_compare__refuses_another_model(against_oracle: Compare, oracle: Run) -> None:
    with pytest.raises(PipelineError, match="not an export of this model"):
        against_oracle(oracle, sound=False, image_size_px=128)


def test_match__pairs_each_box_once_and_by_score() -> None:
    box = [10, 10, 30, 30]
    reference = np.array([[*box, 0.9, 1], [*box, 0.5, 1], [*box, 0.4, 0]], dtype=np.float32)
    exported = np.array([[*box, 0.51, 1], [*box, 0.91, 1], [*box, 0.4, 2]], dtype=np.float32)
    rows, columns = match(reference, exported, 0.99)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_match__a_box_that_is_left_over_stays_alone() -> None:
    box = [10, 10, 30, 30]
    twice = np.array([[*box, 0.9, 1], [*box, 0.5, 1]], dtype=np.float32)
    rows, columns = match(twice, twice[:1], 0.99)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def test_match__nothing_to_pair() -> None:
    nothing = np.zeros((0, 6), dtype=np.float32)
    rows, columns = match(nothing, nothing, 0.99)
    assert len(rows) == len(columns) == 0
