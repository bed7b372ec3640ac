"""The only reader of params.yaml: every wrong key is named with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.yaml_file import plain, read_yaml

MAX_SHOWN: Final = 200  # characters of a wrong value in a message


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and validate params.yaml.

    Raises:
        PipelineError: with every wrong key, its line, what was expected and what came.

    """
    path = Path(path)
    raw = read_params(path)
    try:
        return Params.model_validate(plain(raw))
    except ValidationError as error:
        lines = [_explain(path, raw, dict(item)) for item in error.errors()]
        raise PipelineError("\n".join(lines)) from None


def read_params(path: Path) -> Any:
    """Read params.yaml without validating it, with ruamel's types, which know their lines.

    Raises:
        PipelineError: if it is not there, or `read_yaml` refuses it.

    """
    try:
        return read_yaml(path)
    except FileNotFoundError:
        raise PipelineError(f"{path} not found: run from the repository's root") from None


def _explain(path: Path, raw: Any, error: dict[str, Any]) -> str:
    """Turn one pydantic error into `params.yaml:12: teacher.detect.epochs: ..., got 'ten'`."""
    keys = [key for key in error["loc"] if isinstance(key, int) or key != "[key]"]
    message = error["msg"].removeprefix("Value error, ")
    came = "" if error["type"] == "missing" else f", got {_shown(error['input'])}"
    if error["type"] == "extra_forbidden":
        message, came = "unknown key (misspelt, or from another version?)", ""
    if not keys:  # a rule between sections
        return f"{path}: {message}"
    return f"{path}:{_line(raw, keys)}: {'.'.join(map(str, keys))}: {message}{came}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


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
