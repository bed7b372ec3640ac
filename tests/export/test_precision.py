"""fp16 and INT8 files: what is in them, what is left in float, and how near they are."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from pipeline.backends import Array, load
from pipeline.errors import PipelineError
from pipeline.export.fp16 import write_half
from pipeline.export.graph import module_path, nodes_behind, nodes_of, properties_of
from pipeline.export.onnx import export_onnx
from pipeline.export.quantize import (
    OPERATORS,
    calibrate,
    quantizable,
    quantize,
    quantize_for_tensorrt,
    use_learned_ranges,
)
from pipeline.int8 import LEVELS
from pipeline.params import Int8
from pipeline.tasks import Task
from tests.tiny import awake, export_params_of, save

MODELS: dict[str, tuple[Task, str]] = {
    "micro-n.yaml": ("detect", "model.22.cv3.2.2"),
    "yolo26n.yaml": ("detect", "model.23.one2one_cv2.0.2"),
    "pspnet-mobilenet": ("segment", "model.1.classifier"),
}
TASKS: dict[str, Task] = {name: task for name, (task, _) in MODELS.items()} | {"unet-mobilenet": "segment"}
INT8 = export_params_of().int8
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def images(count: int = 4) -> list[Array]:
    return list(np.random.default_rng(0).random((count, 3, 64, 64), dtype=np.float32))


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every file of one model."""
    out = tmp_path_factory.mktemp("precision") / request.param
    task = MODELS[request.param][0]
    export_onnx(save(out, awake(request.param, task), task), out / "fp32.onnx", export_params_of())
    write_half(out / "fp32.onnx", out / "fp16.onnx")
    calibrate(out / "fp32.onnx", images(), INT8, out / "ranges.json")
    quantize(out / "fp32.onnx", out / "ranges.json", out / "int8.onnx", INT8)
    quantize_for_tensorrt(out / "fp32.onnx", out / "ranges.json", out / "int8-tensorrt.onnx", INT8)
    return out


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def makers(model: ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def activation_scales(file: Path) -> dict[str, float]:
    found = constants(onnx.load(file))
    return {name: float(value) for name, value in found.items() if name.endswith("_scale") and value.size == 1}


def error(file: Path, reference: Path) -> float:
    """Return the relative error of the last output, over images."""
    first, second = (load(path, threads=1, runtime="onnxruntime_unoptimized") for path in (reference, file))
    pairs = [(first(image[None])[-1], second(image[None])[-1].astype(np.float64)) for image in images()]
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs) / sum((a**2).sum() for a, _ in pairs)))


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("/model.22/cv3.0/cv3.0.2/Conv", "model.22.cv3.0.2"),
        ("/model.10/m/m.0/attn/MatMul", "model.10.m.0.attn"),
        ("/model/model.17/classifier/classifier.1/Conv", "model.17.classifier.1"),
        ("/model/model/model.0/encoder/layer4/layer4.1/conv2/Conv", "model.0.encoder.layer4.1.conv2"),
        ("/Resize", ""),
    ],
)
def test_module_path__is_torchs_name_of_the_module(node: str, path: str) -> None:
    assert module_path(node) == path


