"""Bundles from elsewhere: no size that they state is believed, and nothing is written where they say."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.bundle import unpack as unpack_module
from pipeline.bundle.manifest import MAX_BYTES, FileFacts, copy_shipped
from pipeline.bundle.unpack import FREE_BYTES, check_folder, unpack
from pipeline.errors import PipelineError
from pipeline.predict import Predictor

MIB = 1024**2
REFERENCE = "models/fp32.onnx"


def facts(content: bytes, **changes: Any) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **changes}


def manifest(added: dict[str, dict[str, Any]], **changes: Any) -> bytes:
    values = {
        "format": 1, "task": "detect", "student": "toy", "image_size_px": 64, "checkpoint_digest": "0" * 16,
        "commit": "abc", "licence": "AGPL-3.0", "files": {REFERENCE: facts(b"model"), **added}, **changes,
    }  # fmt: skip
    return json.dumps(values).encode()


def write(path: Path, about: bytes, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in {"manifest.json": about, REFERENCE: b"model", **members}.items():
            archive.writestr(name, content)
    return path


def refused(bundle: Path, message: str) -> None:
    target = bundle.parent / "place" / "device"
    with pytest.raises(PipelineError, match=message):
        unpack(bundle, target)
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.iterdir()), "nothing is left"


def peak_mib(bundle: Path, message: str) -> float:
    """Unpack in vain, and measure the memory that it took."""
    tracemalloc.start()
    try:
        refused(bundle, message)
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def test_unpack__the_smallest_bundle_is_taken(tmp_path: Path) -> None:
    found = unpack(write(tmp_path / "a.zip", manifest({}), {}), tmp_path / "device")
    assert check_folder(tmp_path / "device") == found


def test_unpack__a_bundle_that_grows_beyond_reason_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zeros = bytes(FREE_BYTES + MIB)
    bundle = write(tmp_path / "a.zip", manifest({"zeros": facts(zeros)}), {"zeros": zeros})
    assert bundle.stat().st_size < MIB
    assert peak_mib(bundle, r"bytes unpack to \d+; a bundle shrinks to no less than 1/20") < 8


def test_unpack__more_than_a_bundle_may_hold_is_refused(tmp_path: Path) -> None:
    half = facts(b"", bytes=MAX_BYTES // 2 + 1)
    refused(write(tmp_path / "a.zip", manifest({"a": half, "b": half}), {"a": b"", "b": b""}), "has at most")
    refused(write(tmp_path / "b.zip", manifest({"a": facts(b"", bytes=MAX_BYTES + 1)}), {"a": b""}), "not a manifest")
    refused(write(tmp_path / "c.zip", manifest({"a": facts(b"", bytes=-1)}), {"a": b""}), "not a manifest")


def restated(bundle: Path, name: str, size: int) -> Path:
    """Let the archive's table state another size of a member than its stream has."""
    content = bundle.read_bytes()
    at = content.rindex(name.encode()) - 46  # of its entry in the central directory
    assert content[at : at + 4] == b"PK\x01\x02"
    bundle.write_bytes(content[: at + 24] + struct.pack("<I", size) + content[at + 28 :])
    return bundle


@pytest.mark.parametrize("name", ["zeros", "manifest.json"])
def test_unpack__a_stream_longer_than_stated_is_read_no_further(tmp_path: Path, name: str) -> None:
    zeros = bytes(48 * MIB)
    about = manifest({"zeros": facts(zeros[:100])}) if name == "zeros" else manifest({}) + b" " * len(zeros)
    members = {"zeros": zeros} if name == "zeros" else {}
    bundle = restated(write(tmp_path / "a.zip", about, members), name, 100)
    assert peak_mib(bundle, f"{name} is damaged|is not a manifest|{name}") < 16


def test_unpack__a_member_longer_than_the_manifest_lists_is_read_no_further(tmp_path: Path) -> None:
    zeros = bytes(48 * MIB)
    bundle = write(tmp_path / "a.zip", manifest({"zeros": facts(zeros[:100])}), {"zeros": zeros})
    assert peak_mib(bundle, r"zeros is damaged: it has more than 100 bytes, manifest\.json lists 100") < 16


def test_copy_shipped__reads_and_writes_no_more_than_the_manifest_lists() -> None:
    chunks, out = iter([b"x" * 60, b"x" * 60, b"x" * 60]), io.BytesIO()
    expected = FileFacts(sha256=hashlib.sha256(b"x" * 100).hexdigest(), bytes=100)
    with pytest.raises(PipelineError, match="more than 100 bytes"):
        copy_shipped("zeros", chunks, expected, Path("a.zip"), out)
    assert len(out.getvalue()) == 60
    assert len(list(chunks)) == 1


