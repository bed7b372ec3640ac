"""Parse a JSON object of lists, keeping the line on which each element begins."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

BLANK = re.compile(r"[ \t\n\r]*")


def walk(text: str, lists: Collection[str] = ()) -> Iterator[tuple[str, int, Any]]:
    """Parse a JSON object and go through the elements of the lists in it; other values are passed over.

    Args:
        text: the whole file.
        lists: keys whose values should be lists or null.

    Yields:
        Key, line and element.

    Raises:
        JSONDecodeError: if the text is something else, or goes on behind the object.

    """
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    position, more = _open(text, 0, "{}")
    while more:
        key, position = decoder.raw_decode(text, _step(text, position, '"') - 1)
        position = _skip(text, _step(text, position, ":"))
        if text.startswith("[", position):
            position, inner = _open(text, position, "[]")
            while inner:
                line, counted = line + text.count("\n", counted, position), position
                value, position = decoder.raw_decode(text, position)
                yield key, line, value
                position, inner = _next(text, position, "]")
        else:
            start = position
            value, position = decoder.raw_decode(text, position)
            if key in lists and value is not None:
                raise json.JSONDecodeError(f"expected a list as {key!r}", text, start)
        position, more = _next(text, position, "}")
    if _skip(text, position) != len(text):
        raise json.JSONDecodeError("the file goes on behind the end of its object", text, _skip(text, position))


def _open(text: str, position: int, brackets: str) -> tuple[int, bool]:
    """Step into a list or object; say whether it holds anything."""
    position = _skip(text, _step(text, position, brackets[0]))
    return (position + 1, False) if text.startswith(brackets[1], position) else (position, True)


def _next(text: str, position: int, end: str) -> tuple[int, bool]:
    """Step over a comma or the closing bracket; say whether more follows."""
    position = _skip(text, position)
    if text.startswith(end, position):
        return position + 1, False
    return _skip(text, _step(text, position, ",")), True


def _step(text: str, position: int, character: str) -> int:
    """Step over blanks and one expected character."""
    position = _skip(text, position)
    if not text.startswith(character, position):
        raise json.JSONDecodeError(f"expected {character!r}", text, position)
    return position + 1


def _skip(text: str, position: int) -> int:
    match = BLANK.match(text, position)
    return position if match is None else match.end()
