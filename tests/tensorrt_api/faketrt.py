"""NVIDIA's real Python bindings of TensorRT over a stand-in native library: no GPU, no libnvinfer.

The bindings check names, argument types and enum values, as on a device. The stand-in behind them remembers what it is
told and puts it into the plan, a JSON text; an engine runs the ONNX file that it was built from in ONNX Runtime. So
this shows that code calls each version's API rightly and moves the data rightly. It says nothing about whether TensorRT
would build a graph, nor about accuracy or speed.

Where a virtual function lies in a class differs between versions, so it is learnt: each bound method is called once,
and the slot that fires is that method's. One version fits into a process, which must end with `os._exit`.
"""

from __future__ import annotations

import base64
import ctypes
import importlib
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
CREATED = {-1: "Builder", -2: "Runtime", -3: "OnnxParser", -4: "Registry"}  # by a C function of fake.cpp
MAX_DIMS = 8
# onnx.TensorProto's element types as TensorRT's datatypes
DATATYPES = {1: "FLOAT", 10: "HALF", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8"}
NAMES = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "INT32": "Int32", "INT64": "Int64", "BOOL": "Bool"}

State = dict[str, Any]
Method = Callable[[State, tuple[int, ...]], Any]


class Fake:
    """The objects behind the bindings: what kind each is, and what it was told."""

    def __init__(self, version: str, libraries: Path) -> None:
        self.version, self.major = version, int(version.partition(".")[0])
        paths = [libraries / f"lib{self.major}" / f"lib{name}.so.{self.major}" for name in LIBRARIES]
        library, *_ = [ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in paths]
        library.fake_vtable.restype = ctypes.c_void_p
        self.vtable = library.fake_vtable()
        self.callback = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 7)(self._called)
        ctypes.c_void_p.in_dll(library, "fake_hook").value = ctypes.cast(self.callback, ctypes.c_void_p).value
        self.objects: dict[int, tuple[str, State]] = {}
        self.slots: dict[tuple[str, int], str] = {("IHostMemory", 2): "data"}
        self.methods: dict[tuple[str, str], Method] = {}
        self.learning: tuple[str, str, Any] | None = None
        self.kept: list[Any] = []  # memory that native code points to
        self.dla_cores, self.silently_fp32, self.on_dla = 0, False, False  # for a test to set

    def new(self, kind: str, **state: Any) -> int:
        """Make a native object and return its address."""
        memory = (ctypes.c_long * 4)()
        address = ctypes.addressof(memory)
        memory[0], memory[1] = self.vtable, address
        self.kept.append(memory)
        self.objects[address] = (kind, state)
        return address

    def state(self, address: int) -> State:
        """Return what an object was told."""
        return self.objects[address][1]

    def text(self, content: str | bytes) -> int:
        """Return the address of a C string, or of bytes."""
        buffer = ctypes.create_string_buffer(content.encode() if isinstance(content, str) else content)
        self.kept.append(buffer)
        return ctypes.addressof(buffer)

    def learn(self, kind: str, name: str, call: Callable[[], Any], answer: Any = 0) -> Any:
        """Call a bound method once, and remember which slot of its class fired."""
        self.learning = (kind, name, answer)
        try:
            return call()
        finally:
            self.learning = None

    def _called(self, slot: int, *arguments: int) -> int:
        try:
            if slot < 0:
                return self.new(CREATED[slot], network=arguments[0])
            # A large answer comes with the address where it shall go in front.
            large = arguments[0] not in self.objects and arguments[1] in self.objects
            this, rest = (arguments[1], arguments[2:]) if large else (arguments[0], arguments[1:])
            kind, state = self.objects.get(this, ("", {}))
            if self.learning:
                if large:
                    write_dims(arguments[0], ())
                answer = self._learn(kind, slot)
                return arguments[0] if large else answer
            method = self.methods.get((kind, self.slots.get((kind, slot), "")))
            answer = method(state, rest) if method else 0
            if large:
                write_dims(arguments[0], answer or ())
                return arguments[0]
            return int(answer or 0)
        except Exception:  # must not pass through native code
            traceback.print_exc()
            return 0

    def _learn(self, kind: str, slot: int) -> int:
        assert self.learning
        owner, name, answer = self.learning
        if kind == owner:
            self.slots.setdefault((kind, slot), name)
        return int(answer() if callable(answer) else answer)


