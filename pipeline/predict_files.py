"""`predict` on files: one line each, drawings beside them, and no file overwritten."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import PipelineError
from pipeline.files import write_bytes
from pipeline.predict import ClassMap, Found, Predictor
from pipeline.predict_inputs import PredictInput, expand_inputs, read_frames
from pipeline.preprocess import Image
from pipeline.text import printable

# The parts of `street.jpg.predicted.png`: the whole name comes first, so that x.jpg and x.png differ.
DRAWING, CLASS_MAP = "predicted", "classes"


@dataclass(frozen=True)
class Line:
    """One line to print, of a result or of an error."""

    text: str
    failed: bool = False


def predict_files(
    model: Path, arguments: Sequence[str], *, out: Path | None, as_json: bool, threshold: float
) -> Iterator[Line]:
    """Run a model on images, one line of text or JSON each. What cannot be read gives a line that says why.

    Args:
        model: As for `Predictor`.
        arguments: Files, folders, patterns and videos; a video counts as its frames.
        out: Folder for `<name>.predicted.png` with what was found drawn in, and a segmenter's `<name>.classes.png`;
            or None.
        as_json: `{"image", "boxes"}`, or `{"image", "classes"}` with each class's share of the pixels, or
            `{"image", "error"}`.
        threshold: Boxes score above it.

    Raises:
        PipelineError: if the model cannot be read, or a drawing would meet an existing file or another drawing; then
            nothing was run or written.

    """
    predictor = Predictor(model, threshold=threshold)
    inputs = expand_inputs(arguments)
    if out is not None:
        _require_folder(out)
        _require_free(out, inputs, [DRAWING, CLASS_MAP] if predictor.task == "segment" else [DRAWING])
    for given in inputs:
        try:
            for name, pixels in read_frames(given):
                found = predictor(pixels)
                if out is not None:
                    drawn = np.concatenate([predictor.drawn(pixels, found), predictor.legend(found, pixels.shape[1])])
                    _write_pictures(out, name, drawn, found)
                yield Line((_json if as_json else _text)(name, found, predictor.classes))
        except PipelineError as error:
            yield _error_line(given.name, str(error), as_json)


def _require_folder(out: Path) -> None:
    """Raise a PipelineError unless files can be written below `out`, which may not exist yet."""
    existing = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not existing.is_dir():
        raise PipelineError(f"--out {out}: expected a folder, but {existing} is a file: give another name")
    if not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        raise PipelineError(f"--out {out}: no permission to write to {existing}: give another folder")


def _require_free(out: Path, inputs: Sequence[PredictInput], kinds: Sequence[str]) -> None:
    """Raise a PipelineError if a picture would replace a file, or two would have one name."""
    names = [given.path.name for given in inputs if given.error is None]
    counts = Counter(name.casefold() for name in names)  # some file systems do not tell case apart
    for name in names:
        if counts[name.casefold()] > 1:
            raise PipelineError(f"--out {out}: several inputs are called {name}: run them one by one")
    present = [file.name for file in out.iterdir()] if os.path.lexists(out) else []
    planned = {_picture(out, name, kind).name for name in names for kind in kinds}
    videos = tuple(f"{given.path.name}#" for given in inputs if given.is_video)
    if taken := [name for name in present if name in planned or (videos and name.startswith(videos))]:
        more = f" and {len(taken) - 1} more exist" if len(taken) > 1 else " exists"
        raise PipelineError(f"{out / min(taken)}{more}: predict overwrites nothing: give --out another folder")


def _picture(out: Path, name: str, kind: str) -> Path:
    return out / f"{Path(name).name}.{kind}.png"


def _write_pictures(out: Path, name: str, drawn: Image, found: Found) -> None:
    pictures = {DRAWING: cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)}
    if not isinstance(found, list):
        pictures[CLASS_MAP] = found
    for kind, pixels in pictures.items():
        path = _picture(out, name, kind)
        if os.path.lexists(path):
            raise PipelineError(f"{path} exists: predict overwrites nothing: give --out another folder")
        try:
            write_bytes(path, bytes(cv2.imencode(".png", pixels)[1]))
        except OSError as error:
            raise PipelineError(f"{path} cannot be written: {error.strerror}") from None


def _error_line(name: str, message: str, as_json: bool) -> Line:
    if as_json:
        return Line(json.dumps({"image": name, "error": message.removeprefix(f"{name}: ")}), failed=True)
    return Line(f"ERROR {printable(message)}", failed=True)


def _json(name: str, found: Found, classes: Sequence[str]) -> str:
    seen = [asdict(box) for box in found] if isinstance(found, list) else _shares(found, classes)
    return json.dumps({"image": name, "boxes" if isinstance(found, list) else "classes": seen})


def _text(name: str, found: Found, classes: Sequence[str]) -> str:
    if isinstance(found, list):
        seen = [f"{box.name} {box.score:.2f} at {' '.join(f'{side:.0f}' for side in box.xyxy)}" for box in found]
    else:
        seen = [f"{name} {100 * share:.1f} %" for name, share in _shares(found, classes).items()]
    return printable(f"{name}: {'; '.join(seen) or 'nothing'}")


def _shares(found: ClassMap, classes: Sequence[str]) -> dict[str, float]:
    """Each class that the map has, and its share of the pixels, largest first."""
    counts = np.bincount(found.ravel(), minlength=len(classes)) / found.size
    return {classes[index]: float(counts[index]) for index in np.argsort(-counts, kind="stable") if counts[index]}
