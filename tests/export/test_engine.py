from pathlib import Path

import pytest

from pipeline.backends import Backend, Metadata
from pipeline.checkpoint_info import load_info
from pipeline.device import probe
from pipeline.errors import PipelineError
from pipeline.export import engine
from pipeline.export.engine import build_engines
from pipeline.params import Engine


def test_build_engines__says_built_or_why_not(exported: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    model = load_info(checkpoints["raw"]).model_info()
    asked = Engine(backends=["tensorrt", "onnxruntime", "openvino"])
    record = build_engines(exported, asked, probe(), tmp_path / "engines", model)
    assert [build.backend for build in record.builds] == ["tensorrt", "onnxruntime", "openvino"]
    for build in record.builds:
        if build.backend == "onnxruntime":
            assert (build.status, build.reason, build.precision) == ("built", None, "fp32")
            assert build.file == exported.as_posix()
            assert build.version
            assert build.size_mb == pytest.approx(exported.stat().st_size / 1e6)
        else:
            assert (build.status, build.file, build.size_mb) == ("skipped", None, None)
            assert "this version of the pipeline does not build it yet" in (build.reason or "")
    assert record.device == probe()
    assert list((tmp_path / "engines").iterdir()) == []


def test_build_engines__names_a_missing_package(
    exported: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_info(checkpoints["raw"]).model_info()
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    record = build_engines(exported, Engine(backends=["tensorrt"]), probe(), tmp_path, model)
    assert "tensorrt is not installed here" in (record.builds[0].reason or "")


def test_build_engines__a_file_that_gives_nan_is_not_built(
    exported: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = Metadata("detect", ["a"], 64, [8], True, "fp32")
    broken = Backend("onnxruntime-fp32", "cpu", 1, True, metadata, lambda images: [images[:, 0] + float("nan")])
    monkeypatch.setattr(engine, "load", lambda _: broken)
    model = load_info(checkpoints["raw"]).model_info()
    with pytest.raises(PipelineError, match="NaN or infinity"):
        build_engines(exported, Engine(backends=["onnxruntime"]), probe(), tmp_path, model)
