"""The rows of the page's latency tables: phases, batches, and the conditions that they were measured under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.backends import DEVICE_PHASES
from pipeline.evaluation.conditions import warnings_of
from pipeline.records import Conditions, Latency
from pipeline.report.results import TaskResults

Row = dict[str, Any]


def latency_section(found: Sequence[TaskResults]) -> Row:
    """Gather all latencies, and each thing that makes them doubtful once."""
    measured: list[Row] = [
        {"task": results.task, "model": model, "record": model.latency, "timing": timing}
        for results in found
        for model in results.models()
        if model.latency
        for timing in model.latency.runtimes
    ]
    records: list[Latency] = [row["record"] for row in measured]
    return {
        "rows": measured,
        "phases": [
            row | {"phase": phase.replace("_", " "), "values": getattr(row["timing"], phase)}
            for row in measured
            for phase in ("preprocess", *DEVICE_PHASES, "postprocess")
            if row["timing"].compute is not None and getattr(row["timing"], phase) is not None
        ],
        "batches": [row | {"batch": batch} for row in measured for batch in row["timing"].batches],
        "warnings": list(dict.fromkeys(warning for record in records for warning in warnings_of(record))),
        "conditions": list({str(rows): rows for rows in map(_conditions, records) if rows}.values()),
    }


def _conditions(latency: Latency) -> list[tuple[str, str, str]]:
    """List what was read before and after: its name, and both readings."""
    before, after = latency.before, latency.after
    if before is None or after is None:
        return []
    olds, news = _readings(before), _readings(after)
    return [(name, olds.get(name, ""), news.get(name, "")) for name in olds | news]


def _readings(conditions: Conditions) -> dict[str, str]:
    texts = {"power mode": conditions.power_mode, "CPU governor": conditions.cpu_governor}
    numbers = (
        ("clock", "MHz", conditions.clocks_mhz),
        ("temperature", "°C", conditions.temperatures_c),
        ("power limit", "W", conditions.power_limits_w),
    )
    found = {name: text for name, text in texts.items() if text is not None}
    for what, unit, values in numbers:
        found |= {f"{what} of {name}": f"{value:.0f} {unit}" for name, value in values.items()}
    return found
