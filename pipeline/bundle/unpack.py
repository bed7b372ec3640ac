"""Read a bundle, and trust nothing in it: each path and size is checked before, each content while it is read."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from pipeline.bundle.manifest import (
    CHUNK_BYTES,
    MAX_BYTES,
    MAX_MANIFEST_BYTES,
    NAME,
    Manifest,
    copy_shipped,
    parse_manifest,
    require_inside,
)
from pipeline.errors import PipelineError
from pipeline.files import replacing_folder, write_text

MAX_MEMBERS: Final = 10_000
MAX_RATIO: Final = 20  # unpacked to packed, from FREE_BYTES on: weights hardly shrink
FREE_BYTES: Final = 64 * 1024**2
# What zipfile raises on damage: its own error, unknown methods, encryption, broken streams and headers.
DAMAGE: Final = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError, ValueError)


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack a bundle into a new or empty folder, atomically, in little memory.

    Raises:
        PipelineError: if the folder has something in it; or naming the file at fault, if a path leads out of the
            bundle, is a link, stands twice, is not in the manifest or is missing, a size or hash differs, or all
            together are more than a bundle may hold; or if the archive cannot be read.

    """
    if not path.is_file():
        came = "is a folder" if path.is_dir() else "not found"
        raise PipelineError(f"{path} {came}: expected a bundle, which `python -m pipeline bundle` makes")
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as error:
        raise PipelineError(f"{path} is not a whole zip archive ({error}): get the bundle again") from None
    with archive, replacing_folder(folder) as fresh:
        if folder.is_dir() and any(folder.iterdir()):
            raise PipelineError(f"{folder} is not empty: name a new folder to unpack {path.name} into")
        members = _members(archive, path)
        manifest = parse_manifest(_manifest(archive, members, path), path)
        _require_same_names(set(members) - {NAME}, set(manifest.files), path)
        for name, facts in manifest.files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            with (fresh / name).open("xb") as file:
                copy_shipped(name, _chunks(archive, members[name], path), facts, path, file)
            if name.endswith(".sh"):
                (fresh / name).chmod(0o755)
        write_text(fresh / NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def check_folder(folder: Path) -> Manifest:
    """Check an unpacked bundle; files beside those of the manifest, such as engines and records, may be there.

    Raises:
        PipelineError: naming the file that is missing, a link or damaged.

    """
    file = folder / NAME
    if not file.is_file() or file.stat().st_size > MAX_MANIFEST_BYTES:
        raise PipelineError(f"{folder} is not an unpacked bundle (no {NAME}): use `python -m pipeline unpack`")
    manifest = parse_manifest(file.read_bytes(), folder)
    for name, facts in manifest.files.items():
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise PipelineError(f"{folder}: {name} is missing or a link; unpack the bundle again")
        with (folder / name).open("rb") as opened:
            copy_shipped(name, iter(partial(opened.read, CHUNK_BYTES), b""), facts, folder, None)
    return manifest


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        # orig_filename: zipfile cuts a name at its first NUL.
        require_inside(info.orig_filename, path)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG}:
            raise PipelineError(f"{path}: {info.filename} is a link or no plain file; get the bundle again")
        if info.filename in members:
            raise PipelineError(f"{path}: {info.filename} stands in it twice; get the bundle again")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:  # only these unpack piece by piece
            raise PipelineError(f"{path}: {info.filename} is not packed as `pipeline bundle` does (deflate)")
        members[info.filename] = info
    _require_sane_size(members, path)
    return members


def _require_sane_size(members: dict[str, zipfile.ZipInfo], path: Path) -> None:
    total = sum(info.file_size for info in members.values())
    if len(members) > MAX_MEMBERS or total > MAX_BYTES:
        raise PipelineError(
            f"{path} says that it unpacks to {len(members)} files of {total} bytes; a bundle has at most {MAX_MEMBERS} "
            f"of {MAX_BYTES} bytes"
        )
    packed = path.stat().st_size
    if total > max(FREE_BYTES, MAX_RATIO * packed):
        raise PipelineError(
            f"{path} says that {packed} bytes unpack to {total}; a bundle shrinks to no less than 1/{MAX_RATIO}"
        )


def _manifest(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path) -> bytes:
    if NAME not in members or members[NAME].file_size > MAX_MANIFEST_BYTES:
        raise PipelineError(f"{path} is not a whole bundle: it has no {NAME}; get the bundle again")
    return b"".join(_chunks(archive, members[NAME], path))


def _require_same_names(found: set[str], listed: set[str], path: Path) -> None:
    for names, problem in ((found - listed, f"is not listed in {NAME}"), (listed - found, "is missing")):
        if names:
            raise PipelineError(f"{path}: {min(names)} {problem}; get the bundle again")


def _chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Iterator[bytes]:
    """Unpack a member piece by piece, so that no size that the archive states is allocated."""
    try:
        with archive.open(info) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except DAMAGE as error:
        raise PipelineError(f"{path}: {info.filename} is damaged ({error}); get the bundle again") from None
