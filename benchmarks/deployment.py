"""A detector fine-tuned on BCCD: what each precision costs, and how fast it is on this CPU beside `yolo predict`.

    python -m benchmarks.deployment

Ultralytics' yolov8n is fine-tuned with the teacher's recipe of benchmarks/bccd/params.yaml (a few minutes; the state
lies in .state/benchmarks/), exported in every precision, measured in ONNX Runtime and OpenVINO, and timed: whole calls,
image in memory to boxes, one image at a time, all runtimes in turn in one process, on all cores. `yolo predict` runs
the ONNX file that Ultralytics exports of the same weights, in ONNX Runtime as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch
import typer
from ultralytics import YOLO

from benchmarks.measure import ratio, record, summary
from benchmarks.methods import made, prepared
from pipeline.backends import Backend, load
from pipeline.backends.openvino import PRECISIONS
from pipeline.checkpoint_info import INFO, load_info
from pipeline.device import available_threads
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.latency import IMAGES, SCORE_THRESHOLD, run_image
from pipeline.evaluation.turns import Block, Case, Run, block_median, take_turns, warm_up
from pipeline.export.gate import Trained, check_gate, measure
from pipeline.export.student import export_student
from pipeline.export.ultralytics import export_ultralytics
from pipeline.params import Benchmark, Params
from pipeline.params_file import load_params
from pipeline.preprocess import load_image
from pipeline.records import Accuracy, Parity, read_record
from pipeline.training.run import train
from pipeline.training.trainer import Job

PARAMS = Path("benchmarks/bccd/params.yaml")
STATE = Path(".state/benchmarks/deployment")


def main() -> None:
    """Measure accuracy, size and latency of one detector in every precision and runtime."""
    params = load_params(PARAMS)
    trained = _trained(params)
    exported = made(STATE / "export")
    export_student(trained, exported, STATE / "records", STATE)
    found = _accuracies(trained, exported)
    threads = available_threads()
    backends = {"torch": load(trained.checkpoint, threads=threads)}
    for precision in params.export.precisions:
        backends[f"onnxruntime-{precision}"] = load(exported / f"{precision}.onnx", threads=threads)
    for precision in PRECISIONS:
        backends[f"openvino-{precision}"] = load(exported / f"{precision}.onnx", threads=threads, runtime="openvino")
    blocks = _blocks(trained, backends, params.benchmark)
    medians = {name: [block_median(block) for block in of] for name, of in blocks.items()}
    rows = [
        {
            "runtime": name,
            **found.get(name, {"ap": None, "drop": None, "alike": None, "size_mb": None}),
            **summary([run[-1] / 1e6 for block in blocks[name] for run in block]),
            "torch_over_this": ratio(medians, "torch", name),
            "yolo_predict_over_this": ratio(medians, "yolo predict", name),
        }
        for name in blocks
    ]
    record("deployment", rows)


def _trained(params: Params) -> Trained:
    """Fine-tune the detector, once."""
    dataset = prepared(params, STATE / "dataset")
    recipe, checkpoint = params.teacher["detect"], STATE / "checkpoint"
    if not (checkpoint / INFO).exists():
        job = Job("detect", recipe.model, recipe, params.machine, dataset, made(STATE / "training"))
        train(job, checkpoint, STATE / "history.csv", name="bccd", role="distilled", made_by="benchmark")
    size_mb = (checkpoint / "model.safetensors").stat().st_size / 1e6
    model = load_info(checkpoint).model_info()
    accuracy = evaluate(load(checkpoint), dataset, "test", params.evaluate, model=model, size_mb=size_mb)
    return Trained(checkpoint, accuracy, dataset, params.export, params.evaluate)


def _accuracies(trained: Trained, exported: Path) -> dict[str, dict[str, Any]]:
    """Put what the export stage has recorded beside OpenVINO, which is measured and gated here."""
    found = {"torch": {"ap": round(trained.accuracy.main, 4), "drop": 0.0, "alike": 1.0, "size_mb": None}}
    for precision in trained.export.precisions:
        runtime = f"onnxruntime-{precision}"
        accuracy = read_record(STATE / f"records/accuracy-{runtime}.json", Accuracy)
        found[runtime] = _row(accuracy, read_record(STATE / f"records/parity-{runtime}.json", Parity))
    for precision in PRECISIONS:
        file = exported / f"{precision}.onnx"
        accuracy, parity = measure(trained, load(file, runtime="openvino"), file.stat().st_size / 1e6)
        check_gate([parity])
        found[accuracy.runtime] = _row(accuracy, parity)
    return found


def _row(accuracy: Accuracy, parity: Parity) -> dict[str, Any]:
    return {
        "ap": round(accuracy.main, 4),
        "drop": round(parity.drop, 4),
        "alike": None if parity.agreement is None else round(parity.agreement, 4),
        "size_mb": round(accuracy.size_mb, 3),
    }


def _blocks(trained: Trained, backends: dict[str, Backend], params: Benchmark) -> dict[str, list[Block]]:
    """Let the runtimes and `yolo predict` take turns, as the benchmark stage does."""
    images = cycle([load_image(path) for path in trained.dataset.images("test")[:IMAGES]])
    calls: dict[str, Callable[[], object]] = {
        name: partial(run_image, backend, images, trained.evaluate) for name, backend in backends.items()
    }
    size = trained.dataset.info.image_size_px
    export_ultralytics(trained.checkpoint, STATE / "ultralytics.pt")
    yolo = YOLO(YOLO(STATE / "ultralytics.pt").export(format="onnx", imgsz=size, verbose=False), task="detect")

    def predict() -> object:
        bgr = next(images)[..., ::-1]  # as cv2.imread gives it
        return yolo.predict(bgr, imgsz=size, conf=SCORE_THRESHOLD, iou=trained.evaluate.nms_iou, verbose=False)

    calls["yolo predict"] = predict
    cases = [Case(1, ("whole",), partial(_timed, call)) for call in calls.values()]
    predict()
    torch.set_num_threads(available_threads())  # Ultralytics' first call leaves one core idle
    for case in cases:
        warm_up(case, params)
    return dict(zip(calls, take_turns(cases, params), strict=True))


def _timed(call: Callable[[], object]) -> Run:
    start = perf_counter_ns()
    call()
    return (perf_counter_ns() - start,)


if __name__ == "__main__":
    typer.run(main)
