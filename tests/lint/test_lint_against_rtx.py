"""The lint against NVIDIA's real parser and builder: TensorRT for RTX works without a GPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.export.fp16 import write_half
from pipeline.export.onnx import export_onnx
from pipeline.export.quantize import calibrate, quantize, quantize_for_tensorrt
from pipeline.lint import lint
from pipeline.tasks import Task
from tests.lint.corpus import Case, corpus, save
from tests.lint.disagreements import LAXER, STRICTER, explained
from tests.tiny import awake, export_params_of
from tests.tiny import save as save_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None, reason="needs tensorrt-rtx-cu13-bindings and -libs"
)
JUDGE = Path(__file__).with_name("judge.py")
EVERY = 17  # of the corpus, in the fast test


def judged(paths: list[Path]) -> dict[str, dict[str, str]]:
    """Ask TensorRT-RTX, in processes of its own: a file that ends one is refused, and the rest goes to the next."""
    verdicts: dict[str, dict[str, str]] = {}
    while paths:
        done = subprocess.run([sys.executable, JUDGE, *paths], capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        verdicts |= {line["file"]: line for line in lines}
        if len(lines) < len(paths):
            verdicts[paths[len(lines)].name] = {"stage": "crash", "said": done.stderr[-300:]}
        paths = paths[len(lines) + 1 :]
    return verdicts


def disagreements(cases: dict[str, Case], folder: Path) -> list[str]:
    """List the graphs that the lint and TensorRT-RTX judge differently and that no table explains."""
    paths = {name: folder / f"{number:05d}.onnx" for number, name in enumerate(cases)}
    for name, path in paths.items():
        save(cases[name], path)
    verdicts, found = judged(list(paths.values())), []
    for name, path in paths.items():
        report, verdict = lint(path, "11.4"), verdicts[path.name]
        errors = [(entry.rule, entry.found) for entry in report.findings if entry.severity == "error"]
        built = verdict["stage"] == "built"
        if report.ready != built and not explained(built, errors, verdict["said"]):
            found.append(f"{name}: lint {errors or 'accepts'}, TensorRT-RTX {verdict['stage']} {verdict['said'][:200]}")
    return found


def test_lint__judges_as_tensorrt_rtx_does(tmp_path: Path) -> None:
    cases = dict(list(corpus().items())[::EVERY])
    assert len(cases) > 250
    assert disagreements(cases, tmp_path) == []


@pytest.mark.slow
def test_lint__judges_the_whole_corpus_as_tensorrt_rtx_does(tmp_path: Path) -> None:
    assert disagreements(corpus(), tmp_path) == []


def test_lint__every_listed_difference_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in (*STRICTER.values(), *LAXER.values()))


@pytest.mark.parametrize(
    ("name", "task", "end2end"),
    [
        ("micro-n.yaml", "detect", None),
        ("micro-n.yaml", "detect", True),
        ("micro-n-sem.yaml", "segment", None),
        pytest.param("yolo26n.yaml", "detect", True, marks=pytest.mark.slow),
        pytest.param("unet-mobilenet", "segment", None, marks=pytest.mark.slow),
        pytest.param("pspnet-mobilenet", "segment", None, marks=pytest.mark.slow),
    ],
)
def test_lint__tensorrt_rtx_builds_what_the_pipeline_exports(
    name: str, task: Task, end2end: bool | None, tmp_path: Path
) -> None:
    folder = save_model(tmp_path / "toy", awake(name, task, end2end=end2end), task)
    params, ranges = export_params_of(dynamic_batch=True), tmp_path / "ranges.json"
    fp32, fp16, cpu, tensorrt = (tmp_path / f"{file}.onnx" for file in ("fp32", "fp16", "int8", "int8-tensorrt"))
    export_onnx(folder, fp32, params)
    write_half(fp32, fp16)
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    calibrate(fp32, images, params.int8, ranges)
    quantize(fp32, ranges, cpu, params.int8)
    quantize_for_tensorrt(fp32, ranges, tensorrt, params.int8)
    verdicts = judged([fp32, fp16, tensorrt])
    for file in (fp32, fp16, tensorrt):
        assert lint(file, "11.4").ready
        assert verdicts[file.name]["stage"] == "built", verdicts[file.name]["said"]
    assert lint(cpu, "11.4").sibling == tensorrt.name


def test_lint__tensorrt_rtx_builds_fp16_and_symmetric_int8_and_refuses_the_others(
    fp16: Path, int8: Path, uint8: Path, defaults: Path
) -> None:
    verdicts = judged([fp16, int8, uint8, defaults])
    stages = {name: verdict["stage"] for name, verdict in verdicts.items()}
    assert stages == {"fp16.onnx": "built", "int8.onnx": "built", "uint8.onnx": "parse", "defaults.onnx": "parse"}
    assert [lint(path).ready for path in (fp16, int8, uint8, defaults)] == [True, True, False, False]
