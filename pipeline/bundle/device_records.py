"""What a device measured, brought back into results/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.digest import value_digest
from pipeline.errors import PipelineError
from pipeline.records import Accuracy, DeviceRecord, read_record, write_record


@dataclass(frozen=True)
class Imported:
    """One record, and what importing it did."""

    path: Path
    record: DeviceRecord
    change: Literal["new", "replaced", "unchanged"]


def import_records(folder: Path, results: Path) -> list[Imported]:
    """Bring `records/*.json` of an unpacked bundle into `results/devices/<fingerprint>/<task>-<student>.json`.

    Args:
        folder: The unpacked bundle, back from the device.
        results: The folder of records; it must know the checkpoint that was measured.

    Returns:
        What each record did; the same record a second time changes nothing.

    Raises:
        PipelineError: if there is no record, or one is malformed, has times that cannot be, is about another
            checkpoint than results has, or names a fingerprint that is not its device's; nothing is written then.

    """
    files = sorted((folder / "records").glob("*.json"))
    if not files:
        raise PipelineError(f"{folder / 'records'} has no record: run `sh benchmark.sh` in the bundle on the device")
    records = [_checked(path, results) for path in files]
    return [_placed(record, results) for record in records]


def _checked(path: Path, results: Path) -> DeviceRecord:
    record = read_record(path, DeviceRecord)
    facts = record.device.model_dump(exclude={"fingerprint"})
    if not record.device.fingerprint == value_digest(facts) == path.stem:
        raise PipelineError(
            f"{path}: the fingerprint {record.device.fingerprint} is not its device's ({value_digest(facts)}), or not "
            "the file's name: a record is taken as benchmark.sh wrote it; measure again"
        )
    known = results / record.task / record.student / "distilled/accuracy-torch.json"
    if not known.is_file():
        raise PipelineError(f"{path} is about {record.task} student {record.student}, of which {results} knows nothing")
    model = read_record(known, Accuracy).model
    if model.digest != record.checkpoint_digest:
        raise PipelineError(
            f"{path} was measured with checkpoint {record.checkpoint_digest} of {record.student}, but {known} is about "
            f"{model.digest}: check out the commit of that bundle ({record.commit}), or bundle and measure again"
        )
    if model.image_size_px != record.image_size_px:
        raise PipelineError(
            f"{path}: image_size_px: expected {model.image_size_px}, the checkpoint's, got {record.image_size_px}: a "
            "record is taken as benchmark.sh wrote it; measure again"
        )
    _require_plausible(path, record)
    return record


def _require_plausible(path: Path, record: DeviceRecord) -> None:
    """Refuse percentiles that fall, and two timings of the same thing."""
    seen = []
    for index, timing in enumerate(record.timings):
        times = [time for time in (timing.p50_ms, timing.p90_ms, timing.p99_ms) if time is not None]
        if times != sorted(times):
            raise PipelineError(
                f"{path}: timings.{index}: expected p50_ms <= p90_ms <= p99_ms, got {', '.join(map(str, times))}: "
                "measure again"
            )
        what = timing.model_dump(exclude={key for key in type(timing).model_fields if key.endswith("_ms")} | {"runs"})
        if what in seen:
            raise PipelineError(
                f"{path}: timings.{index}: {timing.runtime} {timing.precision} at batch {timing.batch_size} is there "
                "twice: a record has each timing once; measure again"
            )
        seen.append(what)


def _placed(record: DeviceRecord, results: Path) -> Imported:
    path = results / "devices" / record.device.fingerprint / f"{record.task}-{record.student}.json"
    if not path.is_file():
        change: Literal["new", "replaced", "unchanged"] = "new"
    else:
        change = "unchanged" if read_record(path, DeviceRecord) == record else "replaced"
    if change != "unchanged":
        write_record(path, record)
    return Imported(path, record, change)