def write_dims(address: int, sides: Any) -> None:
    """Write TensorRT's `Dims64`: an int32 count, then eight int64."""
    ctypes.c_int32.from_address(address).value = len(sides)
    for index, side in enumerate(sides):
        ctypes.c_int64.from_address(address + 8 * (1 + index)).value = side


def read_dims(address: int) -> list[int]:
    """Read TensorRT's `Dims64`."""
    count = ctypes.c_int32.from_address(address).value
    return [ctypes.c_int64.from_address(address + 8 * (1 + index)).value for index in range(count)]


def name_at(address: int) -> str:
    """Read a C string."""
    return ctypes.string_at(address).decode()


def install(version: str, folder: Path) -> tuple[Any, Fake]:
    """Import a version's bindings as `tensorrt`.

    Args:
        version: One that build.sh has fetched.
        folder: build.sh's OUT.

    Returns:
        The module, and what is behind it.

    """
    fake = Fake(version, folder)
    sys.path.insert(0, str(folder / version))
    trt = importlib.import_module("tensorrt_bindings")
    sys.modules["tensorrt"] = trt
    learn_slots(fake, trt)
    for behaviour in (building, parsing, running):
        fake.methods |= behaviour(fake, trt)
    return trt, fake


def learn_slots(fake: Fake, trt: Any) -> None:
    """Call every method that the project and Polygraphy use once."""

    def made(kind: str) -> Callable[[], int]:
        return lambda: fake.new(kind)

    learn, logger = fake.learn, trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = learn("Builder", "create_network", lambda: builder.create_network(0), made("INetworkDefinition"))
    config = learn("Builder", "create_builder_config", builder.create_builder_config, made("IBuilderConfig"))
    profile = learn("Builder", "create_profile", builder.create_optimization_profile, made("IOptimizationProfile"))
    memory = learn("Builder", "build", lambda: builder.build_serialized_network(network, config), made("IHostMemory"))
    learn("Builder", "num_DLA_cores", lambda: builder.num_DLA_cores)
    learn("IHostMemory", "size", lambda: memory.nbytes, 4)
    learn("IHostMemory", "type", lambda: memory.dtype, int(trt.DataType.INT8))
    learn("IOptimizationProfile", "valid", lambda: bool(profile), 1)
    learn("IOptimizationProfile", "set_shape", lambda: profile.set_shape("x", (1,), (1,), (1,)), 1)

    parser = trt.OnnxParser(network, logger)
    learn("OnnxParser", "parse_from_file", lambda: parser.parse_from_file("x"), 1)
    learn("OnnxParser", "num_errors", lambda: parser.num_errors)
    error = learn("OnnxParser", "get_error", lambda: parser.get_error(0), made("ParserError"))
    for name in ("code", "desc", "node", "node_name", "node_operator"):
        learn("ParserError", name, getattr(error, name), 0 if name in {"code", "node"} else fake.text("x"))

    for name in ("num_inputs", "num_outputs"):
        learn("INetworkDefinition", name, lambda name=name: getattr(network, name))
    tensor = learn("INetworkDefinition", "get_input", lambda: network.get_input(0), made("ITensor"))
    learn("INetworkDefinition", "get_output", lambda: network.get_output(0), made("ITensor"))
    learn("ITensor", "name", lambda: tensor.name, fake.text("x"))
    learn("ITensor", "shape", lambda: tensor.shape)

    flag = trt.BuilderFlag.TF32
    for name in ("set_flag", "clear_flag", "get_flag"):
        learn("IBuilderConfig", name, lambda name=name: getattr(config, name)(flag))
    learn("IBuilderConfig", "set_pool", lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1))
    for name, value in (
        ("builder_optimization_level", 3),
        ("profiling_verbosity", trt.ProfilingVerbosity.DETAILED),
        ("default_device_type", trt.DeviceType.GPU),
        ("DLA_core", 0),
    ):
        learn("IBuilderConfig", name, lambda name=name, value=value: setattr(config, name, value))
    cache = learn("IBuilderConfig", "create_cache", lambda: config.create_timing_cache(b""), made("ITimingCache"))
    learn("IBuilderConfig", "set_cache", lambda: config.set_timing_cache(cache, False), 1)
    learn("IBuilderConfig", "get_cache", config.get_timing_cache, made("ITimingCache"))
    learn("IBuilderConfig", "add_profile", lambda: config.add_optimization_profile(profile))
    learn("ITimingCache", "serialize", cache.serialize, made("IHostMemory"))
    learn("ITimingCache", "combine", lambda: cache.combine(cache, True), 1)

    runtime = trt.Runtime(logger)
    engine = learn("Runtime", "load", lambda: runtime.deserialize_cuda_engine(b"x"), made("ICudaEngine"))
    learn("Runtime", "DLA_core", lambda: setattr(runtime, "DLA_core", 0))
    learn("ICudaEngine", "num_io_tensors", lambda: engine.num_io_tensors)
    learn("ICudaEngine", "tensor_name", lambda: engine.get_tensor_name(0), fake.text("x"))
    learn("ICudaEngine", "tensor_mode", lambda: engine.get_tensor_mode("x"))
    learn("ICudaEngine", "tensor_dtype", lambda: engine.get_tensor_dtype("x"))
    learn("ICudaEngine", "profile_shape", lambda: engine.get_tensor_profile_shape("x", 0))
    context = learn("ICudaEngine", "context", engine.create_execution_context, made("IExecutionContext"))
    inspector = learn("ICudaEngine", "inspector", engine.create_engine_inspector, made("EngineInspector"))
    learn("EngineInspector", "set_context", lambda: setattr(inspector, "execution_context", context), 1)
    learn(
        "EngineInspector",
        "information",
        lambda: inspector.get_engine_information(trt.LayerInformationFormat.JSON),
        fake.text("{}"),
    )
    learn("IExecutionContext", "set_shape", lambda: context.set_input_shape("x", (1,)), 1)
    learn("IExecutionContext", "shape", lambda: context.get_tensor_shape("x"))
    learn("IExecutionContext", "set_address", lambda: context.set_tensor_address("x", 0), 1)
    learn("IExecutionContext", "execute", lambda: context.execute_async_v3(0), 1)


