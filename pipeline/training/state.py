"""Training state outside the outs: what lets a killed stage go on from its last epoch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all, also through a power cut."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a state back onto the CPU, or None where there is none.

    Only tensors and plain values are read (`weights_only`), so nothing in the file runs.
    """
    if not path.exists():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)
