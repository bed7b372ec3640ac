"""The fingerprint of a user's data: what `prepare` re-runs for, and what not."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from pipeline.data import fingerprint as module
from pipeline.data.fingerprint import CACHE, fingerprint, require_unchanged
from pipeline.errors import PipelineError
from pipeline.records import write_record


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make data beside the repository, and go there."""
    for name in ("images/a.png", "images/b.png", "labels/a.txt"):
        (tmp_path / "mydata" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mydata" / name).write_text(name)
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "mydata"


def test_fingerprint__changes_with_content_names_and_files_and_comes_back(data: Path) -> None:
    before, label = fingerprint("../mydata"), data / "labels/a.txt"
    assert before.files == 3
    seen = {before.digest}
    for change in (
        lambda: label.write_text("other words"),
        lambda: label.rename(label.with_name("b.txt")),
        lambda: (data / "more.txt").write_text(""),
        (data / "images/b.png").unlink,
    ):
        change()
        seen.add(fingerprint("../mydata").digest)
    assert len(seen) == 5
    shutil.rmtree(data)
    for name in ("images/a.png", "images/b.png", "labels/a.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    assert fingerprint("../mydata") == before


def test_fingerprint__does_not_depend_on_where_the_data_lie_nor_how_the_path_is_written(data: Path) -> None:
    before = fingerprint("../mydata")
    assert fingerprint(str(data)) == before
    shutil.copytree(data, data.parent / "elsewhere/data")
    assert fingerprint("../elsewhere/data") == before
    Path("linked").symlink_to(data)
    assert fingerprint("linked") == before


def test_fingerprint__sees_a_change_that_keeps_size_and_modification_time(data: Path) -> None:
    before, label = fingerprint("../mydata"), data / "labels/a.txt"
    times = label.stat()
    label.write_text(label.read_text().upper())
    os.utime(label, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint("../mydata") != before


def test_fingerprint__reads_a_file_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint("../mydata")
    read: list[str] = []
    real = module.file_digest
    monkeypatch.setattr(module, "file_digest", lambda path: read.append(path.name) or real(path))
    assert fingerprint("../mydata") == before
    (data / "images/b.png").write_text("other")
    assert fingerprint("../mydata") != before
    assert read == ["b.png"]
    copy = Path(".dvc/tmp/exps/tmp1")
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    fingerprint("../mydata")
    assert read == ["b.png"], "experiments share what is known"


@pytest.mark.parametrize("damage", ["", "[1, 2", "[]", '{"a": 1}', '{"a": [[1], 2, 3]}'])
def test_fingerprint__a_damaged_cache_is_an_empty_one(data: Path, damage: str) -> None:
    before = fingerprint("../mydata")
    CACHE.write_text(damage)
    assert fingerprint("../mydata") == before


def test_fingerprint__follows_links_and_not_in_circles(data: Path) -> None:
    before = fingerprint("../mydata")
    (data / "images/loop").symlink_to(data)
    (data / "broken").symlink_to(data / "nowhere")
    assert fingerprint("../mydata") == before
    other = data.parent / "other"
    other.mkdir()
    (other / "c.png").write_text("c")
    (data / "more").symlink_to(other)
    assert fingerprint("../mydata").files == 4


def test_fingerprint__of_one_file(data: Path) -> None:
    assert fingerprint("../mydata/labels/a.txt").files == 1


def test_fingerprint__names_a_missing_path_as_the_user_wrote_it(data: Path) -> None:
    with pytest.raises(PipelineError, match=r"prepare\.path: \.\./mydate does not exist"):
        fingerprint("../mydate")


def test_require_unchanged__refuses_data_that_changed_since_the_record(data: Path) -> None:
    write_record(Path("source.json"), fingerprint("../mydata"))
    require_unchanged("../mydata", Path("source.json"))
    (data / "labels/a.txt").write_text("other words")
    with pytest.raises(PipelineError, match=r"\.\./mydata changed while it was prepared"):
        require_unchanged("../mydata", Path("source.json"))


def test_fingerprint__a_folder_that_cannot_be_read_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.scandir

    def scandir(path: str | os.PathLike[str]) -> object:  # root may read all: permissions would not stop it
        if Path(path).name == "labels":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PipelineError, match=r"labels: cannot be read \(Permission denied\)"):
        fingerprint("../mydata")
