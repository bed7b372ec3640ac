"""TensorRT plans, and what lies beside them. A plan is bound to a GPU and a TensorRT version; others are refused."""

from __future__ import annotations

import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.backends import Array, Backend, read_metadata, types_of
from pipeline.backends.cuda import Stopwatch, device_count, gpu_name, runtime
from pipeline.errors import PipelineError
from pipeline.records import BatchProfile, Record, read_record

VERSIONS: Final = ((10, 3), (12, 0))  # from the first, below the second
PHASES: Final = ("host_to_device", "compute", "device_to_host")


class PlanInfo(Record):
    """What lies beside a plan as `<name>.plan.json`.

    `layer_shares` is what TensorRT really built: of the layers that compute, the share per datatype, 0 to 1.
    `layer_places` counts the layers on `dla` and `gpu` of an engine for a DLA core.
    """

    tensorrt_version: str
    gpu: str
    outputs: list[str]  # in the ONNX file's order
    layer_shares: dict[str, float]
    layer_places: dict[str, int] | None = None
    dla_core: int | None = None  # that it was built for and runs on; None: the GPU
    profile: BatchProfile | None = None  # None in those of earlier commits
    metadata: dict[str, str]  # the ONNX file's, one JSON value per key


def plan_info_path(plan: Path) -> Path:
    """Return where a plan's `PlanInfo` lies."""
    return plan.with_suffix(".plan.json")


