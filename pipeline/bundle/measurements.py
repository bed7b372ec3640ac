"""The records that travel with a bundle: those of this very checkpoint, as they are."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.records import Accuracy, DeviceRecord, Latency, Parity, Record, Robustness, read_record
from pipeline.tasks import Task

KINDS: dict[str, type[Record]] = {
    "accuracy": Accuracy,
    "parity": Parity,
    "robustness": Robustness,
    "latency": Latency,
    "device": DeviceRecord,
}
OF_MODELS = ("accuracy", "parity", "robustness")  # a file per runtime, in each of PLACES
PLACES = ("distilled", "export", "engine")  # of the checkpoint, of the ONNX files, of what this device built


def measurements_of(results: Path, task: Task, student: str, checkpoint_digest: str) -> dict[str, bytes]:
    """Collect a student's records; those of another checkpoint are left out, since they say nothing of this one.

    Returns:
        Name (`accuracy-onnxruntime-fp32`, `latency`, `device-<fingerprint>-<setting>`) -> the file's bytes, sorted.

    Raises:
        PipelineError: if a file is no JSON, or one of this checkpoint is no such record.

    """
    folders = [results / task / student / place for place in PLACES]
    files = {path.stem: path for kind in OF_MODELS for folder in folders for path in folder.glob(f"{kind}-*.json")}
    files["latency"] = results / "latency" / task / f"{student}.json"
    files |= {f"device-{path.parent.name}": path for path in results.glob(f"devices/*/{task}-{student}.json")}
    files |= {
        f"device-{path.parent.parent.name}-{path.stem}": path
        for path in results.glob(f"devices/*/{task}-{student}/*.json")
    }
    here = {name: path for name, path in sorted(files.items()) if path.is_file()}
    own = {name: path for name, path in here.items() if _digest_in(path) == checkpoint_digest}
    for name, path in own.items():
        read_record(path, KINDS[name.partition("-")[0]])
    return {name: path.read_bytes() for name, path in own.items()}


def _digest_in(path: Path) -> str | None:
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path} is not JSON ({error}): run `dvc repro`, or restore it with git") from None
    if not isinstance(record, dict):
        raise PipelineError(f"{path} is no record: run `dvc repro`, or restore it with git")
    model = record.get("model")
    digest = record.get("checkpoint_digest") or (model.get("digest") if isinstance(model, dict) else None)
    return str(digest) if digest else None
