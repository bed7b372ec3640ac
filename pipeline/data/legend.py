"""What the values of a source's masks mean: the classes file, and what of it is ignored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.names import check_class_name, text_lines
from pipeline.data.prepared import IGNORE
from pipeline.errors import PipelineError

UNKNOWN = 254  # in place of a prepared id: the value belongs to no class
MAX_ID = 2**16 - 1
MAX_DIGITS = 6  # of a number: enough for all that are allowed, and for those that are reported
MAX_LISTED_ID = 255  # a higher number at the end of a name is part of it, as in `boeing 737`
HEADERS = frozenset(["id", "name", "names", "class", "classes", "class name", "class_name", "label_name", "category"])
LISTED = re.compile(r"\d\s*[,;:=|]|[,;:=|]\s*\d|^\d+[.)]\s")  # in place of `id name`: `0,bg`, `bg: 0`, `1. bg`
LEADING = re.compile(r"^[\d\s]*[,;:=|]|^[-.)]\s")  # what is left of a separator behind an id: `: bg`, `- bg`
NUMBERED = (
    re.compile(r"\W*(?P<id>\d{1,6})[\W_]+(?P<rest>.+)"),
    re.compile(r"(?P<rest>.+?)[\W_]+(?P<id>\d{1,6})\W*"),
)
NAME = r"(?=.*[^\d\s])(\S.*)"  # something else than numbers, so that `255 0 0` is not class `0 0` with id 255
FORMS = {
    "R G B name": re.compile(rf"(\d+)\s+(\d+)\s+(\d+)\s+{NAME}"),
    "id name": re.compile(rf"(\d+)\s+{NAME}"),
    "name": re.compile(NAME),
}


@dataclass(frozen=True, eq=False)
class Legend:
    """What mask values mean.

    `names` are those of prepared ids 0..K-1. `colours` says whether masks hold colours, whose value is 0xRRGGBB, or
    ids. `table` gives for each value its prepared id, IGNORE or UNKNOWN.
    """

    names: tuple[str, ...]
    colours: bool
    table: npt.NDArray[np.uint8]

    def ids(self, values: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Turn values (H, W), not negative and inside the table, into prepared ids, IGNORE and UNKNOWN (H, W)."""
        return self.table[values]

    def ignored_ids(self) -> list[int]:
        """List the ids that mean "no label"; empty where masks hold colours."""
        return [] if self.colours else np.flatnonzero(self.table == IGNORE).tolist()

    def text(self, value: int) -> str:
        """Name a value as a user would look for it."""
        if not self.colours:
            return f"id {value}"
        return f"colour #{value:06x} ({value >> 16} {value >> 8 & 255} {value & 255})"


@dataclass(frozen=True)
class Row:
    """One line of the classes file; `value` is an id or 0xRRGGBB."""

    line: int
    name: str
    value: int


def read_legend(file: Path, ignore: Sequence[int | str]) -> Legend:
    """Read a classes file: a class a line, all as `name` (ids count from 0), `id name` or `R G B name`.

    Blank lines, and what follows a `#` at the start of a line or after a blank, are skipped. Prepared ids are 0..K-1
    in the file's order, without the ignored classes. Names that seem to hold an id, and headers of tables, are refused:
    the ids counted from 0 would be others than those meant.

    Args:
        file: the classes file.
        ignore: class names, and ids of this file or of none, that mean "no label".

    Raises:
        PipelineError: with file and line, if a line is malformed or repeats a name, id or colour; if no class or too
            many are left; if `ignore` holds something unknown.

    """
    rows, colours = _rows(file)
    _refuse_repeated(file, rows, colours)
    ignored = {_ignored(file, rows, colours, entry) for entry in ignore}
    kept = [row for row in rows if row.value not in ignored]
    if not 2 <= len(kept) <= UNKNOWN:
        hint = "; one class alone cannot be told from anything: list the background as a class too"
        raise PipelineError(
            f"{file}: {len(kept)} classes that are not ignored: expected 2 to {UNKNOWN}{hint if len(kept) == 1 else ''}"
        )
    table = np.full(2**24 if colours else MAX_ID + 1, UNKNOWN, np.uint8)
    table[list(ignored)] = IGNORE
    table[[row.value for row in kept]] = np.arange(len(kept))
    return Legend(tuple(row.name for row in kept), colours, table)


