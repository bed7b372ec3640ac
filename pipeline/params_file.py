"""The only reader of params.yaml: every wrong key is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError
from pipeline.params import Params


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and validate params.yaml.

    Raises:
        PipelineError: with every wrong key, its line, what was expected and what came.

    """
    path = Path(path)
    try:
        raw = YAML(typ="rt").load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: run from the repository's root") from None
    except YAMLError as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from error
    try:
        return Params.model_validate(_plain(raw))
    except ValidationError as error:
        lines = [_explain(path, raw, dict(item)) for item in error.errors()]
        raise PipelineError("\n".join(lines)) from None


def _explain(path: Path, raw: Any, error: dict[str, Any]) -> str:
    """Turn one pydantic error into `params.yaml:12: teacher.detect.epochs: ..., got 'ten'`."""
    keys = [key for key in error["loc"] if isinstance(key, int) or key != "[key]"]
    message = error["msg"].removeprefix("Value error, ")
    came = "" if error["type"] == "missing" else f", got {error['input']!r}"
    if error["type"] == "extra_forbidden":
        message, came = "unknown key (misspelt, or from another version?)", ""
    if not keys:  # a rule between sections
        return f"{path}: {message}"
    return f"{path}:{_line(raw, keys)}: {'.'.join(map(str, keys))}: {message}{came}"


def _line(raw: Any, keys: list[Any]) -> int:
    """Find the 1-based line of a key, or of the deepest parent that exists."""
    line = 1
    for key in keys:
        try:
            position = raw.lc.data[key]
            line, raw = position[0] + 1, raw[key]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    return line


def _plain(value: Any) -> Any:
    """Strip ruamel's round-trip types: strict validation wants the plain ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
