"""The runtime image holds exactly the files and packages that running an exported model needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.export.onnx import export_onnx
from tests.tiny import awake, export_params_of, save

ROOT = Path(__file__).parents[1]
# Import name -> distribution, where they differ.
NAMES = {"cv2": "opencv-python-headless"}
HEAVY = {"torch", "ultralytics", "onnx", "dvc", "ruamel", "matplotlib", "safetensors", "PIL", "jinja2", "openvino"}
# As `python -m pipeline predict`, where what the image lacks cannot be imported.
RUN = f"""
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ImportError(f"{{name}} is not in the runtime image")
sys.meta_path.insert(0, Refuse())
sys.argv = ["pipeline", "predict", *sys.argv[1:]]
try:
    runpy.run_module("pipeline", run_name="__main__")
finally:
    files = [getattr(module, "__file__", None) for module in sys.modules.values()]
    print(*filter(None, files), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "fp32.onnx"
    checkpoint = save(out.with_name("toy"), awake("micro-n.yaml"))
    export_onnx(checkpoint, out, export_params_of())
    return out


def runtime() -> str:
    return (ROOT / "Dockerfile").read_text().split(" AS runtime", maxsplit=1)[1].replace("\\\n", " ")


def packages() -> set[str]:
    installed = re.search(r"--constraint \S+\s+(.*)", runtime())
    assert installed is not None
    return set(installed[1].split())


def test_runtime_image__holds_exactly_the_files_that_predicting_imports(onnx_file: Path, tmp_path: Path) -> None:
    copied = set()
    for line in re.findall(r"^COPY (pipeline.*)$", runtime(), flags=re.MULTILINE):
        *files, target = line.split()
        (tmp_path / target).mkdir(parents=True, exist_ok=True)
        for file in files:
            copied.add(Path(shutil.copy(ROOT / file, tmp_path / target)).resolve())
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60, 3), 90, dtype=np.uint8))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, onnx_file, "a.png", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["boxes"]
    ours = {path for path in map(Path, done.stderr.split()) if path.is_relative_to(tmp_path)}
    assert ours | {tmp_path / "pipeline/__main__.py"} == copied, "a file that the Dockerfile copies is not used"


def test_runtime_image__installs_what_predicting_imports() -> None:
    lines = re.findall(r"^COPY (pipeline.*)$", runtime(), flags=re.MULTILINE)
    files = [ROOT / file for line in lines for file in line.split()[:-1]]
    used = {name for file in files for name in re.findall(r"^(?:import|from) (\w+)", file.read_text(), re.MULTILINE)}
    foreign = used - sys.stdlib_module_names - {"pipeline", "__future__"}
    assert {NAMES.get(name, name) for name in foreign} == packages()


def test_runtime_image__runs_predict() -> None:
    assert 'ENTRYPOINT ["python", "-m", "pipeline", "predict"]' in runtime()


def test_dockerfile__packages_are_pinned_and_files_reach_the_build() -> None:
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
    assert packages() <= set(pins)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (.*)$", (ROOT / "Dockerfile").read_text().replace("\\\n", " "), flags=re.MULTILINE):
        assert all(file.split("/")[0] in allowed for file in line.split()[:-1])
