"""Each rule on the smallest graph that breaks it, and on one beside it that does not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from pipeline.errors import PipelineError
from pipeline.lint import Finding, lint
from pipeline.lint.check import RULES
from tests.lint.graphs import broken, errors, write

IMAGE, OUT = "float[1,3,8,8] x", "float[1,3,8,8] y"
BOTH, OLD = ["10.3", "11.4"], ["10.3"]
QDQ = "q = QuantizeLinear(x, s, z) [dq] y = DequantizeLinear(q, s, z)"
NAMED = QDQ.replace("[dq] y", "y").replace("q =", "[q] q =", 1)
CONV = "[dq] f = DequantizeLinear <axis={axis}> (w, s, z) [conv] y = Conv(x, f)"
WEIGHT = "int8[2,3,1,1] w = {1, 2, 3, 4, 5, 6}"
TWO, THREE = "float[2] s = {0.5, 0.5}, int8[2] z = {0, 0}", "float[3] s = {0.5, 0.5, 0.5}, int8[3] z = {0, 0, 0}"
MAP = "float[1,2,8,8] y"
BRANCHES = "then_branch = t () => (float[4] a) { a = Relu(x) }, else_branch = e () => (float[4] b) { b = Abs(x) }"
UNLIKE = BRANCHES.replace("a = Relu(x)", "a = Reshape(x, s)").replace("float[4] a", "float[2,2] a")
GROWING = (
    "body = b (int64 i, bool k, float[m] v) => (bool l, float[p] w) { l = Identity(k) w = Concat <axis=0> (v, v) }"
)

# rule: (graph, place, what the finding says, versions)
CASES: dict[str, tuple[tuple[Any, ...], str, str, list[str]]] = {
    "opset": ((IMAGE, OUT, "[n] y = Relu(x)", "", 21), "the file", "opset 21; this version is known to take 9", OLD),
    "operator": (("float[1,3,4,4] x", "float[1,3] y", "[n] y = Det(x)"), "n", "TensorRT has no Det", BOTH),
    "operator-type": (("int32[4] x", "int32[4] y", "[n] y = Sqrt(x)"), "n", "Sqrt of INT32; it takes", BOTH),
    "plugin": ((IMAGE, OUT, "[n] y = mine.Wave(x)"), "n", "mine.Wave is no ONNX operator", BOTH),
    "tensorrt-plugin": ((IMAGE, OUT, "[n] y = trt.EfficientNMS_TRT(x)"), "n", "of TensorRT's own", BOTH),
    "order": ((IMAGE, OUT, "[late] y = Relu(a) [early] a = Abs(x)"), "late", "before the node that makes its", BOTH),
    "mixed-types": (("float[4] x, float16[4] h", "float[4] y", "[n] y = Add(x, h)"), "n", "Add of FP16 and FP32", BOTH),
    "invalid": (("float[2,3] x, float[4] z", "float[6] y", "[n] y = Concat <axis=0> (x, z)"),
        "the file", "Inference err", BOTH),
    "specification": ((IMAGE, OUT, "[n] y = Relu <foo=1> (x)"), "the file", "foo", BOTH),
    "cycle": (("float[4] x", "float[4] y", "[n] y = Add(x, a) a = Abs(y)"), "n", "depends on its own output", BOTH),
    "names": (("float[4] x", "float[4] y", "[n] y = Add(x, nobody)"),
        "n", "it needs 'nobody', which nothing makes", BOTH),
    "operand-type": (("int32[4] c, float[4] x", "float[4] y", "[n] y = Where(c, x, x)"),
        "n", "is INT32, not BOOL", BOTH),
    "foreign-domain": ((IMAGE, OUT, "[n] y = mine.Relu(x)"), "n", "mine.Relu, which TensorRT reads as ONNX's", BOTH),
    "tensor-type": (("float[4] x, int16[4] z", "float[4] y", "[n] y = Relu(x)"), "z", "a tensor of INT16", BOTH),
    "convolution": ((f"{IMAGE}, float[2,3,a,b] w", "float[] y", "[n] y = Conv(x, w)"), "n", "weights of unknown", BOTH),
    "max-rank": (("float[2] x", "float[2] y", "[n] y = Reshape(a, t) a = Reshape(x, s)",
                  "int64[9] s = {1,1,1,1,1,1,1,1,2}, int64[1] t = {2}"), "a", "a tensor of 9 dimensions", BOTH),
    "ranks": (("float[4,4] x, int64[2] i", "float[] y", "[n] y = GatherElements(x, i)"), "n", "1 and 2 dimens", BOTH),
    "shape-operand": (("float[4] x, int64[k] to", "float[] y", "[n] y = Reshape(x, to)"), "n", "no fixed length", BOTH),
    "resize": (("float[2,3,4,4] x", "float[] y", '[n] y = Resize <mode="cubic"> (x, , s)', "float[4] s = {1,2,2,2}"),
               "n", "cubic Resize of dimension 1; TensorRT takes the last 2", BOTH),
    "broadcast": (("float[2] x, float[2,2,3] z", "float[] y", "[n] y = MatMul(x, z)"),
        "n", "a vector and 3 dimens", BOTH),
    "volume": (("float[2,3] x", "float[] y", "[n] y = Reshape(x, s)", "int64[1] s = {5}"),
        "n", "6 elements to 5", BOTH),
    "static": (("float[n,3] x", "float[] y", "[n] y = EyeLike(x)"), "n", "EyeLike over sides that are free", BOTH),
    "einsum": (("float[2,2] x", "float[] y", '[n] y = Einsum <equation="IJ->JI"> (x)'),
        "n", "IJ in its equation", BOTH),
    "branches": (("bool c, float[4] x", "float[] y", f"[n] y = If (c) <{UNLIKE}>", "int64[2] s = {2, 2}"), "n",
                 "If whose branches are of 2 and 1 dimensions", BOTH),
    "loop": (("float[4] x", "float[] y", f"[n] y = Loop (n, c, x) <{GROWING}>", "int64 n = {3}, bool c = {1}"), "n",
             "Loop whose state changes", BOTH),
    "computation": (("float[4] x", "float[4] y", "[n] y = Mod(x, x)"),
        "n", "Mod of floating point without fmod 1", BOTH),
    "uint8-quantiser": ((IMAGE, OUT, NAMED, "float s = {0.5}, uint8 z = {0}"), "q", "TensorRT computes as INT8", BOTH),
    "quantised-operand": (("int32[4] x", "float[4] y", NAMED,
                           "float s = {0.5}, int8 z = {0}"), "q", "QuantizeLinear of INT32", BOTH),
    "input-rank": (("float[] x", "float[] y", "[n] y = Relu(x)"), "x", "not even its number of dimensions", BOTH),
    "profile": (
        ("float[batch,3,side,8] x", "float[batch,3,side,8] y", "[n] y = Relu(x)"), "x",
        "(batch, 3, side, 8) needs a profile, for example --minShapes=x:1x3x32x8 --optShapes=x:1x3x320x8 --max", BOTH,
    ),
    "data-dependent": (("float[4] x", "int64[1,n] y", "[n] y = NonZero(x)"), "n", "NonZero: the size of its", BOTH),
    "attribute": ((IMAGE, OUT, "[n] y = LpNormalization <p=3> (x)"), "n",
                  "LpNormalization with p 3; TensorRT takes 1 or 2", BOTH),
    "top-k": (("float[4000] x", "float[3841] y", "[n] y, i = TopK(x, k)", "int64[1] k = {3841}"), "n", "3840", BOTH),
    "outputs": ((IMAGE, OUT, "[n] y, i = MaxPool <kernel_shape=[1,1]> (x)"), "n", "with its output Indices", BOTH),
    "dimensions": (("float[1,1,2,2,2] x, float[1,2,2,2,3] g", "float[1,1,2,2,2] y", "[n] y = GridSample(x, g)", "", 20),
                   "n", "GridSample of 5 dimensions; TensorRT takes 4", BOTH),
    "constant-input": (("float[4] x, int32 axis", "float[4] y", "[n] y = CumSum(x, axis)"), "n",
                       "CumSum whose input 1 is not constant", BOTH),
    "zero-point": ((IMAGE, OUT, QDQ, "float s = {0.5}, int8 z = {3}"), "dq", "a zero point that is not 0", BOTH),
    "uint8-quantisation": (("uint8[1,3,8,8] x", OUT, "[dq] y = DequantizeLinear(x, s, z)",
                            "float s = {0.5}, uint8 z = {0}"), "dq", "DequantizeLinear of UINT8", BOTH),
    "int32-bias": ((IMAGE, "float[1,1,8,8] y", "f = DequantizeLinear(b, s) [conv] y = Conv(x, w, f)",
                    "int32[1] b = {7}, float s = {0.5}, float[1,3,1,1] w = {1,2,3}"), "conv", "a quantised bias", BOTH),
    "quantised-type": ((IMAGE, OUT, QDQ, "float s = {0.5}, int16 z = {0}", 21), "dq", "Linear of INT16", BOTH),
    "scale": ((f"{IMAGE}, float s", OUT, QDQ, "int8 z = {0}"), "dq", "whose scale is not constant", BOTH),
    "activation-per-channel": ((IMAGE, OUT, QDQ, THREE), "dq", "DequantizeLinear of an activation per channel", BOTH),
    "weight-axis": ((IMAGE, MAP, CONV.format(axis=1), f"{WEIGHT}, {THREE}"), "conv",
                    "Conv weights quantised along axis 1, not 0", BOTH),
    "weight-per-tensor": ((IMAGE, MAP, CONV.format(axis=0), f"{WEIGHT}, float s = {{0.5}}, int8 z = {{0}}"), "conv",
                          "Conv weights with one scale", BOTH),
    "int64-input": (("int64[4] x", "int64[4] y", "[n] y = Neg(x)"), "x", "an INT64 input", BOTH),
    "double": (("double[4] x", "double[4] y", "[n] y = Relu(x)"), "x", "a DOUBLE tensor", BOTH),
    "uint8": (("float[4] x", "float[4] y", "b = Cast <to=2> (x) [n] y = Cast <to=1> (b)"), "b", "neither input", BOTH),
    "fp16-range": (("float[1] x", "float[1] y", "[n] y = Mul(x, w)", "float[1] w = {-70000}"), "w", "65504", BOTH),
    "int8-end2end": (("float[1,3,8,8] x", "float[1,3,8,2] y", f"{QDQ.replace('y =', 'd =')} [top] y, i = TopK(d, k)",
                      "float s = {0.5}, int8 z = {0}, int64[1] k = {2}"), "top", "INT8 and TopK", OLD),
}  # fmt: skip


def finding(path: Path, rule: str, **options: Any) -> Finding:
    (found,) = [found for found in lint(path, **options).findings if found.rule == rule][-1:]
    return found


@pytest.mark.parametrize("rule", CASES)
def test_lint__each_rule_names_the_place_and_the_fault(rule: str, tmp_path: Path) -> None:
    graph, where, says, versions = CASES[rule]
    found = finding(write(tmp_path, *graph), rule)
    assert found.where[0] == where
    assert says in found.found
    assert found.tensorrt == versions
    assert (found.severity, found.fix) == (RULES[rule].severity, RULES[rule].fix)


@pytest.mark.parametrize("rule", sorted(set(CASES) - {"quantised-type"}))  # whose graph needs opset 21
def test_lint__a_fault_is_one_error_at_most(rule: str, tmp_path: Path) -> None:
    expected = {rule} if RULES[rule].severity == "error" else set()
    assert errors(write(tmp_path, *CASES[rule][0])) == expected


def test_lint__no_rule_is_without_a_test() -> None:
    elsewhere = {"external-data", "external-link", "dla-version", "dla-operator", "dla-shape", "dla-fp32"}
    assert set(CASES) | elsewhere == set(RULES)


SOUND: dict[str, tuple[Any, ...]] = {
    "an output without a shape": (IMAGE, "float[] y", "y = Relu(x)"),
    "cubic interpolation of the two innermost dimensions": (
        IMAGE, "float[] y", 'y = Resize <mode="cubic"> (x, , s)', "float[4] s = {1, 1, 2, 2}",
    ),
    "linear interpolation of the three innermost dimensions": (
        IMAGE, "float[] y", 'y = Resize <mode="linear"> (x, , s)', "float[4] s = {1, 2, 2, 2}",
    ),
    "any order of the largest elements": (
        "float[9] x", "float[2] y", "y, i = TopK <sorted=0> (x, k)", "int64[1] k = {2}",
    ),
    "branches of other ranks where the condition is constant": (
        "float[4] x", "float[] y", f"y = If (c) <{UNLIKE}>", "bool c = {1}, int64[2] s = {2, 2}",
    ),
    "8 dimensions": ("float[2,2,2,2,2,2,2,2] x", "float[2,2,2,2,2,2,2,2] y", "y = Relu(x)"),
    "the last opset": (IMAGE, OUT, "[n] y = Relu(x)", "", 20),
    "integers where the parser takes them": ("int64[4] x", "int64[4] y", "y = Clip(x, one)", "int64 one = {1}"),
    "symmetric int8": (IMAGE, OUT, QDQ, "float s = {0.5}, int8 z = {0}"),
    "weights per output channel": (IMAGE, MAP, CONV.format(axis=0), f"{WEIGHT}, {TWO}"),
    "weights per output channel, axis from the end": (IMAGE, MAP, CONV.format(axis=-4), f"{WEIGHT}, {TWO}"),
    "a transposed convolution's weights": (
        "float[1,2,8,8] x", OUT, "f = DequantizeLinear <axis=1> (w, s, z) y = ConvTranspose(x, f)",
        "int8[2,3,1,1] w = {1, 2, 3, 4, 5, 6}, " + THREE,
    ),
    "a matrix": (
        "float[1,2] x", "float[1,3] y", "f = DequantizeLinear <axis=1> (w, s, z) y = MatMul(x, f)",
        "int8[2,3] w = {1, 2, 3, 4, 5, 6}, " + THREE,
    ),
    "a transposed matrix": (
        "float[1,3] x", "float[1,2] y", "f = DequantizeLinear <axis=0> (w, s, z) y = Gemm <transB=1> (x, f)",
        "int8[2,3] w = {1, 2, 3, 4, 5, 6}, " + TWO,
    ),
    "float weights through Q and DQ": (
        IMAGE, MAP, "q = QuantizeLinear <axis=0> (w, s, z) f = DequantizeLinear <axis=0> (q, s, z) y = Conv(x, f)",
        "float[2,3,1,1] w = {1, 2, 3, 4, 5, 6}, " + TWO,
    ),
    "one scale for one channel": (
        IMAGE, "float[1,1,8,8] y", CONV.format(axis=0), "int8[1,3,1,1] w = {1, 2, 3}, float s = {0.5}, int8 z = {0}",
    ),
    "a scale that a Constant makes": (IMAGE, OUT, "s = Constant <value_float=0.5> () " + QDQ, "int8 z = {0}"),
    "axes folded from constants": (
        "float[1,4] x", "float[4] y", "c = Cast <to=7> (a) y = Squeeze(x, c)", "int32[1] a = {0}",
    ),
    "the largest K": ("float[4000] x", "float[3840] y", "y, i = TopK(x, k)", "int64[1] k = {3840}"),
    "K from the data": ("float[9] x, int64[1] k", "float[n] y", "y, i = TopK(x, k)"),
    "bytes out": ("float[4] x", "uint8[4] y", "y = Cast <to=2> (x)"),
    "a mask of the largest FP16 number": ("float[1] x", "float[1] y", "y = Mul(x, m)", "float[1] m = {-65504}"),
    "a branch that reads the graph around it": ("float[4] x", "float[4] y", f"y = If (c) <{BRANCHES}>", "bool c = {1}"),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_lint__nothing_to_say_about(name: str, tmp_path: Path) -> None:
    report = lint(write(tmp_path, *SOUND[name]))
    assert broken(report) <= {"int64-input"}
    assert report.ready


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ('Resize <mode="linear", antialias=1> (x, , s)', "antialias 1; TensorRT takes 0"),
        ('Resize <coordinate_transformation_mode="half_pixel_symmetric"> (x, , s)', "mode half_pixel_symmetric"),
        ('Resize <keep_aspect_ratio_policy="not_larger"> (x, , , t)', "policy not_larger; TensorRT takes stretch"),
        ("MaxPool <kernel_shape=[1,1], dilations=[2,2]> (x)", r"dilations [2, 2]; TensorRT takes 1"),
    ],
)
def test_lint__attributes_that_tensorrt_lacks(node: str, says: str, tmp_path: Path) -> None:
    constants = "float[4] s = {1, 1, 1, 1}, int64[4] t = {1, 3, 8, 8}"
    path = write(tmp_path, IMAGE, OUT, f"[n] y = {node}", constants, 19)
    assert errors(path) == {"attribute"}
    assert says in finding(path, "attribute").found


def test_lint__a_cast_to_a_type_that_tensorrt_lacks(tmp_path: Path) -> None:
    path = write(tmp_path, "float[4] x", "float[4] y", "[n] s = Cast <to=5> (x) y = Cast <to=1> (s)")
    assert finding(path, "operator-type").where[0] == "n"
    assert "Cast of INT16" in finding(path, "operator-type").found


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_lint__scales_are_above_zero(scale: float, tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, OUT, QDQ, f"float s = {{{scale}}}, int8 z = {{0}}")
    assert errors(path) == {"scale"}
    assert "not above 0" in finding(path, "scale").found


def test_lint__a_quantizer_without_zero_point_makes_uint8(tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, OUT, "[q] q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", "float s = {0.5}")
    assert (errors(path), broken(lint(path))) == (set(), {"uint8-quantiser"})


def test_lint__a_random_scale_is_not_constant(tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, OUT, f"s = RandomUniformLike(c) {QDQ}", "float[1] c = {1}, int8 z = {0}")
    assert errors(path) == {"scale"}


def test_lint__as_many_scales_as_channels(tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, MAP, CONV.format(axis=0), f"{WEIGHT}, {THREE}")
    assert finding(path, "weight-axis").found == "3 scales for 2 output channels"


def test_lint__fp4_from_10_8_on(tmp_path: Path) -> None:
    body = "f = DequantizeLinear(w, s) y = Add(x, f)"
    path = write(tmp_path, "float[2] x", "float[2] y", body, "float s = {0.5}, float4e2m1[2] w = {1, 0}", 23)
    assert {found.found: found.tensorrt for found in lint(path).findings if found.rule == "quantised-type"} == {
        "DequantizeLinear of FP4": ["10.3"]
    }


def test_lint__a_scale_behind_a_cast_of_a_constant(tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, OUT, f"s = Cast <to=1> (h) {QDQ}", "int32 h = {1}, int8 z = {0}")
    assert lint(path).findings == []


@pytest.mark.parametrize(("version", "ready"), [("10.3", False), ("10.4", True), ("11.4.0.106", True)])
def test_lint__an_operator_from_the_version_that_added_it(version: str, ready: bool, tmp_path: Path) -> None:
    path = write(tmp_path, "float[9] x", "float[9] y", "w = HannWindow(n) y = Mul(x, w)", "int64 n = {9}")
    report = lint(path, version)
    assert report.ready == ready
    assert ready or "TensorRT has no HannWindow before 10.4" in report.findings[0].found


@pytest.mark.parametrize(("opset", "version", "ready"), [(8, "11.4", False), (24, "10.15", True), (21, "10.14", False)])
def test_lint__opsets_of_a_version(opset: int, version: str, ready: bool, tmp_path: Path) -> None:
    assert lint(write(tmp_path, IMAGE, OUT, "y = Relu(x)", "", opset), version).ready == ready


def test_lint__a_body_is_checked_like_the_graph(tmp_path: Path) -> None:
    branches = BRANCHES.replace("a = Relu", "[deep] a = Det")
    path = write(tmp_path, "float[4,2,2] x", "float[4] y", f"y = If (c) <{branches}>", "bool c = {1}")
    assert finding(path, "operator").where == ["deep"]


def test_lint__equal_findings_are_one(tmp_path: Path) -> None:
    path = write(tmp_path, "float[1,1,2,2] x", "float[1,1] y", "[a] p = Det(x) [b] q = Det(x) [c] y = Add(p, q)")
    assert finding(path, "operator").where == ["a", "b"]


def test_lint__local_functions_are_looked_into(tmp_path: Path) -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 17, "mine" : 1]>
        g (float[1,3,4,4] x) => (float[1,3] y) { y = mine.volume(x) }
        <domain: "mine", opset_import: ["" : 17]>
        volume (a) => (b) { b = Det(a) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    assert errors(tmp_path / "model.onnx") == {"operator"}


@pytest.mark.parametrize("field", ["input", "output"])
@pytest.mark.parametrize("rule", ["dimensions", "zero-point", "weight-axis"])
def test_lint__a_node_without_inputs_or_outputs_is_refused(rule: str, field: str, tmp_path: Path) -> None:
    path = write(tmp_path, *CASES[rule][0])
    model = onnx.load(path)
    del getattr(model.graph.node[0], field)[:]
    onnx.save(model, path)
    assert not lint(path, dla=True).ready


def external(folder: Path) -> Path:
    path = write(folder, "float[64] x", "float[64] y", "[n] y = Mul(x, w)", "float[1] w = {1}")
    model = onnx.load(path)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full(64, 1e6, dtype=np.float32), "w"))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_lint__weights_beside_the_file_are_read(tmp_path: Path) -> None:
    assert broken(lint(external(tmp_path))) == {"fp16-range"}


def test_lint__missing_external_data(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"cut")
    assert errors(path) == {"external-data"}
    (tmp_path / "weights.bin").unlink()
    assert errors(path) == {"external-data"}
    assert finding(path, "external-data").where == ["weights.bin"]


OUTSIDE = "outside the model's folder"
PLACES: dict[str, tuple[dict[str, str], str]] = {
    "absolute": ({"location": "/etc/passwd"}, OUTSIDE),
    "absolute on Windows": ({"location": "C:\\weights.bin"}, OUTSIDE),
    "above": ({"location": "../weights.bin"}, OUTSIDE),
    "above by backslash": ({"location": "..\\weights.bin"}, OUTSIDE),
    "above by detour": ({"location": "a/../../weights.bin"}, OUTSIDE),
    "no name": ({"location": ""}, "without a file's name"),
    "a NUL": ({"location": "a\0b"}, "without a file's name"),
    "a folder": ({"location": "."}, "missing or too short"),
    "a long name": ({"location": "x" * 300}, "cannot be read"),
    "offset is text": ({"location": "weights.bin", "offset": "abc"}, "no counts of bytes"),
    "offset below 0": ({"location": "weights.bin", "offset": "-4"}, "no counts of bytes"),
    "offset not whole": ({"location": "weights.bin", "offset": "1.5"}, "no counts of bytes"),
    "offset in other digits": ({"location": "weights.bin", "offset": "\u0663"}, "no counts of bytes"),
    "offset beyond": ({"location": "weights.bin", "offset": "8"}, "missing or too short"),
    "offset of 30 digits": ({"location": "weights.bin", "offset": "9" * 30}, "no counts of bytes"),
    "length of another tensor": ({"location": "weights.bin", "length": "4"}, "of 4 bytes for a tensor of 256"),
    "length beyond": ({"location": "weights.bin", "length": "9999"}, "of 9999 bytes for a tensor of 256"),
    "no length, and more data": ({"location": "longer.bin"}, "without a length, whose 512 bytes are more than"),
}


@pytest.mark.parametrize("place", PLACES)
def test_lint__external_data_in_a_place_that_is_none(place: str, tmp_path: Path) -> None:
    path = external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    (tmp_path / "longer.bin").write_bytes(bytes(512))
    tensor = model.graph.initializer[0]
    del tensor.external_data[:]
    for key, value in PLACES[place][0].items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    assert errors(path) == {"external-data"}
    assert PLACES[place][1] in finding(path, "external-data").found


def test_lint__external_data_behind_a_link_is_a_warning(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "weights.bin").rename(tmp_path / "blob")
    (tmp_path / "weights.bin").symlink_to(tmp_path / "blob")
    report = lint(path)
    assert "external-link" in broken(report)
    assert report.ready


def test_lint__external_data_in_a_folder_that_is_a_link_is_a_warning(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere/weights.bin")
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "folder/weights.bin"
    path.write_bytes(model.SerializeToString())
    assert "external-link" in broken(lint(path))


def test_lint__two_initializers_of_one_name(tmp_path: Path) -> None:
    path = external(tmp_path)
    model = onnx.load(path)
    model.graph.initializer.append(model.graph.initializer[0])
    onnx.save(model, path)
    assert "names" in errors(path)


def test_lint__a_function_that_calls_itself_is_one_message(tmp_path: Path) -> None:
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("own", 1)]
    call = onnx.helper.make_node("F", ["x"], ["y"], domain="own")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([call], "graph", ends[:1], ends[1:]),
        opset_imports=imports,
        functions=[onnx.helper.make_function("own", "F", ["x"], ["y"], [call], imports)],
    )
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(PipelineError, match="its local functions cannot be read"):
        lint(tmp_path / "a.onnx")


def test_lint__a_file_beyond_protobuf_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    report = lint(path)
    assert broken(report) == {"file-size"}
    assert not report.ready


DLA_GRAPH = ("float[batch,3,8,8] x", "float[batch,2,8,8] y", "[conv] c = Conv(x, w) [odd] y = Erf(c)",
             "float[2,3,1,1] w = {1, 2, 3, 4, 5, 6}")  # fmt: skip


def test_lint__the_dla_only_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path, *DLA_GRAPH)
    assert broken(lint(path)) == {"profile"}
    report = lint(path, dla=True)
    assert broken(report) == {"profile", "dla-operator", "dla-shape", "dla-fp32"}
    assert report.ready
    places = {found.rule: found.where for found in report.findings}
    assert (places["dla-operator"], places["dla-shape"], places["dla-fp32"]) == (["odd"], ["x"], ["conv"])


def test_lint__explicit_int8_reaches_the_dla_from_11_on(tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, OUT, QDQ, "float s = {0.5}, int8 z = {0}")
    found = [found for found in lint(path, dla=True).findings if found.rule == "dla-operator"]
    assert [entry.tensorrt for entry in found] == [["10.3"], ["10.3"]]


@pytest.mark.parametrize(("version", "has"), [("10.7", True), ("10.8", False), ("11.3", False), ("11.4", True)])
def test_lint__versions_without_a_dla(version: str, has: bool, tmp_path: Path) -> None:
    path = write(tmp_path, IMAGE, OUT, "y = Relu(x)")
    assert ("dla-version" in broken(lint(path, version, dla=True))) != has


def test_lint__errors_come_first(tmp_path: Path) -> None:
    path = write(tmp_path, "float[batch,3,4,4] x", "float[batch,3] y", "y = Det(x)")  # the profile's rule runs first
    assert [found.severity for found in lint(path).findings] == ["error", "warning"]


def test_lint__axes_of_a_reduction_are_constant(tmp_path: Path) -> None:
    path = write(tmp_path, "float[4,4] x, int64[1] axes", "float[n,m] y", "[n] y = ReduceSum(x, axes)")
    assert finding(path, "constant-input").found == "ReduceSum whose input 1 is not constant"


def test_lint__a_layer_is_quantised_where_data_and_weights_are(tmp_path: Path) -> None:
    weights_only = write(tmp_path, IMAGE, MAP, CONV.format(axis=0), f"{WEIGHT}, {TWO}")
    assert (lint(weights_only).quantised, lint(weights_only).quantisable) == (0, 1)
    body = f"{QDQ.replace('y =', 'd =')} f = DequantizeLinear(w, s, z) y = Conv(d, f)"
    both = write(tmp_path, IMAGE, MAP, body, f"{WEIGHT}, float s = {{0.5}}, int8 z = {{0}}")
    assert (lint(both).quantised, lint(both).quantisable) == (1, 1)


def test_lint__bytes_of_a_quantiser_are_its_own_fault_alone(tmp_path: Path) -> None:
    assert broken(lint(write(tmp_path, *CASES["uint8-quantiser"][0]))) == {"uint8-quantiser"}


def test_lint__the_dla_is_not_asked_for_constants_nor_for_int8(tmp_path: Path) -> None:
    body = f"{QDQ.replace('y =', 'd =')} f = DequantizeLinear(w, s, z) e = Erf(f) y = Conv(d, e)"
    path = write(tmp_path, IMAGE, MAP, body, f"{WEIGHT}, float s = {{0.5}}, int8 z = {{0}}")
    assert "dla" not in " ".join(broken(lint(path, "11.4", dla=True)))
