"""Text from files and devices, made safe for a terminal."""

from __future__ import annotations

import unicodedata
from typing import IO, Any, Final

from rich.console import Console
from rich.text import Text

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


def is_one_line(text: str) -> bool:
    """Say whether a text is no empty one and stays on one line: no line break of any kind, no control character."""
    broken = UNPRINTABLE - {"Cf"}  # joiners and direction marks are part of names in many languages
    return bool(text.strip()) and not any(unicodedata.category(character) in broken for character in text)


class PlainConsole(Console):
    """A console for text from files: `[...]` is no markup, and control characters are written as escapes."""

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(stderr=stderr, file=file, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """Turn a text into what is printed; titles, headings and cells of tables come here too."""
        return super().render_str(printable(text, keep=LAYOUT), **options)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
