"""Where a tensor's data lies when it is not in the file itself."""

from __future__ import annotations

import math
import os
from pathlib import Path, PureWindowsPath
from typing import Final

import onnx
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

MAX_DIGITS: Final = 19  # of a count of bytes
PACKED: Final = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)  # two elements in a byte


def external_fault(tensor: TensorProto, folder: Path) -> str:
    """Say what is wrong with the place of a tensor's external data; empty if nothing is, or if it has none."""
    if not uses_external_data(tensor):
        return ""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, numbers = entries.get("location", ""), [entries.get(key, "0") for key in ("offset", "length")]
    windows = PureWindowsPath(location)  # backslashes separate too
    if not location or "\0" in location:
        fault = "without a file's name"
    elif windows.anchor or ".." in os.path.normpath(windows.as_posix()).split("/"):
        fault = "outside the model's folder"
    elif not all(number.isascii() and number.isdigit() and len(number) < MAX_DIGITS for number in numbers):
        fault = f"at offset {numbers[0]!r} with length {numbers[1]!r}, which are no counts of bytes"
    else:
        fault = _size_fault(folder / location, int(numbers[0]), int(numbers[1]), _bytes(tensor))
    return fault


def external_link(tensor: TensorProto, folder: Path) -> bool:
    """Say whether a tensor's external data lies behind a symbolic link: the file itself, or a folder on the way."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if not location or external_fault(tensor, folder):
        return False
    return (folder / location).resolve() != folder.resolve() / os.path.normpath(location)


def _size_fault(file: Path, offset: int, length: int, needed: int) -> str:
    if length and needed and length != needed:
        return f"of {length} bytes for a tensor of {needed}"
    try:
        size = file.stat().st_size if file.is_file() else -1
    except OSError as error:
        return f"that cannot be read: {error.strerror}"
    if size < offset + max(length, needed):
        return "that is missing or too short"
    rest = size - offset  # what is read where no length is given
    return (
        f"without a length, whose {rest} bytes are more than the tensor's {needed}"
        if needed and not length and rest != needed
        else ""
    )


def _bytes(tensor: TensorProto) -> int:
    """Count the bytes that a tensor of a known type takes; 0 for others."""
    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError):
        return 0
    return math.prod(max(side, 0) for side in tensor.dims) * width if tensor.data_type not in PACKED else 0
