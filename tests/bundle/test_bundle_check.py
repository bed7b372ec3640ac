"""check.py on a device: without this project, on an undamaged and on a damaged bundle."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipeline.bundle.files.check import run_onnxruntime
from pipeline.bundle.manifest import facts_of
from tests.bundle.conftest import Shipped

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).parent / "stand_in"
Done = subprocess.CompletedProcess[str]


def python(folder: Path, *arguments: str, interpreter: str = sys.executable) -> Done:
    """Run in the unpacked bundle, without PYTHONPATH."""
    command = [interpreter, "-I", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def replace(folder: Path, name: str, content: bytes) -> None:
    """Change a file and its line in the manifest: wrong, but not damaged."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = facts_of(content).model_dump()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_check__passes_where_the_pipeline_cannot_be_imported(unpacked: Path, shipped: Shipped) -> None:
    assert python(unpacked, "-c", "import pipeline").returncode == 1
    done = python(unpacked, "check.py")
    assert done.returncode == 0, done.stdout + done.stderr
    measure = {"detect": "box_px", "segment": "pixels"}[shipped.task]
    assert re.fullmatch(rf"onnxruntime +fp32\.onnx +ok .*{measure} 0 \(limit .*\)\n", done.stdout)


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("3,2", 3), ("", 0), ("many", 0)])
def test_check__keeps_to_the_environments_threads(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    found: list[int] = []
    real = onnxruntime.InferenceSession

    def session(model: str, options: onnxruntime.SessionOptions, **named: object) -> object:
        found.append(options.intra_op_num_threads)
        return real(model, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    run_onnxruntime(unpacked / "models/fp32.onnx", np.zeros((1, 3, 64, 64), np.float32))
    assert found == [threads]


def test_check__a_damaged_file_is_found_first(unpacked: Path) -> None:
    for name in ("models/fp32.onnx", "samples/expected.npz", "labels.txt", "build_engine.sh"):
        content = bytearray((unpacked / name).read_bytes())
        content[len(content) // 2] ^= 1
        (unpacked / name).write_bytes(content)
        done = python(unpacked, "check.py")
        content[len(content) // 2] ^= 1
        (unpacked / name).write_bytes(content)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"damaged bundle: {name}: not the file that was shipped" in done.stderr
    assert python(unpacked, "check.py").returncode == 0


@pytest.mark.parametrize("content", ["", "{}", None])
def test_check__a_broken_manifest_is_one_message(unpacked: Path, content: str | None) -> None:
    if content is None:
        (unpacked / "manifest.json").unlink()
    else:
        (unpacked / "manifest.json").write_text(content)
    done = python(unpacked, "check.py")
    assert done.returncode == 2
    assert "manifest.json cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_check__other_answers_than_expected_fail(unpacked: Path, shipped: Shipped, tmp_path: Path) -> None:
    expected = dict(np.load(unpacked / "samples/expected.npz"))
    name = {"detect": "output0", "segment": "class_map"}[shipped.task]
    changed = {**expected, name: expected[name] + expected[name].dtype.type(1)}
    np.savez(tmp_path / "other.npz", **changed)
    replace(unpacked, "samples/expected.npz", (tmp_path / "other.npz").read_bytes())
    done = python(unpacked, "check.py")
    assert done.returncode == 1, done.stdout
    assert "FAIL" in done.stdout


def test_check__a_model_that_does_not_load_fails_and_the_rest_is_checked(unpacked: Path) -> None:
    tolerances = json.loads((unpacked / "samples/tolerances.json").read_text())
    replace(unpacked, "samples/tolerances.json", json.dumps({**tolerances, "fp16": tolerances["fp32"]}).encode())
    replace(unpacked, "models/fp16.onnx", b"no model")
    done = python(unpacked, "check.py")
    assert done.returncode == 1
    rows = [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("onnxruntime")]
    assert rows == [["onnxruntime", "fp16.onnx", "FAIL"], ["onnxruntime", "fp32.onnx", "ok"]]


def test_check__what_it_cannot_judge_is_skipped(unpacked: Path) -> None:
    tolerances = json.loads((unpacked / "samples/tolerances.json").read_text())
    replace(
        unpacked, "samples/tolerances.json", json.dumps({**tolerances, "int8-tensorrt": tolerances["fp32"]}).encode()
    )
    for name in ("int8-tensorrt", "mine"):
        (unpacked / f"models/{name}.onnx").write_bytes(b"never read")
    done = python(unpacked, "check.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"int8-tensorrt\.onnx +skipped: for TensorRT only", done.stdout)
    assert re.search(r"mine\.onnx +skipped: not of this bundle", done.stdout)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
def test_check__runs_engines_through_tensorrts_interface(unpacked: Path, tmp_path: Path) -> None:
    library = ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libcudart.so"), str(STAND_IN / "cudart.c")]
    subprocess.run(library, check=True)
    (unpacked / "engines").mkdir()
    shutil.copy(unpacked / "models/fp32.onnx", unpacked / "engines/fp32.plan")
    environment = {**os.environ, "PYTHONPATH": str(STAND_IN), "LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "check.py"]
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^tensorrt +fp32\.plan +ok .* 0 \(limit", done.stdout, re.MULTILINE)
    (unpacked / "engines/fp32.plan").write_bytes(b"another version's")
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "cannot read it: build it on this device" in done.stdout


def test_check__the_scripts_help_and_are_short(unpacked: Path) -> None:
    for script in ("check.py", "benchmark.py"):
        done = python(unpacked, script, "--help")
        assert done.returncode == 0
        assert "Needs Python 3.10" in done.stdout
        assert len((unpacked / script).read_text().splitlines()) < 300


@pytest.mark.slow
def test_check__passes_in_a_fresh_environment(unpacked: Path, tmp_path: Path) -> None:
    pins = re.findall(
        r"^(?:numpy|pillow|onnxruntime)==[^\n]*$", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE
    )
    assert len({pin.split("==")[0] for pin in pins}) == 3
    uv = str(Path(sys.executable).with_name("uv"))
    interpreter = str(tmp_path / "fresh/bin/python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "fresh"], check=True)
    installed = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", interpreter, *pins], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"no package registry: {installed.stderr[-200:]}")
    assert python(unpacked, "-c", "import cv2", interpreter=interpreter).returncode == 1
    done = python(unpacked, "check.py", interpreter=interpreter)
    assert done.returncode == 0, done.stdout + done.stderr
    done = python(unpacked, "benchmark.py", "--seconds", "0.1", interpreter=interpreter)
    assert done.returncode == 0, done.stdout + done.stderr
