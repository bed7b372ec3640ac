"""Turn the device param into what Ultralytics and the backends call it."""

from __future__ import annotations

import torch

from pipeline.errors import PipelineError


def choose_device(device: str | int) -> str:
    """Turn `auto` into the first GPU, or the CPU where there is none.

    Raises:
        PipelineError: if GPUs are asked for that are not there.

    """
    count = torch.cuda.device_count()
    if device == "auto":
        return "0" if count else "cpu"
    asked = [] if device == "cpu" else [int(number) for number in str(device).split(",")]
    if any(number >= count for number in asked):
        raise PipelineError(
            f"params.yaml: machine.device is {device}, but this machine has {count} usable GPUs: set auto or cpu"
        )
    return str(device)


def backend_device(device: str | int) -> str:
    """Turn the device param into a backend's device: the first GPU of the list, or the CPU."""
    chosen = choose_device(device)
    return "cpu" if chosen == "cpu" else f"cuda:{chosen.split(',')[0]}"
