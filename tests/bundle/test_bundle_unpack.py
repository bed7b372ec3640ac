"""Nothing of a bundle is written before all of it was checked."""

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.bundle.manifest import facts_of
from pipeline.bundle.unpack import check_folder, unpack
from pipeline.errors import PipelineError
from tests.bundle.conftest import Shipped

Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def contents(shipped: Shipped) -> Contents:
    with zipfile.ZipFile(shipped.file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, contents: Contents, *more: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*contents.items(), *more]:
            archive.writestr(name, content)
    return path


def listed(contents: Contents, **more: bytes) -> Contents:
    """Add files to a bundle and to its manifest."""
    manifest = json.loads(contents["manifest.json"])
    manifest["files"] |= {name: facts_of(content).model_dump() for name, content in more.items()}
    return {**contents, **more, "manifest.json": json.dumps(manifest).encode()}


def refused(bundle: Path, tmp_path: Path, message: str) -> None:
    target = tmp_path / "place" / "device"
    with pytest.raises(PipelineError, match=message):
        unpack(bundle, target)
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.iterdir())
    assert not (tmp_path / "evil").exists()


def test_unpack__gives_back_every_file(shipped: Shipped, contents: Contents, tmp_path: Path) -> None:
    target = tmp_path / "device"
    target.mkdir()
    manifest = unpack(shipped.file, target)
    files = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert files == contents
    assert (target / "build_engine.sh").stat().st_mode & stat.S_IXUSR
    assert [path.name for path in tmp_path.iterdir()] == ["device"]
    assert check_folder(target) == manifest


def test_unpack__a_flipped_byte_in_any_member_is_refused(contents: Contents, tmp_path: Path) -> None:
    for name in contents:
        if name == "manifest.json":
            continue
        flipped = bytearray(contents[name])
        flipped[len(flipped) // 2] ^= 1
        refused(write_zip(tmp_path / "a.zip", {**contents, name: bytes(flipped)}), tmp_path, f"{name} is damaged")


def test_unpack__a_flipped_byte_in_the_archives_data_is_refused(shipped: Shipped, tmp_path: Path) -> None:
    whole = shipped.file.read_bytes()
    with zipfile.ZipFile(shipped.file) as archive:
        members = archive.infolist()
    for info in members:
        start = info.header_offset + 30 + len(info.filename)  # of the compressed data
        broken = bytearray(whole)
        broken[start + info.compress_size // 2] ^= 0x10
        (tmp_path / "a.zip").write_bytes(broken)
        refused(tmp_path / "a.zip", tmp_path, f"{info.filename} is damaged")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_unpack__a_cut_archive_is_refused(shipped: Shipped, tmp_path: Path, share: float) -> None:
    whole = shipped.file.read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: int(len(whole) * share)])
    refused(tmp_path / "a.zip", tmp_path, "is not a whole")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "a\\..\\evil", "C:evil", "./evil", "a//b"])
def test_unpack__a_path_that_leads_out_is_refused(contents: Contents, tmp_path: Path, name: str) -> None:
    bundle = write_zip(tmp_path / "a.zip", listed(contents, **{name: b"x"}))
    refused(bundle, tmp_path, r"leads out of the bundle or is not plain")


def test_unpack__a_path_that_leads_out_of_the_manifest_alone_is_refused(contents: Contents, tmp_path: Path) -> None:
    changed = listed(contents, **{"../evil": b"x"})
    del changed["../evil"]
    refused(write_zip(tmp_path / "a.zip", changed), tmp_path, "leads out of the bundle")


def test_unpack__a_link_is_refused(contents: Contents, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    link.create_system = 3
    changed = listed(contents, link=b"/etc/passwd")
    del changed["link"]
    refused(write_zip(tmp_path / "a.zip", changed, (link, b"/etc/passwd")), tmp_path, "link is a link")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unpack__a_name_that_stands_twice_is_refused(contents: Contents, tmp_path: Path) -> None:
    bundle = write_zip(tmp_path / "a.zip", contents, ("labels.txt", contents["labels.txt"]))
    refused(bundle, tmp_path, r"labels\.txt stands in it twice")


def test_unpack__a_file_outside_the_manifest_is_refused(contents: Contents, tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {**contents, "more.sh": b"x"}), tmp_path, r"more\.sh is not listed")


def test_unpack__a_missing_file_is_refused(contents: Contents, tmp_path: Path) -> None:
    fewer = {name: content for name, content in contents.items() if name != "labels.txt"}
    refused(write_zip(tmp_path / "a.zip", fewer), tmp_path, r"labels\.txt is missing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: {**manifest, "format": 2}, "not a manifest of bundle format 1"),
        (lambda manifest: [], "not a manifest of bundle format 1"),
    ],
)
def test_unpack__another_format_is_refused(
    contents: Contents, tmp_path: Path, change: Callable[[object], object], message: str
) -> None:
    manifest = json.dumps(change(json.loads(contents["manifest.json"]))).encode()
    refused(write_zip(tmp_path / "a.zip", {**contents, "manifest.json": manifest}), tmp_path, message)


def test_unpack__another_zip_and_no_file_are_refused(tmp_path: Path) -> None:
    refused(write_zip(tmp_path / "a.zip", {"a.txt": b"x"}), tmp_path, r"it has no manifest\.json")
    refused(tmp_path / "none.zip", tmp_path, "not found")


def test_unpack__a_folder_with_something_in_it_stays_as_it_is(shipped: Shipped, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PipelineError, match="is not empty"):
        unpack(shipped.file, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_check_folder__names_the_damaged_file_and_allows_engines(unpacked: Path) -> None:
    (unpacked / "engines").mkdir()
    (unpacked / "engines/fp32.plan").write_bytes(b"plan")
    check_folder(unpacked)
    (unpacked / "labels.txt").write_text("dog\n")
    with pytest.raises(PipelineError, match=r"labels\.txt is damaged"):
        check_folder(unpacked)
    (unpacked / "labels.txt").unlink()
    with pytest.raises(PipelineError, match=r"labels\.txt is missing"):
        check_folder(unpacked)
