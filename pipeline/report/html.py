"""One self-contained HTML page: tables out of records, pictures inside, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruamel.yaml import YAML

from pipeline.data.prepared import SPLITS, PreparedDataset
from pipeline.evaluation.latency_table import short, span, steadiness
from pipeline.params import Params
from pipeline.records import BatchLatency, Blocks, RuntimeLatency
from pipeline.report.history import Commit, History
from pipeline.report.latency import latency_section
from pipeline.report.pictures import Picture
from pipeline.report.results import TaskResults
from pipeline.report.sections import COUNTED_MASKS, devices, section
from pipeline.tasks import SCORES, Task

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def render_html(
    found: Sequence[TaskResults],
    dataset: PreparedDataset,
    params: Params,
    *,
    pictures: Mapping[Task, Sequence[Picture]],
    history: History,
    commit: Commit | None,
) -> str:
    """Render the whole report; equal inputs give equal text."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"score": _score, "signed": _signed, "short": _short, "percent": _percent, "times": _times}
    environment.filters |= {"span": _span, "steadiness": _steadiness}
    return environment.get_template("template.html.j2").render(
        sections=[section(results, dataset, history) for results in found],
        scores=SCORES,
        pictures={task: [(picture, _data_uri(picture.path)) for picture in drawn] for task, drawn in pictures.items()},
        latency=latency_section(found),
        devices=devices(found),
        history_note=history.note,
        commit=commit,
        dataset=dataset.info,
        splits=[(split, dataset.info.splits[split]) for split in SPLITS if split in dataset.info.splits],
        calibration=len(dataset.calibration_images),
        counted_masks=COUNTED_MASKS,
        params_yaml=params_yaml(params),
        dash=DASH,
    )


def params_yaml(params: Params) -> str:
    """Write the parameters that were used as YAML."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(params.model_dump(mode="json"), stream)
    return stream.getvalue()


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _score(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.3f}".replace("-", MINUS)


def _short(value: float | None) -> str:
    return DASH if value is None else short(value)


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.0f} %"


def _times(value: float | None) -> str:
    return DASH if value is None else f"{_short(value)}{TIMES}"


def _span(blocks: Blocks | None) -> str:
    return span(blocks) or DASH


def _steadiness(row: RuntimeLatency | BatchLatency) -> str:
    return steadiness(row) or DASH