@pytest.mark.parametrize(("name", "activations"), [("int8", np.uint8), ("int8-tensorrt", np.int8)])
def test_quantize__every_pair_is_what_its_runtimes_take(folder: Path, name: str, activations: type) -> None:
    model = onnx.load(folder / f"{name}.onnx")
    known = constants(model)
    pairs = [node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert pairs
    for node in pairs:
        scale, zero = known[node.input[1]], known[node.input[2]]
        assert (scale > 0).all()
        if node.input[0] in known:  # weights: int8 in the file, a scale per output channel
            assert zero.dtype == np.int8
            assert not zero.any()
            assert known[node.input[0]].dtype == np.int8
            axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
            assert scale.shape == (known[node.input[0]].shape[axis],)
            assert axis == 0
        else:
            assert scale.size == 1
            assert zero.dtype == activations
            assert name == "int8" or not zero.any()
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3:
            assert known[node.input[2]].dtype in (np.float32, np.float16)  # the bias
        if node.op_type == "DequantizeLinear":  # a pair in front of no product only keeps a convolution from fusing
            assert {user.op_type for user in model.graph.node if node.output[0] in user.input} & set(OPERATORS)


@pytest.mark.parametrize("folder", ["micro-n.yaml", "pspnet-mobilenet"], indirect=True)
def test_quantize__two_neighboring_products_fit_into_16_bits(folder: Path) -> None:
    """CPUs without VNNI add them there."""
    model = onnx.load(folder / "int8.onnx")
    known, made = constants(model), makers(model)
    ranges = json.loads((folder / "ranges.json").read_text())["data"]
    seen = 0
    for node in [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] not in known]:
        stored, source = known[made[node.input[1]].input[0]], made[made[node.input[0]].input[0]]
        scale, zero = float(known[source.input[1]]), int(known[source.input[2]])
        lowest, highest = (np.ravel(ranges[source.input[0]][end]["data"])[0] for end in ("lowest", "highest"))
        assert zero + min(lowest, 0) / scale + 0.51 >= 0
        assert zero + max(highest, 0) / scale < LEVELS + 0.51
        assert (zero == 0) == (lowest >= 0)
        channels = stored.reshape(len(stored), -1).astype(int)
        largest = np.sort(np.abs(np.stack([channels.clip(min=0), channels.clip(max=0)])), axis=2)[:, :, -2:].sum(2)
        assert LEVELS * (largest.max() - 1) <= 32767  # each is rounded
        seen += int(np.abs(channels).max()) > 64
    assert seen  # more than the seven bits that any two would leave


def test_quantize__all_but_the_heads_output_layers_and_the_decoding(folder: Path) -> None:
    model = onnx.load(folder / "int8.onnx")
    made, properties = makers(model), properties_of(model)
    assert MODELS[folder.name][1] in properties["float_layers"]
    kept = set(nodes_of(model, properties["float_layers"]))
    assert len(kept) == len(properties["float_layers"])
    products = [node for node in model.graph.node if node.op_type in OPERATORS]
    pooling = {node.name for node in products if "/psp/blocks" in node.name and node.op_type == "MatMul"}
    assert {node.name for node in products} - kept - pooling == set(quantizable(onnx.load(folder / "fp32.onnx"), INT8))
    assert bool(pooling) == folder.name.startswith("pspnet")
    for node in [node for node in products if node.name not in pooling]:
        quantized = [made[name].op_type == "DequantizeLinear" for name in node.input[:2] if name in made]
        assert any(quantized) != (node.name in kept), node.name
    behind = set(nodes_behind(model, kept))
    assert not [n.name for n in model.graph.node if n.op_type.endswith("eLinear") and n.name in behind]


def test_quantize__says_what_it_is_and_comes_out_equal_twice(folder: Path, tmp_path: Path) -> None:
    calibrate(folder / "fp32.onnx", images(), INT8, tmp_path / "ranges.json")
    quantize(folder / "fp32.onnx", tmp_path / "ranges.json", tmp_path / "int8.onnx", INT8)
    assert (tmp_path / "int8.onnx").read_bytes() == (folder / "int8.onnx").read_bytes()
    first, second = (properties_of(onnx.load(folder / f"{name}.onnx")) for name in ("fp32", "int8"))
    assert second == {**first, "precision": "int8"}
    assert load(folder / "int8.onnx").runtime == "onnxruntime-int8"
    assert properties_of(onnx.load(folder / "int8-tensorrt.onnx")) == {**first, "precision": "int8-tensorrt"}


@pytest.mark.parametrize("folder", ["micro-n.yaml"], indirect=True)
def test_quantize__each_runtime_refuses_the_other_ones_file(folder: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"int8-tensorrt\.onnx: this INT8 file is for TensorRT alone: use int8\.onnx"
    ):
        load(folder / "int8-tensorrt.onnx")
    pytest.importorskip("openvino")
    with pytest.raises(PipelineError, match=r"for TensorRT alone: use int8\.onnx"):
        load(folder / "int8-tensorrt.onnx", runtime="openvino")


