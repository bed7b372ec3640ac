"""ONNX files, and what each TensorRT version's bindings made of them over the stand-in."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.export.onnx import export_onnx
from pipeline.tasks import Task
from tests.tiny import awake, export_params_of, save

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".venv/tensorrt"
VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106")

Drive = Callable[[str, str], dict[str, Any]]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export both tasks' tiny models, and make files that the exporter does not make."""
    folder = tmp_path_factory.mktemp("tensorrt")
    models: dict[Task, str] = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}
    export = export_params_of()
    for task, name in models.items():
        save(folder / task, awake(name, task), task)
        export_onnx(folder / task, folder / f"{task}.onnx", export)
    export_onnx(folder / "detect", folder / "static.onnx", export.model_copy(update={"dynamic_batch": False}))
    properties = {entry.key: entry.value for entry in onnx.load(folder / "detect.onnx").metadata_props}
    quantized(folder / "int8-tensorrt.onnx", properties | {"precision": '"int8-tensorrt"'})
    identity(folder / "foreign.onnx", properties, inputs=["images"], domain="com.example")
    identity(folder / "two_inputs.onnx", properties, inputs=["images", "more"])
    return folder


@pytest.fixture(scope="session")
def drive(work: Path) -> Drive:
    """Return a function that runs a scenario of drive.py over a version, once."""
    done: dict[tuple[str, str], dict[str, Any]] = {}

    def run(version: str, scenario: str) -> dict[str, Any]:
        needed = (BUILT / version, BUILT / "cuda/libcudart.so", BUILT / f"lib{version[:2]}")
        if not all(path.exists() for path in needed):
            pytest.skip(f"{BUILT} lacks {version}: no C++ compiler or no download, see tests/tensorrt_api/build.sh")
        if (version, scenario) not in done:
            command = [sys.executable, str(Path(__file__).parent / "drive.py"), version, scenario, str(work)]
            environment = os.environ | {"LD_LIBRARY_PATH": str(BUILT / "cuda")}
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            done[version, scenario] = json.loads((work / f"{version}-{scenario}/result.json").read_text())
        result = done[version, scenario]
        assert "traceback" not in result, result["traceback"]
        return result

    return run


def quantized(path: Path, properties: dict[str, str]) -> None:
    """Write a file as strong typing wants it: float16 inside, Q/DQ in front of one of two convolutions."""
    half = np.float16
    weights = [
        numpy_helper.from_array(np.full((3, 3, 1, 1), 0.1, half), "plain"),
        numpy_helper.from_array(np.full((3, 3, 1, 1), 12, np.int8), "int8"),
        numpy_helper.from_array(np.array(0.02, half), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["in"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["in", "plain"], ["one"], name="one"),
        helper.make_node("QuantizeLinear", ["one", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["int8", "scale", "zero"], ["weight"]),
        helper.make_node("Conv", ["dq", "weight"], ["two"], name="two"),
        helper.make_node("Cast", ["two"], ["output0"], to=TensorProto.FLOAT),
    ]
    _save(path, properties, nodes, ["images"], weights, opset=19)


def identity(path: Path, properties: dict[str, str], inputs: list[str], domain: str = "") -> None:
    """Write a file that passes its first input on, with an operator of a domain."""
    node = helper.make_node("Identity", inputs[:1], ["output0"], name="pass_on", domain=domain)
    _save(path, properties, [node], inputs, [], opset=17)


def _save(
    path: Path, properties: dict[str, str], nodes: list[Any], inputs: list[str], weights: list[Any], opset: int
) -> None:
    images = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in inputs]
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 3, 8, 8])
    graph = helper.make_graph(nodes, "g", images, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, properties)
    onnx.save(model, path)
