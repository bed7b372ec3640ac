"""INT8 in OpenVINO as in ONNX Runtime, also where oneDNN may use older instructions alone."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.backends import Array
from pipeline.export.graph import save_graph
from pipeline.export.onnx import export_onnx
from pipeline.export.quantize import calibrate, quantizable, quantize
from pipeline.tasks import Task
from tests.tiny import awake, export_params_of, save

pytest.importorskip("openvino")
pytestmark = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="instruction sets of x86-64")

MODELS: dict[str, Task] = {
    "micro-n.yaml": "detect",
    "yolo26n.yaml": "detect",
    "micro-n-sem.yaml": "segment",
    "pspnet-mobilenet": "segment",
    "unet-mobilenet": "segment",
}
INT8 = export_params_of().int8
LIMITS = ["", "AVX2", "AVX512_CORE"]  # none; no VNNI in either
RUN = """
import sys
from pathlib import Path
import numpy as np
from pipeline.backends import load
folder = Path(sys.argv[1])
found = {}
for file in sorted(folder.glob("*.onnx")):
    for runtime in ("onnxruntime", "openvino"):
        images = np.load(folder / ("concat.npy" if "concat" in file.name else "images.npy"))
        backend = load(file, threads=1, runtime=runtime)
        found[f"{file.stem} {runtime}"] = np.stack([backend(image[None])[-1] for image in images])
np.savez(sys.argv[2], **found)
"""


def images() -> Array:
    return np.random.default_rng(0).random((4, 3, 64, 64), dtype=np.float32)


def write_concat(path: Path) -> None:
    """Write a Concat of two signed inputs in front of a 1x1 convolution, whose last channel is as large as can be."""
    weight = np.random.default_rng(1).normal(size=(8, 32, 1, 1)).astype(np.float32)
    weight[-1] = np.sign(weight[-1])
    constants = {"half": np.array(-0.5, np.float32), "weight": weight, "bias": np.zeros(8, np.float32)}
    nodes = [
        helper.make_node("Mul", ["images", "half"], ["other"], name="/mul/Mul"),
        helper.make_node("Concat", ["images", "other"], ["both"], axis=1, name="/concat/Concat"),
        helper.make_node("Conv", ["both", "weight", "bias"], ["output0"], name="/conv/Conv"),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, 32, 32])
        for name, count in (("images", 16), ("output0", 8))
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    facts = {"task": "detect", "classes": ["a"], "image_size_px": 32, "strides": [1], "end2end": False}
    save_graph(model, path, {**facts, "precision": "fp32", "float_layers": []})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write each model in float32, in INT8, and with nothing but the readers of a Concat in INT8."""
    out = tmp_path_factory.mktemp("every-cpu")
    np.save(out / "images.npy", images())
    signed = np.random.default_rng(0).uniform(-6.35, 6.35, (4, 16, 32, 32)).astype(np.float32)
    np.save(out / "concat.npy", signed)
    write_concat(out / "concat-fp32.onnx")
    calibrate(out / "concat-fp32.onnx", signed, INT8, out / "concat.json")
    quantize(out / "concat-fp32.onnx", out / "concat.json", out / "concat-int8.onnx", INT8)
    for name, task in MODELS.items():
        fp32, ranges = out / f"{name}-fp32.onnx", out / f"{name}.json"
        export_onnx(save(out / name, awake(name, task), task), fp32, export_params_of())
        calibrate(fp32, images(), INT8, ranges)
        quantize(fp32, ranges, out / f"{name}-int8.onnx", INT8)
        quantize(fp32, ranges, out / f"{name}-some.onnx", INT8, only=readers_of_concat(fp32))
    return out


def readers_of_concat(file: Path) -> list[str]:
    model = onnx.load(file)
    joined = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    taken = set(quantizable(model, INT8))
    return [node.name for node in model.graph.node if node.name in taken and node.input[0] in joined]


@pytest.fixture(scope="module", params=LIMITS)
def answers(folder: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """Run every file in both runtimes, in a process whose oneDNN is held to an instruction set."""
    found = tmp_path_factory.mktemp("answers") / "found.npz"
    limit = {"ONEDNN_MAX_CPU_ISA": request.param, "DNNL_MAX_CPU_ISA": request.param} if request.param else {}
    command = [sys.executable, "-c", RUN, str(folder), str(found)]
    subprocess.run(command, env=os.environ | limit, cwd=Path(__file__).parents[2], check=True)
    return dict(np.load(found))


def far(found: Array, expected: Array) -> float:
    """Return the relative L2 distance, in a detector over the scores."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_a_signed_concat_is_exact_to_a_rounding_error(answers: dict[str, Array]) -> None:
    onnxruntime, openvino = (answers[f"concat-int8 {name}"] for name in ("onnxruntime", "openvino"))
    assert far(onnxruntime, answers["concat-fp32 onnxruntime"]) < 0.02
    assert (np.abs(onnxruntime - openvino) < 1e-3 * np.abs(onnxruntime).max()).mean() > 0.99
    assert far(openvino, onnxruntime) < 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_int8_behind_a_concat_is_the_same_in_both_runtimes(answers: dict[str, Array], name: str) -> None:
    some = [scores(answers[f"{name}-some {runtime}"], name) for runtime in ("onnxruntime", "openvino")]
    plain = scores(answers[f"{name}-fp32 onnxruntime"], name)
    assert far(some[1], some[0]) < 0.6 * far(some[0], plain) + 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_int8_errs_in_openvino_as_in_onnxruntime(answers: dict[str, Array], name: str) -> None:
    plain = scores(answers[f"{name}-fp32 onnxruntime"], name)
    errors = [far(scores(answers[f"{name}-int8 {runtime}"], name), plain) for runtime in ("onnxruntime", "openvino")]
    assert errors[1] < 1.6 * errors[0]


def scores(found: Array, name: str) -> Array:
    """Take what a model says of classes: rows of an end2end detector come in another order for the least change."""
    if MODELS[name] == "segment":
        return found
    return np.sort(found[:, 0, :, 4], axis=1) if "26" in name else found[:, 0, 4:]
