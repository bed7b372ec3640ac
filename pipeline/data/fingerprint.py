"""Fingerprint of a user's data: what `prepare` depends on, wherever the folder lies."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.data.pool import in_threads
from pipeline.digest import IGNORED, file_digest, value_digest
from pipeline.errors import PipelineError
from pipeline.files import user_path, write_text
from pipeline.records import Record, read_record
from pipeline.text import PlainConsole

CACHE: Final = Path(".state/source-digests.json")
State = list[int]  # size, modification and change time in ns, inode: equal only if the content is


class SourceInfo(Record):
    """`results/source.json`: what the data were when they were prepared."""

    files: int
    digest: str


def fingerprint(path: str) -> SourceInfo:
    """Digest the files under `prepare.path` by their names and contents; a file that did not change is not read again.

    Links are followed. Two copies of the data in different places have the same digest.

    Raises:
        PipelineError: if there is nothing at the path, or a file cannot be read.

    """
    root, cache = user_path(path).resolve(), user_path(CACHE)  # resolved: an experiment's copy shares the cache
    if not root.exists():
        raise PipelineError(f"prepare.path: {path} does not exist: set it to the folder of your data")
    try:
        states = {str(file): _state(file) for file in _files(root)}
        known = _read_cache(cache)
        digests = {file: known[file][1] for file, state in states.items() if known.get(file, (None,))[0] == state}
        fresh = [Path(file) for file in states if file not in digests]
        console = PlainConsole(stderr=True)
        digests |= zip(map(str, fresh), in_threads(console, "digesting", file_digest, fresh), strict=True)
    except OSError as error:
        raise PipelineError(f"{error.filename}: cannot be read ({error.strerror}): mend or remove it") from error
    if fresh:
        write_text(cache, json.dumps({file: (state, digests[file]) for file, state in states.items()}))
    relative = {os.path.relpath(file, root): digest for file, digest in digests.items()}
    return SourceInfo(files=len(relative), digest=value_digest(relative))


def require_unchanged(path: str, record: Path) -> None:
    """Compare the data with what stage `source` recorded.

    Raises:
        PipelineError: if they changed since.

    """
    if fingerprint(path) != read_record(record, SourceInfo):
        raise PipelineError(f"{path} changed while it was prepared. Nothing was published; run `dvc repro` again")


def _files(root: Path) -> Iterator[Path]:
    """List a file, or the files of a folder; a linked folder that was visited already is not entered again."""
    if root.is_file():
        yield root
        return
    visited = set()
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=True):
        visited.add(os.path.realpath(folder))
        folders[:] = sorted(name for name in folders if os.path.realpath(Path(folder, name)) not in visited)
        yield from (
            file for name in sorted(names) if not IGNORED & {*(file := Path(folder, name)).parts} and file.is_file()
        )


def _refuse(error: OSError) -> None:
    """Keep `os.walk` from leaving out a folder that cannot be read."""
    raise error


def _state(file: Path) -> State:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read_cache(cache: Path) -> dict[str, tuple[State, str]]:
    """Read the digests of the last time; a damaged cache is an empty one."""
    try:
        return {file: (state, digest) for file, (state, digest) in json.loads(cache.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