def unavailable(device: str = "cuda") -> str | None:
    """Say why TensorRT cannot be used on this device (`cuda` or `cuda:N`) and what to do; None where it can."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return f"TensorRT needs a GPU, got device {device}: use cuda or cuda:N"
    for package in ("tensorrt", "polygraphy"):
        if find_spec(package) is None:
            return (
                f"the Python package {package} is not installed here: install this project's extra `tensorrt`; on a "
                "Jetson, TensorRT is JetPack's own, visible in a venv with --system-site-packages"
            )
    try:
        import tensorrt as trt
    except (ImportError, OSError) as error:
        return f"the Python package tensorrt cannot be loaded ({error}): its libraries and Python must fit together"
    low, high = VERSIONS
    if not low <= tuple(int(part) for part in trt.__version__.split(".")[:2]) < high:
        return f"TensorRT {trt.__version__} is installed here, expected 10.3 to 11.x"
    return _no_device(device, int(number or 0))


def _no_device(device: str, number: int) -> str | None:
    try:
        devices = device_count()
    except OSError as error:
        return f"the CUDA runtime is not to be found ({error}): put the folder of libcudart.so into LD_LIBRARY_PATH"
    return None if number < devices else f"device {device}: CUDA finds {devices} devices here; check `nvidia-smi`"


def load_plan(path: Path, device: str, threads: int) -> Backend:
    """Load a plan on exactly the asked GPU; `load` explains the arguments.

    A batch larger than the engine was built for runs in parts. `phases` takes no such batch.

    Raises:
        PipelineError: also if the plan was built by another TensorRT version or for another GPU.

    """
    if not path.exists():
        raise PipelineError(f"{path} not found: run `dvc repro engine` on this device to make it")
    if reason := unavailable(device):
        raise PipelineError(f"{path}: {reason}")
    info = read_record(plan_info_path(path), PlanInfo)
    number = int(device.partition(":")[2] or 0)
    _require_same(path, info, number)
    session = _Session(path, number, info.outputs, info.dla_core)
    metadata = read_metadata(path, info.metadata)
    most = session.shape[0]

    def run(images: Array) -> list[npt.NDArray[Any]]:
        session.require(images, split=True)
        parts = [session.infer(images[start : start + most]) for start in range(0, len(images), most)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]

    def phases(images: Array) -> tuple[list[npt.NDArray[Any]], dict[str, float]]:
        session.require(images, split=False)
        outputs = session.infer(images, timed=True)
        return outputs, dict(zip(PHASES, session.stopwatch.intervals_ms(), strict=True))

    name = f"tensorrt-{types_of(metadata.precision)[0]}"
    return Backend(name, device, threads, session.dynamic_batch, metadata, run, phases)


def _require_same(path: Path, info: PlanInfo, number: int) -> None:
    import tensorrt as trt

    for what, built, here in (
        ("TensorRT", info.tensorrt_version, trt.__version__),
        ("GPU", info.gpu, gpu_name(number)),
    ):
        if built != here:
            raise PipelineError(
                f"{path}: built with {what} {built}, and here is {what} {here}; a plan runs where it was built, so "
                "build it on this device from the ONNX file: `dvc repro engine`"
            )


class _Session:
    """One execution context with its stream and its buffers, allocated once for the largest batch.

    Host memory is pageable and no CUDA graph is used: shapes change from call to call, as in the pipeline's evaluation.

    Not Polygraphy's TrtRunner: it allocates outputs through Python while it infers, which a benchmark would measure.
    """

    def __init__(self, path: Path, number: int, outputs: list[str], dla_core: int | None) -> None:
        import tensorrt as trt
        from polygraphy import cuda
        from polygraphy.backend.trt import engine_from_bytes, get_trt_logger
        from polygraphy.exception import PolygraphyException

        self.path, self.number, self.outputs = path, number, outputs
        self.cuda, self.copy = runtime(), cuda.MemcpyKind
        self._use_device()
        try:
            reader = trt.Runtime(get_trt_logger())
            if dla_core is not None:  # else an engine for core 1 runs on core 0
                reader.DLA_core = dla_core
            self.engine = engine_from_bytes(path.read_bytes(), runtime=reader)
        except PolygraphyException as error:
            raise PipelineError(f"{path}: TensorRT {trt.__version__} cannot read this plan: {error}") from error
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise PipelineError(f"{path}: TensorRT cannot prepare this plan, most often for lack of GPU memory")
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        self.input = next(name for name in names if self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
        least, _, most = (tuple(shape) for shape in self.engine.get_tensor_profile_shape(self.input, 0))
        self.shape, self.dynamic_batch = most, least != most
        self.dtypes = {name: np.dtype(trt.nptype(self.engine.get_tensor_dtype(name))) for name in names}
        if self.dtypes[self.input] != np.float32:
            raise PipelineError(f"{path}: expected float32 images as input, the engine takes {self.dtypes[self.input]}")
        self.current: tuple[int, ...] = ()
        self._set_shape(most)
        self.buffers = {
            name: cuda.DeviceArray.raw((int(np.prod(self._shape_of(name))) * self.dtypes[name].itemsize,))
            for name in names
        }
        for name, buffer in self.buffers.items():
            self.context.set_tensor_address(name, buffer.ptr)
        self.stream, self.stopwatch = cuda.Stream(), Stopwatch(len(PHASES) + 1)
        weakref.finalize(self, _free, [*self.buffers.values(), self.stream, self.stopwatch])

    def require(self, images: Array, *, split: bool) -> None:
        """Refuse images that do not fit; with `split`, any number of them fits a free batch axis."""
        most = self.shape[0]
        fits = len(images) >= 1 and (split or len(images) <= most) if self.dynamic_batch else len(images) == most
        if not fits or images.shape[1:] != self.shape[1:]:
            asked = f"1 to {most}" if self.dynamic_batch else str(most)
            raise PipelineError(f"{self.path}: expected {asked} images of shape {self.shape[1:]}, got {images.shape}")

    def infer(self, images: Array, *, timed: bool = False) -> list[npt.NDArray[Any]]:
        """Copy in, compute, copy out, wait. `timed` sets the stopwatch's marks; outputs in the ONNX file's order."""
        self._use_device()
        self._set_shape(images.shape)
        outputs = {name: np.empty(self._shape_of(name), self.dtypes[name]) for name in self.outputs}
        mark = self.stopwatch.mark if timed else _no_mark
        images, stream = np.ascontiguousarray(images, dtype=np.float32), self.stream.ptr
        mark(0, stream)
        self.cuda.memcpy(
            self.buffers[self.input].ptr, images.ctypes.data, images.nbytes, self.copy.HostToDevice, stream
        )
        mark(1, stream)
        if not self.context.execute_async_v3(stream):
            raise PipelineError(f"{self.path}: TensorRT failed on images of shape {images.shape}; it said why above")
        mark(2, stream)
        for name, host in outputs.items():
            self.cuda.memcpy(host.ctypes.data, self.buffers[name].ptr, host.nbytes, self.copy.DeviceToHost, stream)
        mark(3, stream)
        self.stream.synchronize()
        return list(outputs.values())

    def _use_device(self) -> None:
        self.cuda.check(self.cuda.handle.cudaSetDevice(self.number))

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        if shape == self.current:  # setting it again costs time
            return
        if not self.context.set_input_shape(self.input, shape):
            raise PipelineError(f"{self.path}: the engine refuses images of shape {shape}")
        self.current = shape

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(self.context.get_tensor_shape(name))


def _no_mark(_index: int, _stream: int) -> None:
    pass


def _free(resources: list[Any]) -> None:
    for resource in resources:
        resource.free()
