"""What a bundle says of itself: which model it holds, and the size and SHA-256 of every file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import PipelineError
from pipeline.records import Digest, FileName, ImageSizePx, Line
from pipeline.tasks import Task
from pipeline.text import is_one_line

NAME: Final = "manifest.json"
REFERENCE: Final = "models/fp32.onnx"
MAX_BYTES: Final = 4 * 1024**3  # of all files together: an ONNX file holds 2 GiB at most
MAX_MANIFEST_BYTES: Final = 1_000_000
MAX_NAME_BYTES: Final = 200  # of a path in a bundle: every file system takes it
CHUNK_BYTES: Final = 1024**2  # read at once


class FileFacts(BaseModel):
    """One file of a bundle."""

    model_config = ConfigDict(extra="forbid")

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0, le=MAX_BYTES)]


class Manifest(BaseModel):
    """`manifest.json`: it lists every file of the bundle but itself."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    task: Task
    student: FileName
    image_size_px: ImageSizePx
    checkpoint_digest: Digest
    commit: Line
    licence: Line
    files: dict[str, FileFacts]


def facts_of(content: bytes) -> FileFacts:
    """Measure one file."""
    return FileFacts(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def parse_manifest(content: bytes, source: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        PipelineError: if it is no manifest of this version, lists a path that leads out of the bundle or is in the way
            of another, no fp32 model, or more than a bundle may hold.

    """
    try:
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise PipelineError(f"{source}: {NAME} is not a manifest of bundle format 1: {error}") from None
    for name in manifest.files:
        require_inside(name, source)
    _require_room([NAME, *manifest.files], source)
    if REFERENCE not in manifest.files:
        raise PipelineError(f"{source}: {NAME} lists no {REFERENCE}, which every bundle has; get the bundle again")
    if (total := sum(facts.bytes for facts in manifest.files.values())) > MAX_BYTES:
        raise PipelineError(f"{source}: {NAME} lists {total} bytes, a bundle has at most {MAX_BYTES}")
    return manifest


def _require_room(names: list[str], source: Path) -> None:
    """Refuse names that are equal where case does not count, and a file where another needs a folder."""
    folded = {name.casefold() for name in names}
    for name in names:
        needed = next((str(path) for path in PurePosixPath(name.casefold()).parents if str(path) in folded), None)
        if needed is not None:
            raise PipelineError(f"{source}: {needed!r} is a file, and {name!r} needs a folder there")
    if len(folded) < len(names):
        twice = sorted(name for name in names if [other.casefold() for other in names].count(name.casefold()) > 1)
        raise PipelineError(f"{source}: {' and '.join(map(repr, twice[:2]))} differ in case alone")


def require_inside(name: str, source: Path) -> None:
    """Refuse a path that is not plain, relative and inside the bundle.

    Raises:
        PipelineError: naming the path.

    """
    path = PurePosixPath(name)
    plain = is_one_line(name) and len(name.encode(errors="replace")) <= MAX_NAME_BYTES and not set("\\:") & set(name)
    if not plain or path.is_absolute() or ".." in path.parts or str(path) != name or name == ".":
        raise PipelineError(
            f"{source}: the path {name!r} leads out of the bundle or is not plain; get the bundle again"
        )


def copy_shipped(name: str, chunks: Iterable[bytes], expected: FileFacts, source: Path, out: BinaryIO | None) -> None:
    """Check a file while it is read, and write it on the way; reading stops at the first byte too many.

    Args:
        name: Its path in the bundle.
        chunks: Its content.
        expected: What the manifest lists.
        source: The bundle, for the message.
        out: Where the content goes; None only checks it.

    Raises:
        PipelineError: naming the file, if its content is not what the manifest lists.

    """
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > expected.bytes:
            break
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
    if size != expected.bytes:
        came = f"more than {expected.bytes}" if size > expected.bytes else str(size)
        raise PipelineError(
            f"{source}: {name} is damaged: it has {came} bytes, {NAME} lists {expected.bytes}; get the bundle again"
        )
    if digest.hexdigest() != expected.sha256:
        raise PipelineError(f"{source}: {name} is damaged: its SHA-256 is another; get the bundle again")
