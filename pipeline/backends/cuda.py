"""The few calls of the CUDA runtime that TensorRT needs, through Polygraphy's wrapper of libcudart."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

COMPUTE_CAPABILITY: Final = (75, 76)  # cudaDevAttrComputeCapabilityMajor, ...Minor
MULTIPROCESSORS: Final = 16  # cudaDevAttrMultiProcessorCount
PROPERTIES_BYTES: Final = 8192  # cudaDeviceProp is smaller in every version, and starts with the name


def runtime() -> Any:
    """Open libcudart.

    Raises:
        OSError: if it is not to be found.

    """
    from polygraphy import cuda

    _show_pip_wheels()
    return cuda.wrapper()


def device_count() -> int:
    """Count the CUDA devices; 0 without a driver.

    Raises:
        OSError: if libcudart is not to be found.

    """
    count = ctypes.c_int()
    failed = runtime().handle.cudaGetDeviceCount(ctypes.byref(count))
    return 0 if failed else count.value


def gpu_name(number: int) -> str:
    """Name what a plan is bound to, `NVIDIA H200, sm_90, 132 multiprocessors`: equal names, interchangeable plans."""
    cuda = runtime()
    properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
    cuda.check(cuda.handle.cudaGetDeviceProperties(properties, number))
    major, minor, multiprocessors = (_attribute(cuda, key, number) for key in (*COMPUTE_CAPABILITY, MULTIPROCESSORS))
    return f"{properties.value.decode()}, sm_{major}{minor}, {multiprocessors} multiprocessors"


class Stopwatch:
    """CUDA events on one stream; the GPU's clock says how long it was from one to the next."""

    def __init__(self, marks: int) -> None:
        self.cuda = runtime()
        self.events = [ctypes.c_void_p() for _ in range(marks)]
        for event in self.events:
            self.cuda.check(self.cuda.handle.cudaEventCreate(ctypes.byref(event)))

    def mark(self, index: int, stream: int) -> None:
        """Let the stream note the time when it gets here."""
        self.cuda.check(self.cuda.handle.cudaEventRecord(self.events[index], ctypes.c_void_p(stream)))

    def intervals_ms(self) -> list[float]:
        """Return the milliseconds between neighbouring marks; the stream must be synchronized."""
        elapsed, intervals = ctypes.c_float(), []
        for start, end in zip(self.events, self.events[1:], strict=False):
            self.cuda.check(self.cuda.handle.cudaEventElapsedTime(ctypes.byref(elapsed), start, end))
            intervals.append(elapsed.value)
        return intervals

    def free(self) -> None:
        """Destroy the events."""
        for event in self.events:
            self.cuda.check(self.cuda.handle.cudaEventDestroy(event))


def _attribute(cuda: Any, key: int, number: int) -> int:
    value = ctypes.c_int()
    cuda.check(cuda.handle.cudaDeviceGetAttribute(ctypes.byref(value), key, number))
    return value.value


def _show_pip_wheels() -> None:
    """Put the CUDA 13 wheels' folder on the path that Polygraphy 0.53 searches; it knows that of CUDA 12 only."""
    spec = find_spec("nvidia")
    found = [str(folder) for place in (spec and spec.submodule_search_locations) or [] for folder in _libraries(place)]
    searched = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    if new := [folder for folder in found if folder not in searched]:
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join([*filter(None, searched), *new])


def _libraries(place: str) -> list[Path]:
    return sorted(Path(place).glob("cu[0-9]*/lib"))
