"""Run one scenario over the bindings of one TensorRT version, in a process of its own: drive.py VERSION SCENARIO WORK.

WORK holds the ONNX files; plans and result.json go to WORK/VERSION-SCENARIO.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from pipeline.errors import PipelineError  # noqa: E402
from pipeline.params import TensorRT  # noqa: E402
from tests.tensorrt_api import faketrt  # noqa: E402

PARAMS = TensorRT(workspace_mb=64, optimization_level=4, max_batch=8, dla_core=None, gpu_fallback=True)


def message(call: Callable[[], Any]) -> str:
    """Return what the PipelineError says that a call must end in."""
    try:
        call()
    except PipelineError as error:
        return str(error)
    return "no error"


def told(plan: Path) -> dict[str, Any]:
    """Return what the stand-in was told when it built a plan."""
    return {key: value for key, value in json.loads(plan.read_bytes()).items() if key != "onnx"}


def build(fake: faketrt.Fake, work: Path, out: Path) -> dict[str, Any]:
    """Build plans: twice the same, of two precisions, on a DLA, and what must fail."""
    from pipeline.export.tensorrt import build_plan

    def make(name: str, params: TensorRT = PARAMS, plan: str | None = None) -> dict[str, Any]:
        target = out / f"{plan or name}.plan"
        info = build_plan(work / f"{name}.onnx", target, params, out / "caches")
        return {"info": info.model_dump(), "told": told(target)}

    result: dict[str, Any] = {"detect": make("detect")}
    (cache,) = (out / "caches").glob("*.cache")
    result["cache"] = [cache.name, cache.read_text()]
    make("detect")
    result["cache"].append(cache.read_text())
    result["static"] = make("static")
    result["int8"] = make("int8-tensorrt")
    result["foreign"] = message(lambda: make("foreign"))
    result["two_inputs"] = message(lambda: make("two_inputs"))
    result["no_dla"] = message(lambda: make("detect", PARAMS.model_copy(update={"dla_core": 1}), "no_dla"))
    fake.dla_cores = 2
    on_dla = PARAMS.model_copy(update={"dla_core": 1})
    result["dla"] = make("detect", on_dla, "dla")
    result["dla_alone"] = make("int8-tensorrt", on_dla.model_copy(update={"gpu_fallback": False}), "dla_alone")
    fake.on_dla = True
    result["dla_used"] = make("int8-tensorrt", on_dla, "dla_used")
    fake.on_dla = False
    fake.silently_fp32 = True
    result["silent"] = message(lambda: make("int8-tensorrt", plan="silent"))
    result["files"] = sorted(path.name for path in out.iterdir())
    result["heavy"] = sorted({"torch", "torchvision", "ultralytics", "cv2"} & set(sys.modules))
    return result


def run(fake: faketrt.Fake, work: Path, out: Path) -> dict[str, Any]:
    """Build, load and run both tasks' plans, and compare with ONNX Runtime on the same file."""
    from pipeline.backends import load
    from pipeline.backends.tensorrt import PlanInfo, plan_info_path
    from pipeline.export.tensorrt import build_plan
    from pipeline.records import read_record, write_record

    result: dict[str, Any] = {}
    for name in ("detect", "segment", "static"):
        plan = out / f"{name}.plan"
        build_plan(work / f"{name}.onnx", plan, PARAMS, out / "caches")
        backend, reference = load(plan, "cuda", 1), load(work / f"{name}.onnx", threads=1)
        size = backend.metadata.image_size_px
        images = np.random.default_rng(0).random((11, 3, size, size), dtype=np.float32)
        assert backend.phases
        outputs, phases = backend.phases(images[:1])
        counts = (1, 3, 11) if backend.dynamic_batch else (1,)
        result[name] = {
            "equal": [alike(backend(images[:count]), reference(images[:count])) for count in counts],
            "phases_equal": alike(outputs, reference(images[:1])),
            "phases": phases,
            "runtime": [backend.runtime, backend.device, backend.dynamic_batch],
            "metadata_equal": backend.metadata == reference.metadata,
            "other_size": message(lambda backend=backend, images=images: backend(images[:1, :, 1:])),
            "too_many": message(lambda backend=backend, images=images: backend.phases(images)),
        }
    fake.dla_cores = 2
    on_dla = PARAMS.model_copy(update={"dla_core": 1})
    build_plan(work / "detect.onnx", out / "dla.plan", on_dla, out / "caches")
    backend = load(out / "dla.plan", "cuda", 1)
    engines = [state for kind, state in fake.objects.values() if kind == "ICudaEngine" and "plan" in state]
    result["dla"] = [engines[-1]["dla_core"], backend.dynamic_batch]
    plan = out / "detect.plan"
    result["cpu"] = message(lambda: load(plan))
    result["absent"] = message(lambda: load(plan, "cuda:1"))
    info = read_record(plan_info_path(plan), PlanInfo)
    for key in ("gpu", "tensorrt_version"):
        write_record(plan_info_path(plan), info.model_copy(update={key: "another"}))
        result[key] = message(lambda: load(plan, "cuda"))
    write_record(plan_info_path(plan), info)
    plan.write_text(json.dumps({"stand_in": "another"}))
    result["unreadable"] = message(lambda: load(plan, "cuda"))
    return result


def alike(outputs: list[Any], reference: list[Any]) -> bool:
    """Say whether two answers are equal in order, dtype, shape and value."""
    return len(outputs) == len(reference) and all(
        left.dtype == right.dtype and left.shape == right.shape and np.allclose(left, right, atol=1e-5)
        for left, right in zip(outputs, reference, strict=True)
    )


def planted(_fake: faketrt.Fake, work: Path, out: Path) -> dict[str, Any]:
    """Build with a precision flag planted into the builder's source."""
    path = ROOT / "pipeline/export/tensorrt.py"
    line = "        if params.dla_core is None:\n"
    source = path.read_text()
    assert line in source
    module: dict[str, Any] = {"__name__": "planted"}
    exec(source.replace(line, f"        config.set_flag(trt.BuilderFlag.FP16)\n{line}"), module)
    try:
        module["build_plan"](work / "detect.onnx", out / "detect.plan", PARAMS, out / "caches")
    except AttributeError as error:
        return {"error": str(error)}
    return {"flags": told(out / "detect.plan")["flags"]}


SCENARIOS = {"build": build, "run": run, "planted": planted}


def main(version: str, scenario: str, work: Path) -> None:
    """Run a scenario and write its result, or its traceback."""
    out = work / f"{version}-{scenario}"
    out.mkdir()
    try:
        _, fake = faketrt.install(version, ROOT / ".venv/tensorrt")
        result = SCENARIOS[scenario](fake, work, out)
    except Exception:
        result = {"traceback": traceback.format_exc()}
    (out / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)  # the stand-in's objects must not be destroyed
