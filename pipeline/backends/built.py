"""What the engine stage has built on this device, ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.backends import Backend, load
from pipeline.records import EngineRecord, read_record

PLACES: Final = {  # of a backend's files, and where it runs them
    "tensorrt": ("engine", "cuda"),
    "onnxruntime_cuda": ("export", "cuda"),
    "onnxruntime_tensorrt": ("export", "cuda"),
}


def load_built(student: Path, threads: int) -> Iterator[Backend]:
    """Load a student's built files, in the order of the engine stage.

    Args:
        student: Its folder of artifacts, with `export/` and `engine/`.
        threads: CPU threads of one inference, see `load`.

    """
    for build in read_record(student / "engine/engine.json", EngineRecord).builds:
        if build.status == "built" and build.file is not None:
            folder, device = PLACES.get(build.backend, ("export", "cpu"))
            yield load(student / folder / build.file, device, threads, build.backend)
