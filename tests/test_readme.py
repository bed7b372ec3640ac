"""tests/README.md names tests that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w*)(\*?)`", (FOLDER / "README.md").read_text())))


@pytest.mark.parametrize(("file", "name", "star"), REFERENCES, ids=["::".join(found[:2]) for found in REFERENCES])
def test_readme__names_tests_that_exist(file: str, name: str, star: str) -> None:
    tests = re.findall(r"^def (test_\w+)\(", (FOLDER / file).read_text(), flags=re.MULTILINE)
    assert any(test.startswith(name) if star else test == name for test in tests)


def test_readme__its_table_of_experiments_fits_a_terminal() -> None:
    readme = (FOLDER.parent / "README.md").read_text()
    kept = re.search(r"dvc exp show --drop '\.\*' --keep '([^']+)'", readme)
    assert kept is not None
    metrics = json.loads((FOLDER.parent / "reports/metrics.json").read_text())
    columns = ["Experiment", "Created", "distill.method", *_leaves(metrics)]
    shown = [name for name in columns if re.match(kept[1], name)]
    assert {"Experiment", "distill.method"} < set(shown)
    assert len(shown) <= 4
    assert all(name.endswith(("map50_95", "miou")) for name in shown[2:])


def _leaves(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
