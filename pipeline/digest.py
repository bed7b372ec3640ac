"""Content digests: short, stable names for files, folders and values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

IGNORED = {"__pycache__", ".DS_Store"}


def text_digest(text: str) -> str:
    """Digest a text, 16 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def value_digest(value: Any) -> str:
    """Digest anything that JSON can hold, independent of key order."""
    return text_digest(json.dumps(value, sort_keys=True))


def file_digest(path: Path) -> str:
    """Digest one file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def tree_digest(paths: Iterable[Path]) -> str:
    """Digest files and folders by their relative names and contents."""
    files = {str(file): file_digest(file) for path in paths for file in _files(path)}
    return value_digest(files)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not IGNORED & set(file.parts))
