"""What git and DVC hand to another machine: the same bytes, and everything that was pushed."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e.clone import ENVIRONMENT, ROOT, make_clone

GIT = {
    **ENVIRONMENT,
    **dict.fromkeys(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"], "test"),
    **dict.fromkeys(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"], "test@example.org"),
}


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=GIT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def content(folder: Path) -> dict[str, bytes]:
    names = run(["git", "ls-files", "-z"], folder).split("\0")
    return {name: (folder / name).read_bytes() for name in names if name and not (folder / name).is_symlink()}


@pytest.mark.parametrize("setting", ["core.autocrlf=true", "core.eol=crlf", "core.autocrlf=input"])
def test_clone__has_the_same_bytes_whatever_line_ends_git_is_set_to(tmp_path: Path, setting: str) -> None:
    """Others would re-run every stage, and bundles would ship scripts that no shell takes."""
    origin = make_clone(tmp_path / "origin", {})
    (origin / "data.onnx").write_bytes(b"\x08\r\n\x0a text \r\n")
    run(["git", "add", "-A"], origin)
    run(["git", "commit", "-qm", "a binary file"], origin)
    run(["git", "-c", setting, "clone", "-q", "-c", setting, str(origin), "copy"], tmp_path)
    assert content(tmp_path / "copy") == content(origin)


def test_dvc__everything_that_is_pushed_can_be_pulled_into_a_fresh_clone(tmp_path: Path) -> None:
    """The outs are those of dvc.yaml, with the same options, without the work that makes them."""
    origin, yaml = tmp_path / "origin", YAML(typ="safe")
    origin.mkdir()
    stages = yaml.load((ROOT / "dvc.yaml").read_text())["stages"]
    params = yaml.load((ROOT / "params.yaml").read_text())
    outs = [out for name in stages for out in outs_of(stages[name], params)]
    for out in outs:
        path = origin / path_of(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    with (origin / "dvc.yaml").open("w") as file:
        yaml.dump({"stages": {"all": {"cmd": "true", "outs": outs}}}, file)
    for command in ("git init -q", "dvc init -q", "dvc commit -q -f", "dvc remote add -q -d store ../store",
                    "git add -A", "git commit -qm all", "dvc push -q"):  # fmt: skip
        run(command.split(), origin)
    run(["git", "clone", "-q", "origin", "copy"], tmp_path)
    run(["dvc", "pull"], tmp_path / "copy")
    for out in outs:
        assert (tmp_path / "copy" / path_of(out)).read_text() == str(origin / path_of(out))


def outs_of(stage: dict[str, Any], params: dict[str, Any]) -> list[Any]:
    """List a stage's outs and plots with their options, those of a foreach stage for every item."""
    text_of = [*stage.get("outs", []), *stage.get("plots", []), *stage.get("metrics", [])]
    if "foreach" not in stage:
        return text_of
    items = params[stage["foreach"].strip("${}")]
    return [
        filled(out, {"${key}": key, "${item.task}": str(item.get("task"))})
        for key, item in items.items()
        for kind in ("outs", "plots")
        for out in stage["do"].get(kind, [])
    ]


def filled(out: Any, values: dict[str, str]) -> Any:
    path = path_of(out)
    for name, value in values.items():
        path = path.replace(name, value)
    if isinstance(out, str):
        return path
    options = {key: value for key, value in next(iter(out.values())).items() if key not in {"x", "y", "title"}}
    return {path: options}


def path_of(out: Any) -> str:
    return out if isinstance(out, str) else str(next(iter(out)))
