"""What the engine stage has built on this device, ready to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.backends import Backend, load
from pipeline.records import EngineRecord, read_record


def load_built(student: Path, threads: int) -> Iterator[Backend]:
    """Load a student's built files, in the order of the engine stage.

    Args:
        student: Its folder of artifacts, with `export/` and `engine/`.
        threads: CPU threads of one inference, see `load`.

    """
    exported, engines = student / "export", student / "engine"
    for build in read_record(engines / "engine.json", EngineRecord).builds:
        if build.backend == "tensorrt" and build.file is not None:
            yield load(engines / build.file, "cuda", threads)
        elif build.file is not None:
            yield load(exported / build.file, threads=threads, runtime=build.backend)
