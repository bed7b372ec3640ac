"""`MODEL_CARD.md`: what the model is, on what it was measured and how well, and what is not known."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.backends import Metadata
from pipeline.data.prepared import DatasetInfo
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
        parity=_of(records, "parity"),
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
    """List device, what ran where, and p50, p90 and p99: of this machine's end-to-end runs, and of devices' calls."""
    for name, record in records.items():
        device = record.get("device", {})
        where = " + ".join(filter(None, [device.get("cpu"), device.get("gpu")]))
        if name == "latency":
            for row in record.get("runtimes", []):
                yield [where, f"{row['runtime']}, {row['device']}", "with letterbox and boxes", *_times(row["total"])]
        elif name.startswith("device-"):
            for row in (row for row in record["timings"] if row["batch_size"] == 1):
                runtime = f"{row['runtime']} {row['runtime_version']}, {row['precision']}"
                yield [where, runtime, "the model alone", *_times(row)]


def _times(row: Mapping[str, float]) -> list[str]:
    return [f"{row[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")]


def _number(value: float | None, digits: int = 3) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"
