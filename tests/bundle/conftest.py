"""Bundles of two tiny exported models, with made-up records of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.bundle.unpack import unpack
from pipeline.bundle.write import write_bundle
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.device import probe
from pipeline.export.onnx import export_onnx
from pipeline.records import Latency, write_record
from pipeline.tasks import Task
from tests.report.made_up import accuracy, parity, robustness, runtime_latency
from tests.tiny import awake, export_params_of, save

MODELS: dict[Task, str] = {"detect": "micro-n.yaml", "segment": "micro-n-sem.yaml"}


@dataclass(frozen=True)
class Shipped:
    """A bundle and what it was made of."""

    task: Task
    file: Path
    export: Path
    results: Path
    digest: str


def write_records(results: Path, checkpoint: Path, task: Task) -> None:
    info = load_info(checkpoint).model_info().model_copy(update={"role": "distilled"})
    folder = results / task / "toy/distilled"
    for runtime, score in (("torch", 0.5), ("onnxruntime-fp32", 0.4987)):
        write_record(folder / f"accuracy-{runtime}.json", accuracy(info, runtime, 0.46, score))
        write_record(folder / f"robustness-{runtime}.json", robustness(info, runtime, score))
    write_record(results / task / "toy/export/parity-onnxruntime-fp32.json", parity(info, 0.5))
    runtimes = [runtime_latency("onnxruntime-fp32", 1.5)]
    latency = Latency(model=info, device=probe(), threads=2, batch_size=1, runtimes=runtimes)
    write_record(results / "latency" / task / "toy.json", latency)


@pytest.fixture(scope="session", params=["detect", "segment"])
def shipped(
    request: pytest.FixtureRequest, mini_dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Shipped:
    task: Task = request.param
    root = tmp_path_factory.mktemp(task)
    checkpoint = save(root / "toy", awake(MODELS[task], task, mini_dataset.task_classes(task)), task)
    params = export_params_of()
    export_onnx(checkpoint, root / "export/fp32.onnx", params)
    write_records(root / "results", checkpoint, task)
    write_bundle(root / "toy.zip", export=root / "export", results=root / "results", dataset=mini_dataset)
    return Shipped(task, root / "toy.zip", root / "export", root / "results", load_info(checkpoint).digest)


@pytest.fixture
def unpacked(shipped: Shipped, tmp_path: Path) -> Path:
    unpack(shipped.file, tmp_path / "device")
    return tmp_path / "device"
