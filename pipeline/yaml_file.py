"""Read a YAML file from anywhere: no size, depth or tag of it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from pipeline.errors import PipelineError
from pipeline.files import read_text

MAX_DEPTH: Final = 50
MAX_VALUES: Final = 100_000  # with every alias (`*name`) written out


def read_yaml(path: Path) -> Any:
    """Read a YAML file with ruamel's round-trip types, which know their lines.

    Raises:
        PipelineError: if it is no UTF-8 or no YAML, has a tag, a key twice, or more depth or values than a file
            written by a person.
        OSError: if the file cannot be read.

    """
    text = read_text(path)
    try:
        _require_plain(path, text)
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem).partition(" with value ")[0]  # of a key that is there twice
        raise PipelineError(f"{path}:{line}: is not valid YAML: {problem}") from None
    except (YAMLError, ValueError) as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from None


def plain(value: Any) -> Any:
    """Strip ruamel's round-trip types: strict validation wants the plain ones."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _require_plain(path: Path, text: str) -> None:
    """Refuse tags, deep nesting, and aliases that multiply, before any value is made."""
    sizes: dict[str, int] = {}  # anchor -> values below it
    open_nodes: list[tuple[str | None, int]] = []  # of the collections around this event: anchor, values so far
    total = 0
    for event in YAML(typ="rt").parse(text):
        line = event.start_mark.line + 1
        size = 1
        if isinstance(event, CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, AliasEvent):
            endless = event.anchor in [name for name, _ in open_nodes]  # an alias inside of what it stands for
            anchor, size = None, MAX_VALUES if endless else sizes.get(event.anchor, 1)
        elif isinstance(event, NodeEvent):
            anchor = event.anchor
            if (tag := getattr(event, "tag", None)) is not None:
                short = str(tag).replace("tag:yaml.org,2002:", "!!")
                raise PipelineError(f"{path}:{line}: expected plain YAML, got the tag {short}: remove it")
        else:
            continue
        if isinstance(event, CollectionStartEvent):
            open_nodes.append((anchor, 1))
        else:
            if anchor is not None:
                sizes[anchor] = size
            if open_nodes:
                open_nodes[-1] = open_nodes[-1][0], open_nodes[-1][1] + size
            total = sum(count for _, count in open_nodes)
        if len(open_nodes) > MAX_DEPTH:
            raise PipelineError(f"{path}:{line}: nested deeper than {MAX_DEPTH} levels: flatten it")
        if total > MAX_VALUES:
            raise PipelineError(f"{path}:{line}: more than {MAX_VALUES} values, aliases written out: shorten it")
