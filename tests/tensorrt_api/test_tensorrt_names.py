"""Every `trt.<name>` of the project against the names that TensorRT 10.3 to 11.4 have, also without the bindings."""

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/tensorrt"
FILES = ("pipeline/backends/tensorrt.py", "pipeline/export/tensorrt.py")
RECORDED = json.loads((Path(__file__).parent / "names.json").read_text())


def used_names(source: str) -> set[str]:
    """List the dotted names behind `trt`, the longest of each chain."""
    tree = ast.parse(source)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    chains = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in inner]
    names = {chain.removeprefix("trt.") for chain in chains if chain.startswith("trt.")}
    return {name.removesuffix(".split") for name in names}


def test_names__all_are_in_every_recorded_version() -> None:
    used = set().union(*(used_names((ROOT / file).read_text()) for file in FILES))
    assert sorted(used) == RECORDED["names"], "names.json lists what the project uses, if every version has it"


def test_names__a_removed_one_is_seen() -> None:
    assert used_names("config.set_flag(trt.BuilderFlag.FP16)") - set(RECORDED["names"]) == {"BuilderFlag.FP16"}


@pytest.mark.shared
@pytest.mark.parametrize("version", RECORDED["versions"])
def test_names__are_as_read_off_the_bindings(version: str) -> None:
    api = json.loads((SHARED / f"api-{version}.json").read_text())
    known = {*api["functions"], *api["constants"], "__version__"}
    for table in (api["classes"], api["enums"]):
        known |= set(table) | {f"{name}.{member}" for name, members in table.items() for member in members}
    assert set(RECORDED["names"]) <= known
