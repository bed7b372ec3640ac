"""Text from files and devices, made safe for a terminal."""

from __future__ import annotations

import unicodedata
from typing import Final

LAYOUT: Final = "\n\t"  # what a message of several lines keeps
UNPRINTABLE: Final = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])  # Unicode categories: control, format, surrogate, breaks


def printable(text: object, keep: str = "") -> str:
    r"""Write control characters as escapes such as `\x1b`, so that text from a file cannot steer the terminal.

    Args:
        text: Anything; converted by `str`.
        keep: Characters that stay as they are, such as a newline.

    """
    return "".join(
        character if character in keep or unicodedata.category(character) not in UNPRINTABLE else _escaped(character)
        for character in str(text)
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
