"""Atomic writes, text that names its file, and text that is safe to print."""

import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import read_text, replacing, replacing_folder, user_path, write_text
from pipeline.text import printable


def _fail_half_way(file: Path) -> None:
    with replacing(file) as partial:
        partial.write_text("half")
        raise RuntimeError


def test_replacing__leaves_the_old_file_and_no_other_when_the_writer_fails(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("old")
    with pytest.raises(RuntimeError):
        _fail_half_way(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_write_text__does_not_follow_a_link_that_lies_beside_the_file(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "out.partial").symlink_to(target)
    (tmp_path / "out.json").symlink_to(target)
    write_text(tmp_path / "out.json", "new")
    assert target.read_text() == "mine"
    assert (tmp_path / "out.json").read_text() == "new"
    assert not (tmp_path / "out.json").is_symlink()


def test_write_text__takes_the_permissions_of_any_new_file_and_a_long_name(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        file = tmp_path / "folder" / ("n" * 250 + ".json")
        write_text(file, "text")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("content", ["é\n".encode(), "é\n".encode("utf-8-sig"), "é\n".encode("utf-16")])
def test_read_text__takes_utf8_and_byte_order_marks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert read_text(tmp_path / "a.txt") == "é\n"


def test_read_text__names_file_line_and_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"first\nsecond \xe9\n")
    with pytest.raises(PipelineError, match=r"a\.txt:2: expected utf-8 text, got byte 0xe9"):
        read_text(tmp_path / "a.txt")


def test_printable__escapes_what_steers_a_terminal() -> None:
    assert printable("a\x1b[31mb\u202ec\nd\u2028") == r"a\x1b[31mb\u202ec\nd\u2028"
    assert printable("a\nb", keep="\n") == "a\nb"
    assert printable("Straße 街道") == "Straße 街道"


def _folder_fail_half_way(folder: Path) -> None:
    with replacing_folder(folder) as fresh:
        (fresh / "half").write_text("half")
        raise RuntimeError


def test_replacing_folder__leaves_the_old_folder_and_no_other_when_the_writer_fails(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(RuntimeError):
        _folder_fail_half_way(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (folder / "old").read_text() == "old"


def test_replacing_folder__brings_the_old_folder_back_when_the_new_one_cannot_be_moved(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(PipelineError), replacing_folder(folder) as fresh:
        fresh.rmdir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (folder / "old").read_text() == "old"


def test_replacing_folder__has_the_permissions_of_any_new_folder(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "deep" / "out") as fresh:
        (fresh / "file").write_text("new")
    (tmp_path / "usual").mkdir()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "out", tmp_path / "usual")]
    assert modes[0] == modes[1]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


@pytest.mark.parametrize("place", ["standalone/tmp1", "tmp1"])
def test_user_path__in_a_copy_for_an_experiment_leads_where_it_leads_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    repository, copy = tmp_path / "repository", tmp_path / "repository/.dvc/tmp/exps" / place
    copy.mkdir(parents=True)
    for file in (tmp_path / "mine.pt", repository / "untracked.pt", repository / "tracked.pt", copy / "tracked.pt"):
        file.write_text(str(file))
    for folder in (repository, copy):
        monkeypatch.chdir(folder)
        assert user_path("../mine.pt").read_text() == str(tmp_path / "mine.pt")
        assert user_path("untracked.pt").read_text() == str(repository / "untracked.pt")
        assert user_path("tracked.pt").read_text() == str(folder / "tracked.pt")
        assert user_path(tmp_path / "mine.pt") == tmp_path / "mine.pt"
    monkeypatch.chdir(repository)
    assert str(user_path("../mine.pt")) == "../mine.pt", "messages quote what the user wrote"


def test_write_text__a_folder_or_a_file_in_the_wrong_place_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for path, message in (
        (tmp_path / "folder", "is a folder: expected the name of a file to write"),
        (tmp_path / "file/out.json", r"file/out\.json: cannot write this file"),
        (tmp_path / ("n" * 300), "cannot write this file: File name too long"),
    ):
        with pytest.raises(PipelineError, match=message):
            write_text(path, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def _fill(folder: Path, text: str, error: type[Exception] | None = None) -> None:
    with replacing_folder(folder) as fresh:
        (fresh / "a.txt").write_text(text)
        if error is not None:
            raise error


def test_replacing_folder__puts_the_new_one_in_place_and_leaves_the_old_one_on_an_error(tmp_path: Path) -> None:
    _fill(tmp_path / "out", "old")
    with pytest.raises(KeyError):
        _fill(tmp_path / "out", "new", KeyError)
    assert (tmp_path / "out/a.txt").read_text() == "old"
    _fill(tmp_path / "out", "new")
    assert (tmp_path / "out/a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_replacing_folder__follows_no_link_that_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in (".out.partial", ".out.old", "out.partial"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    _fill(tmp_path / "out", "new")
    _fill(tmp_path / "out", "newer")
    assert not list((tmp_path / "mine").iterdir())
    assert (tmp_path / "out/a.txt").read_text() == "newer"


def test_replacing_folder__a_file_in_its_place_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file/out"):
        with pytest.raises(PipelineError, match=r"is a file: expected|cannot write this folder"):
            _fill(path, "new")
    assert (tmp_path / "file").read_text() == "mine"


def test_write_text__replaces_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PipelineError, match="pipe is a device, a pipe or a socket"):
        write_text(tmp_path / "pipe", "text")
    with pytest.raises(PipelineError, match="pipe is a file"), replacing_folder(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_write_text__a_name_with_a_nul_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cannot write this file: embedded null byte"):
        write_text(tmp_path / "a\0b", "text")
    assert not list(tmp_path.iterdir())
