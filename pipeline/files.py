"""Find, read and write files: atomically, and a text that cannot be decoded is named."""

from __future__ import annotations

import codecs
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipeline.errors import PipelineError

BYTE_ORDER_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Hand out a new, empty file beside `path`, and rename it to `path` if all goes well.

    The file is synced to disk before the rename, and removed on any error: `path` is then as it was. Its name is
    random, so that neither two writers nor a link that lies there already get in the way.

    Raises:
        PipelineError: if no file can be there: a folder or a device has its name, a parent is no folder, the name is
            too long.

    """
    with _named(path, "file"):
        if path.is_dir():
            raise PipelineError(f"{path} is a folder: expected the name of a file to write")
        if path.exists() and not path.is_file():
            raise PipelineError(f"{path} is a device, a pipe or a socket: expected the name of a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())  # mkstemp's files are private
        with _named(path, "file"):
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Hand out a new, empty folder, and rename it to `folder` if all goes well.

    It lies in a folder of random name beside `folder`, so that no link can lead it elsewhere. What stood there, a link
    itself and not its target, goes after the new one is in place; on any error it is as it was.

    Raises:
        PipelineError: if no folder can be there: a file has its name, it is the current folder or holds it, a parent
            is no folder, the name is too long.

    """
    with _named(folder, "folder"):
        if folder.exists() and not folder.is_dir():
            raise PipelineError(f"{folder} is a file: expected the name of a folder to write")
        if Path.cwd().is_relative_to(folder.resolve()):
            raise PipelineError(f"{folder} is the current folder or holds it: expected the name of another to write")
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=folder.parent))
    fresh, old = work / "new", work / "old"
    try:
        fresh.mkdir()
        yield fresh
        with _named(folder, "folder"):
            if os.path.lexists(folder):
                folder.rename(old)
            fresh.rename(folder)
    finally:
        if os.path.lexists(old) and not os.path.lexists(folder):
            old.rename(folder)
        shutil.rmtree(work, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; its folder is made where it is missing."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8 with Unix line ends, atomically."""
    write_bytes(path, text.encode())


def read_text(path: Path, encoding: str | None = None) -> str:
    """Read a text file.

    Args:
        path: The file.
        encoding: Of the file; None for UTF-8, or UTF-16 where the file begins with its byte order mark.

    Raises:
        PipelineError: if the file cannot be decoded, with the line.
        OSError: if it cannot be read.

    """
    content = path.read_bytes()
    if encoding is None:
        marks = [name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)]
        encoding = marks[0] if marks else "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{path}:{line}: expected {encoding} text, got byte {content[error.start]:#04x}: save the file as UTF-8"
        ) from None


def user_path(path: str | Path) -> Path:
    """Resolve a path that stands in params.yaml.

    `dvc exp run --temp` and `--queue` work in a copy of the repository under its `.dvc/tmp/exps`. A relative path that
    leads out of the copy, or to something that the copy lacks, is one of the repository.
    """
    path = Path(path)
    copies = [folder for folder in Path.cwd().parents if folder.parts[-3:] == (".dvc", "tmp", "exps")]
    if path.is_absolute() or not copies:
        return path
    leads_out = Path(os.path.normpath(path)).parts[:1] == ("..",)
    return copies[0].parents[2] / path if leads_out or not path.exists() else path


@contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """Turn what the file system refuses into a message about `path`, not about a temporary name beside it."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise PipelineError(f"{path}: cannot write this {kind}: {reason}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