def building(fake: Fake, trt: Any) -> dict[tuple[str, str], Method]:
    """Return what the builder, its configuration, profiles and timing caches do: remember, and write it down."""

    def set_flag(config: State, arguments: tuple[int, ...]) -> None:
        config["flags"].add(trt.BuilderFlag(arguments[0] & 0xFFFFFFFF).name)

    def clear_flag(config: State, arguments: tuple[int, ...]) -> None:
        config["flags"].discard(trt.BuilderFlag(arguments[0] & 0xFFFFFFFF).name)

    def get_flag(config: State, arguments: tuple[int, ...]) -> bool:
        return trt.BuilderFlag(arguments[0] & 0xFFFFFFFF).name in config["flags"]

    def set_pool(config: State, arguments: tuple[int, ...]) -> None:
        config["pools"][trt.MemoryPoolType(arguments[0] & 0xFFFFFFFF).name] = arguments[1]

    def set_shape(profile: State, arguments: tuple[int, ...]) -> int:
        which = ("min", "opt", "max")[arguments[1] & 0xFFFFFFFF]
        profile.setdefault(name_at(arguments[0]), {})[which] = read_dims(arguments[2])
        return 1

    def build(_builder: State, arguments: tuple[int, ...]) -> int:
        network, config = fake.state(arguments[0]), fake.state(arguments[1])
        config["cache"]["content"] += b"t"  # a tactic was timed
        told = {key: value for key, value in config.items() if key not in {"cache", "flags"}}
        plan = told | {
            "stand_in": fake.version,
            "network_flags": network["flags"],
            "flags": sorted(config["flags"]),
            "onnx": base64.b64encode(network["model"].SerializeToString()).decode(),
        }
        return fake.new("IHostMemory", data=json.dumps(plan).encode())

    def setter(key: str) -> Method:
        return lambda config, arguments: config.update({key: arguments[0] & 0xFFFFFFFF})

    return {
        ("Builder", "create_network"): lambda _, given: fake.new("INetworkDefinition", flags=given[0]),
        ("Builder", "create_builder_config"): lambda _, __: fake.new(
            "IBuilderConfig", flags={"TF32"}, pools={}, profiles=[]
        ),
        ("Builder", "create_profile"): lambda _, __: fake.new("IOptimizationProfile"),
        ("Builder", "num_DLA_cores"): lambda _, __: fake.dla_cores,
        ("Builder", "build"): build,
        ("IBuilderConfig", "set_flag"): set_flag,
        ("IBuilderConfig", "clear_flag"): clear_flag,
        ("IBuilderConfig", "get_flag"): get_flag,
        ("IBuilderConfig", "set_pool"): set_pool,
        **{
            ("IBuilderConfig", key): setter(key)
            for key in ("builder_optimization_level", "profiling_verbosity", "default_device_type", "DLA_core")
        },
        ("IBuilderConfig", "add_profile"): lambda config, given: config["profiles"].append(fake.state(given[0])),
        ("IBuilderConfig", "create_cache"): lambda _, given: fake.new(
            "ITimingCache", content=ctypes.string_at(given[0], given[1])
        ),
        ("IBuilderConfig", "set_cache"): lambda config, given: config.update(cache=fake.state(given[0])) or 1,
        ("IBuilderConfig", "get_cache"): lambda config, _: fake.new("ITimingCache", **config["cache"]),
        ("ITimingCache", "combine"): lambda _, __: 1,
        ("ITimingCache", "serialize"): lambda cache, _: fake.new("IHostMemory", data=cache["content"]),
        ("IOptimizationProfile", "set_shape"): set_shape,
        ("IOptimizationProfile", "valid"): lambda _, __: 1,
        ("IHostMemory", "data"): lambda memory, _: fake.text(memory["data"]),
        ("IHostMemory", "size"): lambda memory, _: len(memory["data"]),
        ("IHostMemory", "type"): lambda _, __: int(trt.DataType.INT8),
    }


