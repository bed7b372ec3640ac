"""What a bundle says of itself: which model it holds, and the size and SHA-256 of every file."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import PipelineError
from pipeline.tasks import Task

NAME: Final = "manifest.json"
REFERENCE: Final = "models/fp32.onnx"


class FileFacts(BaseModel):
    """One file of a bundle."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    bytes: int


class Manifest(BaseModel):
    """`manifest.json`: it lists every file of the bundle but itself."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    task: Task
    student: str
    image_size_px: int
    checkpoint_digest: str
    commit: str
    licence: str
    files: dict[str, FileFacts]


def facts_of(content: bytes) -> FileFacts:
    """Measure one file."""
    return FileFacts(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def parse_manifest(content: bytes, source: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        PipelineError: if it is no manifest of this version, or lists a path that leads out of the bundle.

    """
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise PipelineError(f"{source}: {NAME} is not a manifest of bundle format 1: {error}") from None
    for name in manifest.files:
        require_inside(name, source)
    return manifest


def require_inside(name: str, source: Path) -> None:
    """Refuse a path that is not plain, relative and inside the bundle.

    Raises:
        PipelineError: naming the path.

    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or set("\\:\0") & set(name) or str(path) != name or name == ".":
        raise PipelineError(
            f"{source}: the path {name!r} leads out of the bundle or is not plain; get the bundle again"
        )


def require_shipped(name: str, content: bytes, expected: FileFacts, source: Path) -> None:
    """Refuse a file whose content is not what the manifest lists.

    Raises:
        PipelineError: naming the file.

    """
    if facts_of(content) != expected:
        same = len(content) == expected.bytes
        wrong = "its SHA-256 is another" if same else f"it has {len(content)} bytes, {NAME} lists {expected.bytes}"
        raise PipelineError(f"{source}: {name} is damaged: {wrong}; get the bundle again")
