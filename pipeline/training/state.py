"""Training state outside the outs: what lets a killed stage go on from its last epoch."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pipeline.errors import PipelineError
from pipeline.files import replacing


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, also through a power cut."""
    with replacing(path) as partial:
        torch.save(state, partial)


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a state back onto the CPU, or None where there is none.

    Only tensors and plain values are read (`weights_only`), so nothing in the file runs.

    Raises:
        PipelineError: if the file holds anything else, or is damaged.

    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise PipelineError(f"{path} is no training state ({reason}): remove {path.parent} to start over") from None