def parsing(fake: Fake, _trt: Any) -> dict[tuple[str, str], Method]:
    """Return what the parser does: read the file's own inputs and outputs, and refuse operators of other domains."""

    def parse(parser: State, arguments: tuple[int, ...]) -> bool:
        model = onnx.load(name_at(arguments[0]))
        parser["errors"] = [
            {"node": index, "node_name": node.name, "node_operator": node.op_type, "desc": "no importer registered"}
            for index, node in enumerate(model.graph.node)
            if node.domain
        ]
        network = fake.state(parser["network"])
        weights = {weight.name for weight in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        network.update(model=model, inputs=_tensors(fake, inputs), outputs=_tensors(fake, model.graph.output))
        return not parser["errors"]

    def said(key: str) -> Method:
        return lambda error, _: fake.text(error[key]) if isinstance(error[key], str) else error[key]

    return {
        ("OnnxParser", "parse_from_file"): parse,
        ("OnnxParser", "num_errors"): lambda parser, _: len(parser["errors"]),
        ("OnnxParser", "get_error"): lambda parser, given: fake.new("ParserError", **parser["errors"][given[0]]),
        **{("ParserError", key): said(key) for key in ("node", "node_name", "node_operator", "desc")},
        ("INetworkDefinition", "num_inputs"): lambda network, _: len(network["inputs"]),
        ("INetworkDefinition", "num_outputs"): lambda network, _: len(network["outputs"]),
        ("INetworkDefinition", "get_input"): lambda network, given: network["inputs"][given[0] & 0xFFFFFFFF],
        ("INetworkDefinition", "get_output"): lambda network, given: network["outputs"][given[0] & 0xFFFFFFFF],
        ("ITensor", "name"): lambda tensor, _: fake.text(tensor["name"]),
        ("ITensor", "shape"): lambda tensor, _: tensor["shape"],
    }


def _tensors(fake: Fake, values: Any) -> list[int]:
    return [fake.new("ITensor", name=value.name, shape=_shape(value)) for value in values]


def _shape(value: Any) -> list[int]:
    return [side.dim_value or -1 for side in value.type.tensor_type.shape.dim]


def running(fake: Fake, trt: Any) -> dict[tuple[str, str], Method]:
    """Return what an engine, its inspector and its contexts do: run the ONNX file on host memory."""

    def load(runtime: State, arguments: tuple[int, ...]) -> int:
        plan = json.loads(ctypes.string_at(arguments[0], arguments[1]))
        if plan["stand_in"] != fake.version:
            return 0
        model = onnx.load_from_string(base64.b64decode(plan["onnx"]))
        values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
        # Outputs stand in another order than the file's: nobody may rely on it.
        names = [model.graph.input[0].name, *[output.name for output in reversed(model.graph.output)]]
        core = runtime.get("DLA_core")
        return fake.new("ICudaEngine", plan=plan, model=model, values=values, names=names, dla_core=core)

    def dtype(engine: State, arguments: tuple[int, ...]) -> int:
        element = engine["values"][name_at(arguments[0])].type.tensor_type.elem_type
        return int(getattr(trt.DataType, DATATYPES[element]))

    def mode(engine: State, arguments: tuple[int, ...]) -> int:
        kind = trt.TensorIOMode.INPUT if name_at(arguments[0]) == engine["names"][0] else trt.TensorIOMode.OUTPUT
        return int(kind)

    def profile_shape(engine: State, arguments: tuple[int, ...]) -> list[int]:
        which = ("min", "opt", "max")[arguments[2] & 0xFFFFFFFF]
        return engine["plan"]["profiles"][0][name_at(arguments[0])][which]  # type: ignore[no-any-return]

    def set_shape(context: State, arguments: tuple[int, ...]) -> bool:
        name, shape = name_at(arguments[0]), read_dims(arguments[1])
        profile = context["engine"]["plan"]["profiles"][0][name]
        fits = all(low <= side <= high for low, side, high in zip(profile["min"], shape, profile["max"], strict=True))
        if fits:
            context["input"] = shape
        return fits

    def shape(context: State, arguments: tuple[int, ...]) -> list[int]:
        name, engine = name_at(arguments[0]), context["engine"]
        if name == engine["names"][0]:
            return context["input"]  # type: ignore[no-any-return]
        batch, *rest = _shape(engine["values"][name])
        return [context["input"][0] if batch < 0 else batch, *rest]

    def execute(context: State, _arguments: tuple[int, ...]) -> int:
        engine, addresses = context["engine"], context["addresses"]
        name = engine["names"][0]
        count = int(np.prod(context["input"]))
        values = np.ctypeslib.as_array((ctypes.c_float * count).from_address(addresses[name]))
        session = onnxruntime.InferenceSession(engine["model"].SerializeToString(), providers=["CPUExecutionProvider"])
        names = engine["names"][1:]
        for output, array in zip(names, session.run(names, {name: values.reshape(context["input"])}), strict=True):
            ctypes.memmove(addresses[output], array.ctypes.data, array.nbytes)
        return 1

    return {
        ("Runtime", "load"): load,
        ("Runtime", "DLA_core"): lambda runtime, given: runtime.update(DLA_core=given[0] & 0xFFFFFFFF),
        ("ICudaEngine", "num_io_tensors"): lambda engine, _: len(engine["names"]),
        ("ICudaEngine", "tensor_name"): lambda engine, given: fake.text(engine["names"][given[0] & 0xFFFFFFFF]),
        ("ICudaEngine", "tensor_mode"): mode,
        ("ICudaEngine", "tensor_dtype"): dtype,
        ("ICudaEngine", "profile_shape"): profile_shape,
        ("ICudaEngine", "context"): lambda engine, _: fake.new("IExecutionContext", engine=engine, addresses={}),
        ("ICudaEngine", "inspector"): lambda engine, _: fake.new("EngineInspector", engine=engine),
        ("EngineInspector", "set_context"): lambda _, __: 1,
        ("EngineInspector", "information"): lambda inspector, _: fake.text(
            json.dumps(_information(inspector["engine"]["model"], fake))
        ),
        ("IExecutionContext", "set_shape"): set_shape,
        ("IExecutionContext", "shape"): shape,
        ("IExecutionContext", "set_address"): lambda context, given: (
            context["addresses"].update({name_at(given[0]): given[1]}) or 1
        ),
        ("IExecutionContext", "execute"): execute,
    }


def _information(model: onnx.ModelProto, fake: Fake) -> dict[str, Any]:
    """Describe a layer per node in the JSON layout of the major version; a dequantized input counts as int8."""
    major, silently_fp32 = fake.major, fake.silently_fp32
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    types |= {weight.name: weight.data_type for weight in graph.initializer}
    types |= {output: 3 for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    layers = []
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear", "Cast", "Constant"}:
            continue
        names = [NAMES[DATATYPES[types[name]]] for name in node.input if types.get(name) in DATATYPES]
        said = ["Float" if silently_fp32 and name in {"Int8", "Half"} else name for name in names]
        tensors = [
            {"Format/Datatype": name} if major == 10 else {"Datatype": name, "Format": "Linear"} for name in said
        ]
        kind = "DLA" if fake.on_dla and node.op_type == "Conv" else node.op_type
        layers.append({"Name": node.name, "LayerType": kind, "Inputs": tensors, "Outputs": []})
    names = [value.name for value in (*graph.input, *graph.output)]
    io = {"Bindings": names} if major == 10 else {"I/O Tensors": [{"Name": name} for name in names]}
    return {"Layers": layers} | io
