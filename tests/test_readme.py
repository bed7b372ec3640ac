"""tests/README.md names tests that exist."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py)::(test_\w*)(\*?)`", (FOLDER / "README.md").read_text())))


@pytest.mark.parametrize(("file", "name", "star"), REFERENCES, ids=["::".join(found[:2]) for found in REFERENCES])
def test_readme__names_tests_that_exist(file: str, name: str, star: str) -> None:
    tests = re.findall(r"^def (test_\w+)\(", (FOLDER / file).read_text(), flags=re.MULTILINE)
    assert any(test.startswith(name) if star else test == name for test in tests)
