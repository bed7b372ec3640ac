"""`MODEL_CARD.md`: what the model is, on what it was measured and how well, and what is not known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.backends import Metadata
from pipeline.bundle.device_records import MODES
from pipeline.data.prepared import DatasetInfo
from pipeline.evaluation.conditions import doubts_of
from pipeline.records import DeviceInfo, DeviceRecord, DeviceTiming, Latency, Parity, Timing
from pipeline.tasks import SCORES, main_title
from pipeline.text import printable

MARKUP: Final = re.compile(r"[\\`*\[\]|]")  # Markdown's own characters, those that could break a table or make a link
HTML: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
NOT_MEASURED: Final = "not measured"
PURPOSE: Final = {
    "detect": "It finds objects of the classes below in single images: boxes with scores.",
    "segment": "It says for each pixel of a single image which of the classes below it belongs to.",
}


def model_card(
    model: Metadata,
    student: str,
    checkpoint_digest: str,
    commit: str,
    *,
    files: Mapping[str, int],
    dataset: DatasetInfo,
    measurements: Mapping[str, bytes],
) -> str:
    """Write the model card.

    Args:
        model: What the fp32 file says about itself.
        student: Its name.
        checkpoint_digest: Of its weights.
        commit: Of the code that made the bundle.
        files: Path in the bundle of each ONNX file -> bytes.
        dataset: What it was trained and measured on.
        measurements: Name -> record; what is not there is called not measured.

    """
    records = {name: json.loads(content) for name, content in measurements.items()}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain,
    )
    return environment.get_template("card.md.j2").render(
        model=model,
        student=student,
        checkpoint_digest=checkpoint_digest,
        commit=commit,
        files=files,
        dataset=dataset,
        purpose=PURPOSE[model.task],
        main=main_title(model.task),
        score_titles=SCORES[model.task],
        accuracy=_of(records, "accuracy"),
        parity=[Parity.model_validate(record) for record in _of(records, "parity")],
        robustness=_of(records, "robustness"),
        latency=list(_latency_rows(records)),
        number=_number,
    )


def _plain(value: object) -> object:
    """Escape whatever the template prints, so that a name from a dataset or a device is text and nothing else."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    for character, entity in HTML.items():
        text = text.replace(character, entity)
    return MARKUP.sub(r"\\\g<0>", text)


def _of(records: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    return [record for name, record in records.items() if name.startswith(f"{kind}-")]


def _latency_rows(records: Mapping[str, Any]) -> Iterator[list[str]]:
    """List device, what ran where, batch, and p50, p90 and p99: of this machine's runs, and of devices' calls."""
    for name, content in records.items():
        if name == "latency":
            latency = Latency.model_validate(content)
            for row in latency.runtimes:
                where = [_device(latency.device), f"{row.runtime}, {row.device}, {latency.threads} threads"]
                yield [*where, "with letterbox and boxes", str(latency.batch_size), *_times(row.total, doubts_of(row))]
        elif name.startswith("device-"):
            record = DeviceRecord.model_validate(content)
            modes = [f"{mode}" for key, mode in record.state.items() if key in MODES]
            threads = [f"{record.threads} threads"] if record.threads else []
            for timing in record.timings:
                runtime = ", ".join([f"{timing.runtime} {timing.runtime_version}", timing.precision, *threads, *modes])
                times = _times(timing, doubts_of(timing))
                yield [_device(record.device), runtime, "the model alone", str(timing.batch_size), *times]


def _device(device: DeviceInfo) -> str:
    return " + ".join(filter(None, [device.cpu, device.gpu]))


def _times(row: Timing | DeviceTiming, doubts: list[str]) -> list[str]:
    """Write the median, unstable where it is, and the percentiles that rest on enough runs."""
    median = f"{row.p50_ms:.2f}" + (" (unstable)" if doubts else "")
    return [median, *("" if value is None else f"{value:.2f}" for value in (row.p90_ms, row.p99_ms))]


def _number(value: float | None, digits: int = 3) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"
