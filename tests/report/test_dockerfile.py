"""The runtime image holds every file and package that running an exported model needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Import name -> distribution, where they differ.
NAMES = {"cv2": "opencv-python-headless", "PIL": "pillow"}
USE = """
import sys
heavy = {heavy}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            raise ImportError(f"{{name}} is not in the runtime image")
sys.meta_path.insert(0, Refuse())
import pipeline.backends.onnxruntime, pipeline.preprocess, pipeline.evaluation.detect
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def _runtime() -> str:
    return (ROOT / "Dockerfile").read_text().split(" AS runtime", maxsplit=1)[1].replace("\\\n", " ")


def test_runtime_image__holds_what_inference_imports(tmp_path: Path) -> None:
    for line in re.findall(r"^COPY (pipeline.*)$", _runtime(), flags=re.MULTILINE):
        *files, target = line.split()
        (tmp_path / target).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(ROOT / file, tmp_path / target)
    installed = re.search(r"--constraint \S+\s+(.*)", _runtime())
    assert installed is not None
    heavy = {"torch", "ultralytics", "onnx", "dvc", "typer", "rich", "ruamel", "matplotlib", "safetensors"}
    heavy |= {name for name, package in NAMES.items() if package not in installed[1].split()}
    done = subprocess.run(
        [sys.executable, "-c", USE.format(heavy=heavy)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"pipeline", "onnxruntime", "numpy"} <= set(done.stdout.split())


def test_dockerfile__packages_are_pinned_and_files_reach_the_build() -> None:
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE))
    installed = re.search(r"--constraint \S+\s+(.*)", _runtime())
    assert installed is not None
    assert set(installed[1].split()) <= set(pins)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (.*)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE):
        assert all(file.split("/")[0] in allowed for file in line.split()[:-1])
