"""An ONNX file as a TensorRT plan, on one path for TensorRT 10.3 to 11.x.

The network is strongly typed and no precision flag is set: the ONNX file carries its precision (float32, float16 with
casts, int8 with Q/DQ), and what TensorRT made of it is read back from the engine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from pipeline.backends import read_metadata, require_int8_for, types_of
from pipeline.backends.cuda import gpu_name, runtime
from pipeline.backends.tensorrt import PlanInfo, plan_info_path, unavailable
from pipeline.errors import PipelineError
from pipeline.export.inspector import layer_places, layer_shares
from pipeline.files import write_bytes
from pipeline.params import TensorRT
from pipeline.records import BatchProfile, write_record

INPUT: Final = "images"
MIB: Final = 2**20


def refused_by_dla(precision: str, params: TensorRT) -> str | None:
    """Say why a file of this precision is not built where engines are for a DLA core; None where it is."""
    if params.dla_core is None or precision == "fp16":
        return None
    reasons = {"fp32": "it computes in fp16 and int8", "int8": "with TensorRT 10 it takes no explicit Q/DQ nodes"}
    return f"engine.tensorrt.dla_core is {params.dla_core}, and a DLA runs fp16.onnx alone: {reasons[precision]}"


def fallen_back(info: PlanInfo, params: TensorRT) -> str | None:
    """Say what an engine for a DLA core left to the GPU; None where nothing was asked of a DLA."""
    if info.layer_places is None:
        return None
    if not info.layer_places["dla"]:
        return f"DLA core {params.dla_core} was asked for, and the inspector names no layer there: all runs on the GPU"
    counts = ", ".join(f"{count} on the {place.upper()}" for place, count in info.layer_places.items())
    return f"DLA core {params.dla_core}, layers: {counts}"


def build_plan(onnx_path: Path, plan: Path, params: TensorRT, timing_caches: Path, device: str = "cuda") -> PlanInfo:
    """Build a plan for this GPU and this TensorRT version.

    Args:
        onnx_path: One input `images` (N, 3, S, S) float32, with the metadata of `export_onnx`. Where N is free, the
            plan takes 1 to `params.max_batch` images and is tuned for 1; on a DLA it takes 1 and no more.
        plan: The file, as trtexec reads it; written whole or not at all, with a `PlanInfo` beside it.
        params: The builder's settings.
        timing_caches: Folder with a cache per GPU and TensorRT version; read and extended, which makes the next build
            fast and the same tactics likely. TF32 stays on, TensorRT's default.
        device: `cuda` or `cuda:N`.

    Returns:
        What lies beside the plan.

    Raises:
        PipelineError: if TensorRT cannot be used here, cannot parse or build the file, has no such DLA core, or built
            an engine without a layer in the precision that the file carries. Nothing is written then.

    """
    import onnx
    from polygraphy.exception import PolygraphyException
    from polygraphy.logger import G_LOGGER

    if reason := unavailable(device):
        raise PipelineError(f"{onnx_path}: no plan can be built here: {reason}")
    import tensorrt as trt

    if not onnx_path.exists():
        raise PipelineError(f"{onnx_path} not found: run `dvc repro` to make it")
    properties = {entry.key: entry.value for entry in onnx.load(onnx_path, load_external_data=False).metadata_props}
    precision = read_metadata(onnx_path, properties).precision
    require_int8_for(onnx_path, precision, tensorrt=True)
    number = int(device.partition(":")[2] or 0)
    cuda, gpu = runtime(), gpu_name(number)
    cuda.check(cuda.handle.cudaSetDevice(number))
    timing_caches.mkdir(parents=True, exist_ok=True)
    cache = timing_caches / f"{re.sub('[^A-Za-z0-9_]+', '-', gpu)}-tensorrt-{trt.__version__}.cache"
    with G_LOGGER.verbosity(G_LOGGER.WARNING):  # else Polygraphy lists the configuration
        network = _parse(onnx_path)
        outputs = [network[1].get_output(index).name for index in range(network[1].num_outputs)]
        try:
            engine = _build(network, params, cache)
            layers = _inspect(engine)
        except PolygraphyException as error:
            alone = params.dla_core is not None and not params.gpu_fallback
            hint = "; with engine.tensorrt.gpu_fallback: true the GPU runs what the DLA cannot" if alone else ""
            raise PipelineError(
                f"{onnx_path}: TensorRT {trt.__version__} cannot build an engine for {gpu}: {error} (its own messages "
                f"are above){hint}"
            ) from error
    shares = layer_shares(layers)
    _require_precision(onnx_path, precision, shares)
    info = PlanInfo(
        tensorrt_version=trt.__version__,
        gpu=gpu,
        outputs=outputs,
        layer_shares=shares,
        layer_places=None if params.dla_core is None else layer_places(layers),
        dla_core=params.dla_core,
        profile=_profile(network[1].get_input(0).shape[0], params),
        metadata=properties,
    )
    _write(plan, engine, info)
    return info


def _parse(onnx_path: Path) -> tuple[Any, Any, Any]:
    """Return builder, network and parser; the network lives as long as its parser."""
    import tensorrt as trt
    from polygraphy.backend.trt import create_network, get_trt_logger

    builder, network = create_network(strongly_typed=True)
    trt.init_libnvinfer_plugins(get_trt_logger(), "")
    parser = trt.OnnxParser(network, get_trt_logger())
    if not parser.parse_from_file(str(onnx_path)):
        errors = [_explain(parser.get_error(index)) for index in range(parser.num_errors)]
        listed = "\n".join(errors) or "it names no node; its own messages are above"
        raise PipelineError(f"{onnx_path}: TensorRT {trt.__version__} cannot parse it:\n{listed}")
    shapes = {network.get_input(index).name: network.get_input(index).shape for index in range(network.num_inputs)}
    shape = tuple(shapes.get(INPUT, ()))
    if list(shapes) != [INPUT] or len(shape) != 4 or min(shape[1:]) < 1:
        came = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise PipelineError(f"{onnx_path}: expected one input {INPUT} (N, 3, S, S), only N free, got {came}")
    return builder, network, parser


def _explain(error: Any) -> str:
    return f"  node {error.node()} {error.node_name()} ({error.node_operator()}): {error.desc()}"


def _build(network: tuple[Any, Any, Any], params: TensorRT, cache: Path) -> Any:
    """Build the engine's bytes, and extend the timing cache."""
    import tensorrt as trt
    from polygraphy.backend.trt import CreateConfig, EngineBytesFromNetwork, PostprocessConfig, Profile

    batch, *image = network[1].get_input(0).shape
    sizes = _profile(batch, params)
    config = CreateConfig(
        profiles=[Profile().add(INPUT, min=(sizes.min, *image), opt=(sizes.opt, *image), max=(sizes.max, *image))],
        memory_pool_limits={trt.MemoryPoolType.WORKSPACE: params.workspace_mb * MIB},
        builder_optimization_level=params.optimization_level,
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,  # or the inspector lists no datatypes
        load_timing_cache=str(cache) if cache.exists() else None,
        tf32=True,
    )

    def use_dla(builder: Any, _network: Any, config: Any) -> None:
        # Not through Polygraphy: it takes core 0, and on 10.x a flag that strong typing refuses.
        if params.dla_core is None:
            return
        if params.dla_core >= builder.num_DLA_cores:
            raise PipelineError(
                f"engine.tensorrt.dla_core: {params.dla_core} is asked for, and TensorRT {trt.__version__} sees "
                f"{builder.num_DLA_cores} DLA cores here; null builds for the GPU"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = params.dla_core
        if params.gpu_fallback:
            config.set_flag(trt.BuilderFlag.GPU_FALLBACK)

    return EngineBytesFromNetwork(network, PostprocessConfig(config, use_dla), save_timing_cache=str(cache))()


def _profile(batch: int, params: TensorRT) -> BatchProfile:
    """Choose the batch sizes of an engine; `batch` is the file's, below 0 where it is free. A DLA knows one shape."""
    if batch > 0:
        return BatchProfile(min=batch, opt=batch, max=batch)
    return BatchProfile(min=1, opt=1, max=params.max_batch if params.dla_core is None else 1)


def _inspect(serialized: Any) -> str:
    """Read the built engine back, as JSON. With a context the inspector says more, and on some GPUs nothing at all."""
    import tensorrt as trt
    from polygraphy.backend.trt import engine_from_bytes

    engine = engine_from_bytes(serialized)
    inspector, context = engine.create_engine_inspector(), engine.create_execution_context()
    context.set_input_shape(INPUT, engine.get_tensor_profile_shape(INPUT, 0)[1])
    inspector.execution_context = context
    layers: str = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    if not layer_shares(layers):
        layers = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return layers


def _require_precision(onnx_path: Path, precision: str, shares: dict[str, float]) -> None:
    """Refuse an engine that is silently wider than its file: `int8-tensorrt` must have layers in int8 and fp16."""
    built = ", ".join(f"{share:.0%} {name}" for name, share in shares.items()) or "no layer with a datatype"
    if missing := [name for name in types_of(precision) if name != "fp32" and name not in shares]:
        raise PipelineError(
            f"{onnx_path}: the file is {precision}, and TensorRT built an engine without a layer in "
            f"{' or '.join(missing)} ({built}), so it would be as slow as a wider one. Check that the file has "
            "Q/DQ nodes (int8) or casts (fp16), and that this GPU has kernels for them"
        )


def _write(plan: Path, serialized: Any, info: PlanInfo) -> None:
    write_record(plan_info_path(plan), info)
    write_bytes(plan, bytes(serialized))
