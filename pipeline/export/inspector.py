"""What TensorRT really built, out of its engine inspector's JSON: the datatype that each layer computes in."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

# The narrowest datatype among a layer's inputs and weights is what it computes in. Names as TensorRT 10 and 11 write
# them: `Half`, `Row major linear FP16 format`, `Thirty-two wide channel vectorized row major Int8 format`, ...
DATATYPES: Final = {
    "int8": ("int8",),
    "fp8": ("fp8",),
    "bf16": ("bf16", "bfloat16"),
    "fp16": ("fp16", "half"),
    "fp32": ("fp32", "float"),
}
MOVES: Final = {"reformat", "noop", "constant", "shuffle", "signal", "wait"}  # layers that compute nothing


def layer_shares(information: str) -> dict[str, float]:
    """Return the share of an engine's computing layers per datatype, 0 to 1, narrowest first.

    Args:
        information: `EngineInspector.get_engine_information` as JSON, of an engine built with detailed verbosity.
            TensorRT 10 has `Format/Datatype` per tensor, 11 has `Datatype` and `Format`.

    Returns:
        Shares that sum to 1; `other` are layers on integers and booleans. Empty if no layer states a datatype.

    """
    layers = [layer for layer in json.loads(information).get("Layers", []) if isinstance(layer, dict)]
    typed = [layer for layer in layers if layer.get("Inputs") and layer.get("LayerType", "").lower() not in MOVES]
    found = Counter(_datatype(layer) for layer in typed)
    if set(found) <= {"other"}:
        return {}
    return {name: found[name] / len(typed) for name in (*DATATYPES, "other") if found[name]}


def layer_places(information: str) -> dict[str, int]:
    """Count the computing layers that an engine's inspector puts on `dla` and on `gpu`.

    A DLA's layer is a whole part of the network, so the counts are no shares of the work.
    """
    layers = [layer for layer in json.loads(information).get("Layers", []) if isinstance(layer, dict)]
    kinds = [str(layer.get("LayerType", "")).lower() for layer in layers]
    found = Counter("dla" if "dla" in kind else "gpu" for kind in kinds if kind not in MOVES)
    return {place: found[place] for place in ("dla", "gpu")}


def _datatype(layer: dict[str, Any]) -> str:
    said = [tensor.get("Format/Datatype") or tensor.get("Datatype") or "" for tensor in layer["Inputs"]]
    weights = layer.get("Weights")
    said.append(weights.get("Type", "") if isinstance(weights, dict) else "")
    names = {_name(text.lower()) for text in said}
    return next((name for name in DATATYPES if name in names), "other")


def _name(text: str) -> str:
    if "uint8" in text:
        return "other"
    return next((name for name, marks in DATATYPES.items() if any(mark in text for mark in marks)), "other")
