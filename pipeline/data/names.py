"""Lists of a name a line: how they are read, and which names they can hold."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import read_text

UNUSABLE = frozenset(["Cc", "Cs", "Zl", "Zp"])  # Unicode categories: control, undecodable byte, line and paragraph end


def text_lines(path: Path) -> list[str]:
    """Read the lines of a text file; nothing but line feeds and carriage returns ends one.

    Raises:
        PipelineError: if it cannot be decoded.
        OSError: if it cannot be read.

    """
    return re.split(r"\r\n|\r|\n", read_text(path))


def is_usable(name: str) -> bool:
    """Say whether a name can stand in a list of a name a line, in UTF-8."""
    return not any(unicodedata.category(character) in UNUSABLE for character in name)


def check_class_name(name: str, where: str) -> None:
    """Refuse a class name that would break a list of a name a line.

    Raises:
        PipelineError: if it is blank, or has a line break or another control character.

    """
    if not name.strip() or not is_usable(name):
        raise PipelineError(f"{where}: expected a name without line breaks and control characters, got {name!a}")