def _rows(file: Path) -> tuple[list[Row], bool]:
    """Read the lines, and whether they have colours."""
    try:
        lines = text_lines(file)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        message = f"{file} cannot be read: prepare.masks.classes should name a text file under prepare.path"
        reason = error.strerror if isinstance(error, OSError) else error
        raise PipelineError(f"{message}, a class a line: {reason}") from None
    rows: list[Row] = []
    form = ""
    for line, whole in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", whole).strip()
        if text:
            found = next((name for name, pattern in FORMS.items() if pattern.fullmatch(text)), None)
            form = form or found or ""
            if found is None or found != form:
                expected = f"`{form}` as in the lines before" if form else " or ".join(f"`{name}`" for name in FORMS)
                raise PipelineError(f"{file}:{line}: expected {expected}, got {text!r}")
            rows.append(_row(file, line, form, text, len(rows)))
    if form == "name":
        _refuse_ids_in_names(file, rows)
    return rows, form == "R G B name"


def _row(file: Path, line: int, form: str, text: str, number: int) -> Row:
    """Read a line of a known form; `number` is the id where the line has none."""
    match = FORMS[form].fullmatch(text)
    assert match is not None
    *digits, name = match.groups()
    check_class_name(name, f"{file}:{line}")
    if (LISTED if form == "name" else LEADING).search(name):
        expected = " or ".join(f"`{one}`" for one in FORMS)
        raise PipelineError(f"{file}:{line}: expected {expected} with blanks between, got {text!r}")
    highest = 255 if len(digits) == 3 else MAX_ID
    numbers = [int(part) if len(part) <= MAX_DIGITS else highest + 1 for part in digits]
    if any(one > highest for one in numbers):
        raise PipelineError(f"{file}:{line}: expected numbers from 0 to {highest}, got {text!r}")
    value = number
    for place, one in enumerate(numbers):
        value = one if place == 0 else value << 8 | one
    return Row(line, name, value)


def _refuse_ids_in_names(file: Path, rows: Sequence[Row]) -> None:
    """Check that a list of names is one: ids in it, in another order than 0, 1, 2, would change what masks mean.

    Raises:
        PipelineError: if the first line is a table's header, or every line has a number and a name of its own.

    """
    if rows and rows[0].name.lower() in HEADERS:
        where = f"{file}:{rows[0].line}"
        raise PipelineError(
            f"{where}: {rows[0].name!r} looks like a header: remove it, or write the lines as `id name`"
        )
    for pattern in NUMBERED:
        found = [match for row in rows if (match := pattern.fullmatch(row.name))]
        ids, names = ({match[group] for match in found} for group in ("id", "rest"))
        if len(ids) == len(names) == len(rows) > 1 and all(int(one) <= MAX_LISTED_ID for one in ids):
            example = f"{found[0]['id']} {found[0]['rest']}"
            raise PipelineError(
                f"{file}:{rows[0].line}: {rows[0].name!r}, and every other line, seems to hold an id: "
                f"write the lines as `id name`, as in `{example}`"
            )


def _refuse_repeated(file: Path, rows: Sequence[Row], colours: bool) -> None:
    """Check that names and values are unique.

    Raises:
        PipelineError: naming both lines.

    """
    names: dict[str, int] = {}
    values: dict[int, int] = {}
    for row in rows:
        if names.setdefault(row.name, row.line) != row.line:
            message = f"class {row.name!r} stands in line {names[row.name]} already"
            raise PipelineError(f"{file}:{row.line}: {message}: give each its own name")
        if values.setdefault(row.value, row.line) != row.line:
            what = "colour" if colours else "id"
            message = f"this {what} stands in line {values[row.value]} already"
            raise PipelineError(f"{file}:{row.line}: {message}: give each class its own")


def _ignored(file: Path, rows: Sequence[Row], colours: bool, entry: int | str) -> int:
    """Find the value that an entry of `prepare.masks.ignore` means."""
    names = {row.name: row.value for row in rows}
    if isinstance(entry, str) and entry in names:
        return names[entry]
    if isinstance(entry, int) and not colours and 0 <= entry <= MAX_ID:
        return entry
    expected = f"names of {file} ({', '.join(names)})" + ("" if colours else f" or ids from 0 to {MAX_ID}")
    raise PipelineError(f"prepare.masks.ignore: expected {expected}, got {entry!r}")