@pytest.mark.parametrize("folder", ["micro-n.yaml"], indirect=True)
def test_quantize__says_nothing_but_one_line_of_progress(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    params = INT8.model_copy(update={"calibration": "percentile"})
    capfd.readouterr()
    calibrate(folder / "fp32.onnx", images(), params, tmp_path / "ranges.json")
    quantize(folder / "fp32.onnx", tmp_path / "ranges.json", tmp_path / "int8.onnx", params)
    out, err = capfd.readouterr()
    assert not out
    assert [line.split()[0] for line in err.splitlines() if line.strip()] == ["calibration"]
    assert not caplog.records


@pytest.mark.parametrize("folder", ["micro-n.yaml"], indirect=True)
def test_quantize__is_near_and_the_more_of_it_the_farther(folder: Path, tmp_path: Path) -> None:
    names = quantizable(onnx.load(folder / "fp32.onnx"), INT8)
    quantize(folder / "fp32.onnx", folder / "ranges.json", tmp_path / "one.onnx", INT8, only=names[:1])
    one, every = error(tmp_path / "one.onnx", folder / "fp32.onnx"), error(folder / "int8.onnx", folder / "fp32.onnx")
    assert 0 < one < every < 0.2
    quantized = [node for node in onnx.load(tmp_path / "one.onnx").graph.node if node.op_type == "QuantizeLinear"]
    assert len(quantized) == 1  # the weights are int8 in the file already


@pytest.mark.parametrize("folder", ["micro-n.yaml"], indirect=True)
def test_quantize__keeps_asked_modules_in_float_and_names_unknown_ones(folder: Path, tmp_path: Path) -> None:
    asked = INT8.model_copy(update={"float_layers": ["model.22"]})
    quantize(folder / "fp32.onnx", folder / "ranges.json", tmp_path / "a.onnx", asked)
    model = onnx.load(tmp_path / "a.onnx")
    known, head = constants(model), set(nodes_of(model, ["model.22"]))
    products = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {node.name for node in products if node.input[1] in known} == head & {node.name for node in products}
    wrong = INT8.model_copy(update={"float_layers": ["model.220"]})
    with pytest.raises(PipelineError, match=r"float_layers: fp32\.onnx has no module 'model\.220'.*model\.22\.cv3"):
        quantize(folder / "fp32.onnx", folder / "ranges.json", tmp_path / "b.onnx", wrong)
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize("folder", ["micro-n.yaml"], indirect=True)
@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_calibrate__outliers_are_cut_off(folder: Path, method: str, tmp_path: Path) -> None:
    params = Int8.model_validate({**INT8.model_dump(), "calibration": method, "percentile": 99.0})
    calibrate(folder / "fp32.onnx", images(), params, tmp_path / "ranges.json")
    quantize(folder / "fp32.onnx", tmp_path / "ranges.json", tmp_path / "int8.onnx", params)
    scales = [activation_scales(file) for file in (folder / "int8.onnx", tmp_path / "int8.onnx")]
    assert scales[0].keys() == scales[1].keys()
    assert all(scales[1][name] <= 1.02 * scale for name, scale in scales[0].items())  # a histogram's bin wider at most
    if method == "percentile":
        assert sum(scales[1][name] < 0.9 * scale for name, scale in scales[0].items()) > len(scales[0]) / 2


def test_use_learned_ranges__layers_take_them_and_the_rest_stays(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "ranges.json", tmp_path / "ranges.json")
    graph = onnx.load(folder / "fp32.onnx")
    node = next(n for n in graph.graph.node if n.op_type == "Conv" and n.name in quantizable(graph, INT8)[5:])
    use_learned_ranges(
        folder / "fp32.onnx", tmp_path / "ranges.json", {module_path(node.name): (0.0, 18.1), "absent": (0.0, 1.0)}
    )
    quantize(folder / "fp32.onnx", tmp_path / "ranges.json", tmp_path / "int8.onnx", INT8)
    before, after = activation_scales(folder / "int8.onnx"), activation_scales(tmp_path / "int8.onnx")
    changed = f"{node.input[0]}_scale"
    assert after[changed] == pytest.approx(0.1)
    assert {name: scale for name, scale in after.items() if name != changed} == {
        name: scale for name, scale in before.items() if name != changed
    }


@pytest.mark.parametrize("folder", ["micro-n.yaml"], indirect=True)
def test_calibrate__a_dead_layer_has_a_range_too(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "fp32.onnx")
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    for tensor in model.graph.initializer:
        if tensor.name == first.input[1]:  # what is left of it are rounding errors
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e-7), tensor.name))
        elif tensor.name == first.input[2]:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, 3.7, np.float32), tensor.name))
    onnx.save(model, tmp_path / "dead.onnx")
    params = INT8.model_copy(update={"calibration": "percentile"})
    calibrate(tmp_path / "dead.onnx", images(), params, tmp_path / "ranges.json")
    quantize(tmp_path / "dead.onnx", tmp_path / "ranges.json", tmp_path / "int8.onnx", params)
    scale = activation_scales(tmp_path / "int8.onnx")["/model.0/act/Relu_output_0_scale"]
    assert scale == pytest.approx(3.7 / LEVELS, rel=0.01)


