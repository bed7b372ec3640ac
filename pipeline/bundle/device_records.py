"""What a device measured, brought back into results/: a record per device and setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pipeline.digest import text_digest, value_digest
from pipeline.errors import PipelineError
from pipeline.records import Accuracy, DeviceRecord, DeviceTiming, read_record, write_record

MODES: Final = ("power_mode", "gpu_power_limit", "cpu_governor")  # of a record's state: they set the speed


@dataclass(frozen=True)
class Imported:
    """One record, and what importing it did."""

    path: Path
    record: DeviceRecord
    change: Literal["new", "replaced", "unchanged"]


def import_records(folder: Path, results: Path) -> list[Imported]:
    """Bring `records/*.json` of an unpacked bundle into results.

    Each becomes `results/devices/<fingerprint>/<task>-<student>/<setting>.json`, see `setting_digest`: another power
    mode, thread count, batch size or engine profile of one device is another record.

    Args:
        folder: The unpacked bundle, back from the device.
        results: The folder of records; it must know the checkpoint that was measured.

    Returns:
        What each record did; the same record a second time changes nothing.

    Raises:
        PipelineError: if there is no record, or one is malformed, has times that cannot be, is about another
            checkpoint than results has, or names a fingerprint that is not its device's or has another name than its
            content gives; nothing is written then.

    """
    files = sorted((folder / "records").glob("*.json"))
    if not files:
        raise PipelineError(f"{folder / 'records'} has no record: run `sh benchmark.sh` in the bundle on the device")
    if other := [path for path in files if not path.is_file()]:
        raise PipelineError(f"{other[0]}: expected a record, found no regular file there")
    records = [_checked(path, results) for path in files]
    return [_placed(record, results) for record in records]


def setting_digest(record: DeviceRecord) -> str:
    """Digest what a device's speed depends on beside the device: 8 hexadecimal digits.

    Power modes, threads, and every batch size with its engine's profile. The bundle's benchmark.py and benchmark.sh
    take the same digest of the same text.
    """
    shapes = sorted({_shape(timing) for timing in record.timings})
    modes = [record.state.get(name, "") for name in MODES]
    text = "|".join([*modes, str(record.threads or ""), ",".join(shapes)])
    return text_digest(text)[:8]


def _shape(timing: DeviceTiming) -> str:
    profile = timing.profile
    return f"{timing.batch_size}:" + (f"{profile.min}-{profile.opt}-{profile.max}" if profile else "")


def _checked(path: Path, results: Path) -> DeviceRecord:
    record = read_record(path, DeviceRecord)
    facts = record.device.model_dump(exclude={"fingerprint"})
    name = f"{record.device.fingerprint}-{setting_digest(record)}"
    if record.device.fingerprint != value_digest(facts) or path.stem not in {name, record.device.fingerprint}:
        raise PipelineError(
            f"{path}: the fingerprint {record.device.fingerprint} is not its device's ({value_digest(facts)}), or not "
            f"the file's name (expected {name}.json): a record is taken as benchmark.sh wrote it; measure again"
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
    _require_single_timings(path, record)
    return record


def _require_single_timings(path: Path, record: DeviceRecord) -> None:
    """Refuse two timings of the same thing."""
    seen = []
    for index, timing in enumerate(record.timings):
        measured = {key for key in type(timing).model_fields if key.endswith("_ms")} | {"runs", "warmup", "blocks"}
        what = timing.model_dump(exclude=measured)
        if what in seen:
            raise PipelineError(
                f"{path}: timings.{index}: {timing.runtime} {timing.precision} at batch {timing.batch_size} is there "
                "twice: a record has each timing once; measure again"
            )
        seen.append(what)


def _placed(record: DeviceRecord, results: Path) -> Imported:
    folder = results / "devices" / record.device.fingerprint / f"{record.task}-{record.student}"
    path = folder / f"{setting_digest(record)}.json"
    if not path.is_file():
        change: Literal["new", "replaced", "unchanged"] = "new"
    else:
        change = "unchanged" if read_record(path, DeviceRecord) == record else "replaced"
    if change != "unchanged":
        write_record(path, record)
    return Imported(path, record, change)
