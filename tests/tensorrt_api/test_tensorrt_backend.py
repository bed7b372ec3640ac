"""Plans behind the Backend interface, over the stand-in: the right tensors reach the right places, or a clear error."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.backends import load
from pipeline.backends.tensorrt import unavailable
from pipeline.errors import PipelineError
from pipeline.export.tensorrt import build_plan
from pipeline.params import Params
from tests.tensorrt_api.conftest import VERSIONS, Drive

each_version = pytest.mark.parametrize("version", VERSIONS)


@each_version
@pytest.mark.parametrize("name", ["detect", "segment", "static"])
def test_load_plan__answers_as_the_onnx_file_does(version: str, name: str, drive: Drive) -> None:
    ran = drive(version, "run")[name]
    assert all(ran["equal"])  # batches of 1, 3 and, beyond the profile, 11
    assert ran["phases_equal"]
    assert ran["metadata_equal"]
    assert ran["runtime"] == ["tensorrt-fp32", "cuda", name != "static"]


@each_version
def test_load_plan__times_the_copies_and_the_computation(version: str, drive: Drive) -> None:
    phases = drive(version, "run")["detect"]["phases"]
    assert list(phases) == ["host_to_device", "compute", "device_to_host"]
    assert all(value > 0 for value in phases.values())


@each_version
def test_load_plan__runs_on_the_dla_core_that_it_was_built_for(version: str, drive: Drive) -> None:
    assert drive(version, "run")["dla"] == [1, False]


@each_version
def test_load_plan__images_that_do_not_fit_are_refused(version: str, drive: Drive) -> None:
    ran = drive(version, "run")
    assert "expected 1 to 8 images of shape (3, 64, 64), got (1, 3, 63, 64)" in ran["detect"]["other_size"]
    assert "expected 1 to 8 images of shape (3, 64, 64), got (11, 3, 64, 64)" in ran["detect"]["too_many"]
    assert "expected 1 images of shape" in ran["static"]["too_many"]


@each_version
def test_load_plan__a_plan_of_another_version_or_gpu_is_refused(version: str, drive: Drive) -> None:
    ran = drive(version, "run")
    assert f"built with TensorRT another, and here is TensorRT {version}" in ran["tensorrt_version"]
    assert "built with GPU another, and here is GPU Stand-in GPU, sm_87" in ran["gpu"]
    assert "`dvc repro engine`" in ran["gpu"]
    assert f"TensorRT {version} cannot read this plan" in ran["unreadable"]


@each_version
def test_load_plan__falls_back_to_no_other_device(version: str, drive: Drive) -> None:
    ran = drive(version, "run")
    assert "needs a GPU, got device cpu: use cuda" in ran["cpu"]
    assert "device cuda:1: CUDA finds 1 devices here" in ran["absent"]


def test_unavailable__names_a_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, params: Params) -> None:
    monkeypatch.setattr("pipeline.backends.tensorrt.find_spec", lambda _: None)
    assert "package tensorrt is not installed here: install this project's extra" in (unavailable() or "")
    (tmp_path / "a.plan").touch()
    with pytest.raises(PipelineError, match=r"a\.plan: the Python package tensorrt is not installed"):
        load(tmp_path / "a.plan", "cuda")
    with pytest.raises(PipelineError, match="no plan can be built here: the Python package tensorrt"):
        build_plan(tmp_path / "a.onnx", tmp_path / "b.plan", params.engine.tensorrt, tmp_path)


def test_load_plan__a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"a\.plan not found: run `dvc repro engine` on this device"):
        load(tmp_path / "a.plan", "cuda")


@pytest.mark.gpu
def test_build_plan__on_a_gpu_answers_as_onnx_runtime(work: Path, tmp_path: Path, params: Params) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    plan = tmp_path / "detect.plan"
    info = build_plan(work / "detect.onnx", plan, params.engine.tensorrt, tmp_path / "caches")
    assert info.layer_shares.get("fp32", 0) > 0.5
    assert list((tmp_path / "caches").glob("*.cache"))
    backend, reference = load(plan, "cuda"), load(work / "detect.onnx")
    images = np.random.default_rng(0).random((11, 3, 64, 64), dtype=np.float32)
    for got, expected in zip(backend(images), reference(images), strict=True):
        assert np.linalg.norm(got - expected) < 0.01 * np.linalg.norm(expected)  # TF32
    assert backend.phases
    assert backend.phases(images[:1])[1]["compute"] > 0
