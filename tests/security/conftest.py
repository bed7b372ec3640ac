"""Payloads that leave a mark where they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


class Mark:
    """A file that a payload would make."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "owned"
        self.expression = f"__import__('pathlib').Path({str(self.file)!r}).touch() or torch.nn.SiLU()"

    def __reduce__(self) -> tuple[Any, ...]:
        """Make the mark when unpickled."""
        return exec, (f"import pathlib; pathlib.Path({str(self.file)!r}).touch()",)

    @property
    def is_left(self) -> bool:
        """Whether the payload ran."""
        return self.file.exists()


@pytest.fixture
def mark(tmp_path: Path) -> Mark:
    (tmp_path / "mark").mkdir()
    return Mark(tmp_path / "mark")