def test_unpack__a_whole_large_member_takes_little_memory(tmp_path: Path) -> None:
    zeros = bytes(48 * MIB)
    bundle = write(tmp_path / "a.zip", manifest({"zeros": facts(zeros)}), {"zeros": zeros})
    tracemalloc.start()
    try:
        unpack(bundle, tmp_path / "device")
        check_folder(tmp_path / "device")
        assert tracemalloc.get_traced_memory()[1] / MIB < 16
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unpack__a_packing_that_cannot_be_read_piece_by_piece_is_refused(tmp_path: Path, method: int) -> None:
    refused(write(tmp_path / "a.zip", manifest({}), {}, method), "is not packed as `pipeline bundle` does")


def test_unpack__too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack_module, "MAX_MEMBERS", 3)
    members = {str(index): b"" for index in range(3)}
    refused(write(tmp_path / "a.zip", manifest({n: facts(b"") for n in members}), members), "5 files of .* at most 3")


@pytest.mark.parametrize(
    "changes",
    [
        {"student": "$(touch pwn)"}, {"student": "../evil"}, {"student": "n" * 300}, {"image_size_px": "64"},
        {"image_size_px": -3}, {"image_size_px": 10**9}, {"checkpoint_digest": "'; touch pwn"}, {"commit": "a\nb"},
        {"licence": "\x1b[31m"}, {"task": "classify"}, {"files": {REFERENCE: {"sha256": "x", "bytes": 5}}}, {"more": 1},
    ],
)  # fmt: skip
def test_unpack__a_manifest_with_a_wrong_value_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(write(tmp_path / "a.zip", manifest({}, **changes), {}), "not a manifest of bundle format 1")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b'{"format": NaN}'])
def test_unpack__a_manifest_that_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(write(tmp_path / "a.zip", content, {}), "not a manifest of bundle format 1")


def test_unpack__a_bundle_without_an_fp32_model_is_refused(tmp_path: Path) -> None:
    about = manifest({}, files={"models/int8.onnx": facts(b"model")})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("manifest.json", about)
        archive.writestr("models/int8.onnx", b"model")
    refused(tmp_path / "a.zip", r"lists no models/fp32\.onnx, which every bundle has")
    with pytest.raises(PipelineError, match=r"lists no models/fp32\.onnx"):
        Predictor(tmp_path / "a.zip")
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked/manifest.json").write_bytes(about)
    with pytest.raises(PipelineError, match=r"lists no models/fp32\.onnx"):
        Predictor(tmp_path / "unpacked")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a/b"], "'a' is a file, and 'a/b' needs a folder there"),
        (["A", "a/b"], "'a' is a file, and 'a/b' needs a folder there"),
        (["labels.txt", "Labels.txt"], "differ in case alone"),
        (["Manifest.json"], "differ in case alone"),
        (["n" * 300], "is not plain"),
        (["/".join(["n"] * 2000)], "is not plain"),
        (["a\nb"], "is not plain"),
        (["\x1b[31m"], "is not plain"),
    ],
)
def test_unpack__names_that_cannot_be_files_everywhere_are_refused(
    tmp_path: Path, names: list[str], message: str
) -> None:
    about = manifest({name: facts(b"x") for name in names})
    refused(write(tmp_path / "a.zip", about, dict.fromkeys(names, b"x")), message)


def test_unpack__the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write(tmp_path / "a.zip", manifest({}), {})
    (tmp_path / "empty/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty/below")
    for folder in (".", "..", "../below"):
        with pytest.raises(PipelineError, match="is the current folder or holds it"):
            unpack(bundle, Path(folder))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "below", "empty"]


def test_unpack__a_file_or_a_folder_in_the_wrong_place_is_one_message(tmp_path: Path) -> None:
    bundle = write(tmp_path / "a.zip", manifest({}), {})
    (tmp_path / "file").write_text("mine")
    for target, message in (
        (tmp_path / "file", "is a file: expected the name of a folder"),
        (tmp_path / "file/device", "file/device: cannot write this folder"),
        (tmp_path / ("n" * 300), "cannot write this folder: File name too long"),
    ):
        with pytest.raises(PipelineError, match=message):
            unpack(bundle, target)
    with pytest.raises(PipelineError, match="is a folder: expected a bundle"):
        unpack(tmp_path, tmp_path / "device")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "file"]


def test_unpack__members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Each of many entries states the one large stream as its own."""
    buffer = io.BytesIO()
    stream = bytes(8 * MIB)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest({f"f{index}": facts(stream) for index in range(20)}))
        archive.writestr(REFERENCE, b"model")
        archive.writestr("f0", stream)
        first = archive.getinfo("f0")
        for index in range(1, 20):
            again = zipfile.ZipInfo(f"f{index}")
            again.compress_type, again.CRC = first.compress_type, first.CRC
            again.compress_size, again.file_size = first.compress_size, first.file_size
            again.header_offset = first.header_offset
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    refused(tmp_path / "a.zip", "unpack to|damaged")
