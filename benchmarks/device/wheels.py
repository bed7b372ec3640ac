"""Collect the wheels that a GPU machine without internet lacks, in folders of at most 60 MB.

    python -m benchmarks.device.wheels DIR

The machine has Python 3.12 on x86-64 Linux with torch, torchvision, onnx, onnxruntime, OpenCV, torchmetrics and what
they need. There, install each folder as it arrives:

    python3 -m pip install --no-index --no-deps --target SITE DIR/part-1/*.whl && export PYTHONPATH=SITE

A wheel that is larger than a folder (TensorRT for RTX's library) is cut into pieces: `cat NAME.whl.* > NAME.whl`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 60 * 10**6
PACKAGES: Final = (
    "ultralytics", "ultralytics-thop", "pydantic", "pydantic-core", "annotated-types", "typing-inspection",
    "ruamel-yaml", "faster-coco-eval", "segmentation-models-pytorch", "pytorch-wavelets", "pywavelets",
    "onnxslim", "setuptools",
)  # fmt: skip
RTX: Final = ("tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs")
PLATFORMS: Final = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64")
ROOT: Final = Path(__file__).parents[2]


def main() -> None:
    """Download the pinned versions for Python 3.12 and share them out."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    wanted = [f"{name}=={pins[name]}" if name in pins else name for name in (*PACKAGES, *RTX)]
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    target = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp", *platforms]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *target, "-d", folder, *wanted], check=True)
    for number, part in enumerate(_parts(sorted(folder.glob("*.whl"))), start=1):
        place = folder / f"part-{number}"
        place.mkdir(exist_ok=True)
        for file in part:
            file.rename(place / file.name)
        print(f"{place}: {sum(file.stat().st_size for file in place.iterdir()) / 1e6:.1f} MB")


def _parts(wheels: list[Path]) -> list[list[Path]]:
    """Fill folders in order; cut what is too large for one."""
    parts: list[list[Path]] = [[]]
    filled = 0
    for wheel in wheels:
        for piece in _pieces(wheel):
            size = piece.stat().st_size
            if filled + size > MAX_BYTES and parts[-1]:
                parts.append([])
                filled = 0
            parts[-1].append(piece)
            filled += size
    return parts


def _pieces(wheel: Path) -> list[Path]:
    content = wheel.read_bytes()
    if len(content) <= MAX_BYTES:
        return [wheel]
    pieces = []
    for number, start in enumerate(range(0, len(content), MAX_BYTES)):
        piece = wheel.with_name(f"{wheel.name}.{number}")
        piece.write_bytes(content[start : start + MAX_BYTES])
        pieces.append(piece)
    wheel.unlink()
    return pieces


if __name__ == "__main__":
    main()
