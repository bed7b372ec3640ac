"""dvc.yaml against the code and params.yaml: DVC itself checks neither."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "stages", "models")
DVC = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}


def module_files(module: str) -> list[Path]:
    """List the files that importing a module runs: its packages' __init__ and itself."""
    parts = module.split(".")
    packages = [ROOT.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    return [path for path in [*packages, ROOT.joinpath(*parts).with_suffix(".py")] if path.exists()]


def imported_files(file: Path) -> set[Path]:
    """List the repository's files that one file imports, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {path for module in modules if module.split(".")[0] in PACKAGES for path in module_files(module)}


def closure(file: Path) -> set[Path]:
    """List everything of the repository that running a file imports."""
    seen, queue = {file}, [file]
    while queue:
        new = imported_files(queue.pop()) - seen
        seen |= new
        queue += new
    return seen


def script(stage: str) -> Path:
    name = STAGES[stage]["cmd"].removeprefix("sh stages/run.sh ").split()[0]
    return ROOT / "stages" / f"{name}.py"


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml__deps_cover_every_import(stage: str) -> None:
    deps = [ROOT / dep for dep in STAGES[stage].get("deps", [])]
    needed = {path for path in closure(script(stage)) if path.stat().st_size}
    missing = sorted(
        str(path.relative_to(ROOT)) for path in needed if not any(path.is_relative_to(dep) for dep in deps)
    )
    assert not missing, f"{stage}: dvc.yaml lacks the deps {missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml__code_deps_are_used(stage: str) -> None:
    files = ("models/micro.yaml", "models/micro-sem.yaml", "pipeline/report/template.html.j2")  # read, not imported
    used = closure(script(stage)) | {ROOT / file for file in files}
    deps = [ROOT / dep for dep in STAGES[stage].get("deps", []) if dep.split("/")[0] in PACKAGES]
    idle = [str(dep.relative_to(ROOT)) for dep in deps if not any(path.is_relative_to(dep) for path in used)]
    assert not idle, f"{stage}: nothing imports {idle}"


def test_dvc_yaml__every_param_belongs_to_a_stage() -> None:
    listed = {key.split(".")[0] for stage in STAGES.values() for key in stage.get("params", [])}
    assert set(PARAMS) - listed == {"machine"}, "results do not depend on the machine section, on all others they do"


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml__a_stage_depends_on_the_sections_it_reads(stage: str) -> None:
    listed = {key.split(".")[0] for key in STAGES[stage].get("params", [])} | {"machine"}
    read = {
        node.attr
        for node in ast.walk(ast.parse(script(stage).read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"params", "stage.params"}
    }
    assert read <= listed, f"{stage}: reads {sorted(read - listed)}, which dvc.yaml does not list"


@pytest.mark.parametrize("file", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.name)
def test_stages__are_thin(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 80
