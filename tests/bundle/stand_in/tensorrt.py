"""A stand-in for TensorRT over host memory: a plan is an ONNX file that ONNX Runtime runs.

It shows that check.py's calls fit together, and nothing about TensorRT itself.
"""

import ctypes
from enum import Enum
from typing import Any

import numpy as np
import onnxruntime

__version__ = "0.0.0"
TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None:
        pass


def nptype(kind: Any) -> Any:
    return kind


class Runtime:
    def __init__(self, logger: Logger) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        return Engine(plan) if plan[:1] == b"\x08" else None  # an ONNX file's first field


class Engine:
    def __init__(self, plan: bytes) -> None:
        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.tensors = {value.name: value for value in self.session.get_inputs() + self.session.get_outputs()}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self.session.get_inputs()[0].name else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return TYPES[self.tensors[name].type]

    def create_execution_context(self) -> "Context":
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.batch = -1

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> None:
        self.batch = shape[0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.batch, *self.engine.tensors[name].shape[1:])

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, _stream: int) -> bool:
        source = self.engine.session.get_inputs()[0].name
        answers = self.engine.session.run(None, {source: self._array(source)})
        for value, answer in zip(self.engine.session.get_outputs(), answers, strict=True):
            self._array(value.name)[:] = answer
        return True

    def _array(self, name: str) -> Any:
        shape, kind = self.get_tensor_shape(name), np.dtype(self.engine.get_tensor_dtype(name))
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[name]), kind).reshape(shape)
