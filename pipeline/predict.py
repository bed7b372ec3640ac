"""Run an exported model on images, on a device: numpy, OpenCV and ONNX Runtime, no torch.

predictor = Predictor(Path("micro-s.zip"))
found = predictor(Path("street.jpg"))    # [Box(xyxy=(12.1, 8.9, 40.2, 61.0), score=0.87, name="circle"), ...]
picture = predictor.drawn(Path("street.jpg"))
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pipeline.backends import Backend, load
from pipeline.bundle.manifest import NAME, REFERENCE
from pipeline.bundle.unpack import check_folder, unpack
from pipeline.colours import colour_of
from pipeline.errors import PipelineError
from pipeline.evaluation.detect import detections
from pipeline.preprocess import Image, letterbox, load_image, undo, undo_map

SCORE_THRESHOLD: Final = 0.25  # these three as in `yolo predict`
NMS_IOU: Final = 0.7
MAX_DETECTIONS: Final = 300
BACKGROUND: Final = "background"  # the class of this name stays uncoloured
TINT: Final = 0.5

ClassMap = Image  # (H, W) uint8 class ids


@dataclass(frozen=True)
class Box:
    """One object: xyxy in pixels of the image as given, its score in [0, 1] and its class."""

    xyxy: tuple[float, float, float, float]
    score: float
    name: str


Found = list[Box] | ClassMap


class Predictor:
    """An exported model, ready to run on the CPU."""

    def __init__(self, model: Path, *, threshold: float = SCORE_THRESHOLD, threads: int = 0) -> None:
        """Load a model.

        Args:
            model: A bundle, zipped or unpacked, whose fp32 model is taken; or an ONNX file of this pipeline.
            threshold: Boxes score above it.
            threads: CPU threads, 0 for all that this process may use.

        Raises:
            PipelineError: if it is none of these, or the bundle is damaged.

        """
        self.threshold = threshold
        self.backend = _load(model, threads)
        self.task, self.classes = self.backend.metadata.task, self.backend.metadata.classes

    def __call__(self, image: Path | Image) -> Found:
        """Find the objects of an image, best first, or the class of each pixel.

        Args:
            image: A file, or (H, W, 3) uint8 RGB.

        Returns:
            A detector's boxes; a segmenter's class ids (H, W). Both in pixels of that image.

        Raises:
            PipelineError: if it is no such image.

        """
        square, transform = letterbox(_pixels(image), self.backend.metadata.image_size_px)
        output = self.backend(square[None])[0]
        if self.task == "segment":
            return undo_map(output[0], transform)
        (rows,) = detections(
            output,
            end2end=self.backend.metadata.end2end,
            score_threshold=self.threshold,
            nms_iou=NMS_IOU,
            max_detections=MAX_DETECTIONS,
        )
        return [
            Box((float(x0), float(y0), float(x1), float(y1)), float(score), self.classes[int(kind)])
            for (x0, y0, x1, y1), (score, kind) in zip(undo(rows[:, :4], transform), rows[:, 4:], strict=True)
        ]

    def drawn(self, image: Path | Image, found: Found | None = None) -> Image:
        """Draw into a copy of an image what was found in it.

        Args:
            image: As for a call.
            found: What the call gave; None to run the model.

        Returns:
            (H, W, 3) uint8 RGB.

        """
        pixels = _pixels(image)
        found = self(pixels) if found is None else found
        return self._boxes(pixels, found) if isinstance(found, list) else self._tinted(pixels, found)

    def _boxes(self, pixels: Image, boxes: list[Box]) -> Image:
        picture = np.ascontiguousarray(pixels.copy())
        width = max(1, round(max(picture.shape) / 300))
        scale = max(0.35, max(picture.shape) / 1200)
        for box in reversed(boxes):  # the best on top
            x0, y0, x1, y1 = (round(side) for side in box.xyxy)
            colour = colour_of(self.classes.index(box.name))
            cv2.rectangle(picture, (x0, y0), (x1, y1), (0, 0, 0), width + 2)  # a dark rim: visible on any image
            cv2.rectangle(picture, (x0, y0), (x1, y1), colour, width)
            text = f"{box.name} {box.score:.2f}"
            (long, high), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
            top = y0 if y0 < high + below else y0 - high - below
            cv2.rectangle(picture, (x0, top), (x0 + long, top + high + below), colour, cv2.FILLED)
            cv2.putText(picture, text, (x0, top + high), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), width, cv2.LINE_AA)
        return picture

    def _tinted(self, pixels: Image, classes: ClassMap) -> Image:
        coloured = [index for index, name in enumerate(self.classes) if name != BACKGROUND]
        table, strength = np.zeros((256, 3)), np.zeros(256)
        for place, index in enumerate(coloured):
            table[index], strength[index] = colour_of(place), TINT
        share = strength[classes][..., None]  # (H, W, 1)
        return np.asarray((1 - share) * pixels + share * table[classes], dtype=np.uint8)


def predict_files(
    model: Path, images: Sequence[Path], *, out: Path | None, as_json: bool, threshold: float
) -> Iterator[str]:
    """Run a model on image files, one line of text or JSON each.

    Args:
        model: As for `Predictor`.
        images: The files.
        out: Folder for `<stem>.png` with what was found drawn in, and a segmenter's `<stem>.classes.png`; or None.
        as_json: `{"image", "boxes"}`, or `{"image", "classes"}` with each class's share of the pixels.
        threshold: Boxes score above it.

    Raises:
        PipelineError: if the model or an image cannot be read, or two images would be written to one file.

    """
    stems = [path.stem for path in images]
    if out is not None and len(set(stems)) < len(stems):
        raise PipelineError(
            f"--out {out}: several images are called {max(stems, key=stems.count)}: run them one by one"
        )
    predictor = Predictor(model, threshold=threshold)
    for path in images:
        pixels = load_image(path)
        found = predictor(pixels)
        if out is not None:
            _write(out / f"{path.stem}.png", cv2.cvtColor(predictor.drawn(pixels, found), cv2.COLOR_RGB2BGR))
            if not isinstance(found, list):
                _write(out / f"{path.stem}.classes.png", found)
        yield (_json if as_json else _text)(path, found, predictor.classes)


def _load(model: Path, threads: int) -> Backend:
    if (model / NAME).is_file():
        check_folder(model)
        return load(model / REFERENCE, threads=threads)
    if model.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            unpack(model, Path(folder) / "bundle")
            return load(Path(folder) / "bundle" / REFERENCE, threads=threads)
    if model.suffix == ".onnx":
        return load(model, threads=threads)
    raise PipelineError(f"{model}: expected a bundle (.zip or unpacked) or an .onnx file")


def _pixels(image: Path | Image) -> Image:
    if isinstance(image, Path):
        return load_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise PipelineError(f"expected an image (H, W, 3) uint8 RGB, got {image.dtype} of shape {image.shape}")
    return image


def _write(path: Path, pixels: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise PipelineError(f"{path} cannot be written")


def _json(path: Path, found: Found, classes: Sequence[str]) -> str:
    seen = [asdict(box) for box in found] if isinstance(found, list) else _shares(found, classes)
    return json.dumps({"image": str(path), "boxes" if isinstance(found, list) else "classes": seen})


def _text(path: Path, found: Found, classes: Sequence[str]) -> str:
    if isinstance(found, list):
        seen = [f"{box.name} {box.score:.2f} at {' '.join(f'{side:.0f}' for side in box.xyxy)}" for box in found]
    else:
        seen = [f"{name} {100 * share:.1f} %" for name, share in _shares(found, classes).items()]
    return f"{path}: {'; '.join(seen) or 'nothing'}"


def _shares(found: ClassMap, classes: Sequence[str]) -> dict[str, float]:
    """Each class that the map has, and its share of the pixels, largest first."""
    counts = np.bincount(found.ravel(), minlength=len(classes)) / found.size
    return {classes[index]: float(counts[index]) for index in np.argsort(-counts, kind="stable") if counts[index]}