def test_calibrate__chunks_make_no_difference(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.export.quantize.AT_ONCE", 3)
    calibrate(folder / "fp32.onnx", images(), INT8, tmp_path / "ranges.json")
    assert json.loads((tmp_path / "ranges.json").read_text()) == json.loads((folder / "ranges.json").read_text())


def test_write_half__float_at_the_border_and_where_boxes_are_decoded(folder: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(folder / "fp16.onnx"))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {value.type.tensor_type.elem_type for value in model.graph.input} == {FLOAT}
    assert FLOAT in {value.type.tensor_type.elem_type for value in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "Conv" and not nodes_of_decoding(model, node):
            assert {kinds[name] for name in node.input} == {HALF}, node.name
    decoding = [node for node in model.graph.node if nodes_of_decoding(model, node) and node.op_type != "Cast"]
    detects = MODELS[folder.name][0] == "detect"
    assert bool(decoding) == detects
    assert not [name for node in decoding for name in node.output if kinds.get(name) == HALF]
    assert error(folder / "fp16.onnx", folder / "fp32.onnx") < 0.05 or folder.name == "yolo26n.yaml"  # rows swap there
    assert load(folder / "fp16.onnx").metadata.precision == "fp16"


def nodes_of_decoding(model: ModelProto, node: onnx.NodeProto) -> bool:
    properties = properties_of(model)
    return properties["task"] == "detect" and node.name in nodes_behind(
        model, nodes_of(model, properties["float_layers"])
    )


@pytest.mark.parametrize("name", TASKS)
def test_write_half__nothing_in_float32_goes_through_float16(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    export_onnx(save(tmp_path, awake(name, task), task), tmp_path / "fp32.onnx", export_params_of())
    write_half(tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    calibrate(tmp_path / "fp32.onnx", images(2), INT8, tmp_path / "ranges.json")
    quantize_for_tensorrt(tmp_path / "fp32.onnx", tmp_path / "ranges.json", tmp_path / "int8-tensorrt.onnx", INT8)
    for file in ("fp16", "int8-tensorrt"):
        model = onnx.load(tmp_path / f"{file}.onnx")
        made, kinds = makers(model), kinds_of(model)
        casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in made]
        widened = [node for node in casts if kinds[node.output[0]] == FLOAT and made[node.input[0]].op_type == "Cast"]
        assert not [node.name for node in widened if kinds[made[node.input[0]].input[0]] == FLOAT]
        used = {entry for node in model.graph.node for entry in node.input} | {out.name for out in model.graph.output}
        assert not [node.name for node in model.graph.node if used.isdisjoint(node.output)]


def test_write_half__boxes_are_finer_than_float16(tmp_path: Path) -> None:
    size, files = 128, (tmp_path / "fp32.onnx", tmp_path / "fp16.onnx")
    export_onnx(save(tmp_path, awake("micro-n.yaml"), size_px=size), files[0], export_params_of())
    write_half(*files)
    boxes = load(files[1], threads=1)(np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32))[0][:, :4]
    assert (boxes == boxes.astype(np.float16)).mean() < 0.5  # such as zeros


def kinds_of(model: ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    described = [*graph.input, *graph.output, *graph.value_info]
    kinds = {value.name: value.type.tensor_type.elem_type for value in described}
    return kinds | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_quantize_for_tensorrt__has_half_scales_and_the_same_answers(folder: Path) -> None:
    model = onnx.load(folder / "int8-tensorrt.onnx")
    known = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert {known[node.input[1]] for node in pairs} == {HALF}
    assert model.opset_import[0].version >= 19
    before = sum(node.op_type.endswith("eLinear") for node in onnx.load(folder / "int8.onnx").graph.node)
    assert len(pairs) == before
    if folder.name == "micro-n.yaml":  # random deep networks amplify any rounding
        assert error(folder / "int8-tensorrt.onnx", folder / "fp32.onnx") < 0.2
    exported = load(folder / "int8-tensorrt.onnx", runtime="onnxruntime_unoptimized")
    assert exported.runtime == "onnxruntime-int8-tensorrt"
