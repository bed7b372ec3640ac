"""Read a bundle, and trust nothing in it before every path, size and hash was checked."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Final

from pipeline.bundle.manifest import NAME, Manifest, parse_manifest, require_inside, require_shipped
from pipeline.errors import PipelineError

MAX_MANIFEST_BYTES: Final = 1_000_000
# What zipfile raises on damage: its own error, unknown methods, encryption, broken streams and headers.
DAMAGE: Final = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError, ValueError)


def read_bundle(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Read a whole bundle into memory, checked.

    Returns:
        The manifest, and the content of each file that it lists.

    Raises:
        PipelineError: naming the file at fault, if a path leads out of the bundle, is a link, stands twice, is not in
            the manifest or is missing, or a size or hash differs; or if the archive cannot be read.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path)
            manifest = parse_manifest(_manifest(archive, members, path), path)
            _require_same_names(set(members) - {NAME}, set(manifest.files), path)
            return manifest, {name: _read(archive, members[name], manifest, path) for name in manifest.files}
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: `python -m pipeline bundle` makes it") from None
    except DAMAGE as error:
        raise PipelineError(f"{path} is not a whole zip archive ({error}): get the bundle again") from None


def unpack(path: Path, folder: Path) -> Manifest:
    """Unpack a bundle into a new or empty folder, all or nothing.

    Raises:
        PipelineError: if the folder has something in it, or `read_bundle` refuses the bundle.

    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PipelineError(f"{folder} is not empty: name a new folder to unpack {path.name} into")
    manifest, contents = read_bundle(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in contents.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
            if name.endswith(".sh"):
                (partial / name).chmod(0o755)
        (partial / NAME).write_text(manifest.model_dump_json(indent=2) + "\n")
        partial.chmod(0o755)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def check_folder(folder: Path) -> Manifest:
    """Check an unpacked bundle; files beside those of the manifest, such as engines and records, may be there.

    Raises:
        PipelineError: naming the file that is missing, a link or damaged.

    """
    if not (folder / NAME).is_file():
        raise PipelineError(f"{folder} is not an unpacked bundle (no {NAME}): use `python -m pipeline unpack`")
    manifest = parse_manifest((folder / NAME).read_bytes(), folder)
    for name, facts in manifest.files.items():
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise PipelineError(f"{folder}: {name} is missing or a link; unpack the bundle again")
        require_shipped(name, (folder / name).read_bytes(), facts, folder)
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
        members[info.filename] = info
    return members


def _manifest(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path) -> bytes:
    if NAME not in members or members[NAME].file_size > MAX_MANIFEST_BYTES:
        raise PipelineError(f"{path} is not a whole bundle: it has no {NAME}; get the bundle again")
    try:
        return archive.read(members[NAME])
    except DAMAGE as error:
        raise PipelineError(f"{path}: {NAME} is damaged ({error}); get the bundle again") from None


def _require_same_names(found: set[str], listed: set[str], path: Path) -> None:
    for names, problem in ((found - listed, f"is not listed in {NAME}"), (listed - found, "is missing")):
        if names:
            raise PipelineError(f"{path}: {min(names)} {problem}; get the bundle again")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, manifest: Manifest, path: Path) -> bytes:
    facts = manifest.files[info.filename]
    if info.file_size != facts.bytes:  # before it is unpacked into memory
        raise PipelineError(
            f"{path}: {info.filename} is damaged: {info.file_size} bytes, {NAME} says {facts.bytes}; "
            "get the bundle again"
        )
    try:
        content = archive.read(info)
    except DAMAGE as error:
        raise PipelineError(f"{path}: {info.filename} is damaged ({error}); get the bundle again") from None
    require_shipped(info.filename, content, facts, path)
    return content
