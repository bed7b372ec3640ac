"""INT8 by ModelOpt: what it is asked for, what becomes of its file. The real one runs where MODELOPT_PYTHON is set."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from pipeline.backends import load
from pipeline.errors import PipelineError
from pipeline.export.graph import module_path, properties_of
from pipeline.export.modelopt import quantize_with_modelopt
from pipeline.export.onnx import export_onnx
from pipeline.export.quantize import calibrate, quantizable, quantize_for_tensorrt
from pipeline.lint.check import lint
from pipeline.params import Int8
from tests.tiny import awake, export_params_of, save

INT8 = export_params_of().int8.model_copy(update={"quantizer": "modelopt"})
IMAGES = list(np.random.default_rng(0).random((4, 3, 64, 64), dtype=np.float32))
MODELOPT = os.environ.get("MODELOPT_PYTHON")


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modelopt")
    export_onnx(save(folder, awake("micro-n.yaml", "detect"), "detect"), folder / "fp32.onnx", export_params_of())
    return folder / "fp32.onnx"


def interpreter(folder: Path, code: str) -> str:
    """Write a program that stands in for ModelOpt's interpreter."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\nimport json, pathlib, shutil, sys\nasked = sys.argv[3:]\n{code}\n")
    program.chmod(0o755)
    return str(program)


def test_asks_for_what_tensorrt_takes_and_ships_with_the_metadata(fp32: Path, tmp_path: Path) -> None:
    log = tmp_path / "asked.json"
    python = interpreter(
        tmp_path,
        "value = lambda flag: asked[asked.index(flag) + 1]\n"
        f"pathlib.Path({str(log)!r}).write_text(json.dumps(sys.argv[1:]))\n"
        "shutil.copy(value('--onnx_path'), value('--output_path'))",
    )

    quantize_with_modelopt(fp32, IMAGES, tmp_path / "int8.onnx", INT8, python)

    asked = json.loads(log.read_text())
    assert asked[:2] == ["-m", "modelopt.onnx.quantization"]
    assert asked[asked.index("--calibration_method") + 1] == "max"
    assert asked[asked.index("--high_precision_dtype") + 1] == "fp32"
    assert "--dq_only" in asked
    kept = {name.strip("^$").replace("\\", "") for name in asked[asked.index("--nodes_to_exclude") + 1 :]}
    source = onnx.load(fp32)
    products = {node.name for node in source.graph.node if node.op_type in {"Conv", "MatMul"}}
    assert kept == products - set(quantizable(source, INT8))
    assert {module_path(name) for name in kept} >= set(properties_of(source)["float_layers"])
    expected = {**properties_of(source), "precision": "int8-tensorrt"}
    assert properties_of(onnx.load(tmp_path / "int8.onnx")) == expected


def test_a_failure_shows_its_last_words(fp32: Path, tmp_path: Path) -> None:
    python = interpreter(tmp_path, "sys.exit('No module named modelopt')")
    with pytest.raises(PipelineError, match=r"machine\.modelopt_python.*\n.*No module named modelopt"):
        quantize_with_modelopt(fp32, IMAGES, tmp_path / "int8.onnx", INT8, python)
    with pytest.raises(PipelineError, match=r"machine\.modelopt_python: /no/such/python does not run"):
        quantize_with_modelopt(fp32, IMAGES, tmp_path / "int8.onnx", INT8, "/no/such/python")
    assert not (tmp_path / "int8.onnx").exists()


def test_percentile_is_not_among_its_methods() -> None:
    with pytest.raises(ValidationError, match="minmax or entropy"):
        Int8.model_validate({**INT8.model_dump(), "calibration": "percentile"})


def error(file: Path, reference: Path) -> float:
    found, expected = (load(path, runtime="onnxruntime_unoptimized")(np.stack(IMAGES))[0] for path in (file, reference))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.skipif(MODELOPT is None, reason="MODELOPT_PYTHON names no environment with nvidia-modelopt[onnx]")
@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_the_real_one_makes_a_file_that_passes(fp32: Path, tmp_path: Path, method: str) -> None:
    out, params = tmp_path / "int8.onnx", INT8.model_copy(update={"calibration": method})

    quantize_with_modelopt(fp32, IMAGES, out, params, str(MODELOPT))

    calibrate(fp32, IMAGES, params, tmp_path / "ranges.json")
    quantize_for_tensorrt(fp32, tmp_path / "ranges.json", tmp_path / "onnxruntime.onnx", params)
    assert error(out, fp32) < 4 * error(tmp_path / "onnxruntime.onnx", fp32)  # it quantizes residual sums as well
    assert out.stat().st_size < 0.6 * fp32.stat().st_size  # int8 weights; the graph of this model is as large as they
    assert not [finding for finding in lint(out).findings if finding.severity == "error"]
