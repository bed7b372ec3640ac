"""Text from files reaches a terminal as text: no markup, no control characters."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.text import PlainConsole, is_one_line

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "[/x]",
    "[bold]a[/bold]",
    "[link=http://x]a[/link]",
    ":warning:",
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "a\rb",
    "\u202e",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_console__prints_a_hostile_name_as_it_is_wherever_it_stands(text: str) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=200)
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    visible = text.encode("unicode_escape").decode() if not text.isprintable() else text
    assert out.getvalue().count(visible) == 5
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(out.getvalue())


def test_plain_console__keeps_the_lines_of_a_message() -> None:
    out = io.StringIO()
    PlainConsole(file=out, width=80).print("first\n\tsecond")
    assert [line.strip() for line in out.getvalue().splitlines()] == ["first", "second"]


@pytest.mark.parametrize(
    "text", ["", " ", "a\nb", "a\r", "a\x85b", "a\u2028b", "a\u2029", "a\x0bb", "a\x0cb", "\x1b[0m", "a\x00", "\udc80"]
)
def test_is_one_line__refuses_every_kind_of_break_and_control(text: str) -> None:
    assert not is_one_line(text)
    assert is_one_line("Straße 街道 می‌خواهم 👩‍👩‍👧")


def test_consoles__all_are_plain() -> None:
    """Every console of the pipeline is made by `PlainConsole`."""
    made = {
        str(file.relative_to(ROOT))
        for folder in ("pipeline", "benchmarks")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"Console", "print_rich"}
    }
    assert made == set()


def test_show__a_hostile_name_in_the_metrics_is_printed_as_it_is(tmp_path: Path) -> None:
    values = {"params_m": 1.0, "size_mb": 1.0, "map50_95": 0.5, "map50": 0.6, "p50_ms": 1.0, "p99_ms": 2.0}
    entry = {"control": {"torch": values}, "distilled": {"torch": values}, "gain": {"map50_95": 0.01}}
    (tmp_path / "metrics.json").write_text(json.dumps({"detect": {"[/x]\x1b[31m": entry}}))
    done = CliRunner().invoke(app, ["show", str(tmp_path / "metrics.json")])
    assert done.exit_code == 0, done.exception
    assert "[/x]" in done.output
    assert "\x1b[31m" not in done.output


def test_cli__what_the_file_system_refuses_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for arguments in (
        ["show", str(tmp_path)],
        ["show", str(tmp_path / ("n" * 300))],
        ["show", str(tmp_path / "file/metrics.json")],
        ["import-records", str(tmp_path / ("n" * 300))],
        ["unpack", str(tmp_path / "file"), str(tmp_path / "out")],
        ["unpack", str(tmp_path / ("n" * 300)), str(tmp_path / "out")],
    ):
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, SystemExit), done.exception
        assert str(done.exception).startswith("\nERROR ")
        assert str(tmp_path) in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "content",
    [3, None, {"detect": 3}, {"detect": {"x": [1]}}, {"detect": {"x": {"control": None}}},
     {"detect": {"x": {"control": {"torch": {"p50_ms": "fast"}}}}}],
)  # fmt: skip
def test_show__what_no_report_stage_wrote_is_one_message(tmp_path: Path, content: object) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    done = CliRunner().invoke(app, ["show", str(tmp_path / "metrics.json")])
    assert isinstance(done.exception, SystemExit)
    assert "metrics.json: expected what the report stage writes" in str(done.exception.code)
