"""Run an exported model on images, on a device: numpy, OpenCV and ONNX Runtime, no torch.

predictor = Predictor(Path("micro-s.zip"))
found = predictor(Path("street.jpg"))    # [Box(xyxy=(12.1, 8.9, 40.2, 61.0), score=0.87, name="circle"), ...]
picture = predictor.drawn(Path("street.jpg"))
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from pipeline.backends import Backend, load
from pipeline.backends.outputs import output_fault
from pipeline.bundle.manifest import NAME, REFERENCE
from pipeline.bundle.unpack import check_folder, unpack
from pipeline.colours import colour_of
from pipeline.errors import PipelineError
from pipeline.evaluation.detect import detections
from pipeline.preprocess import Image, letterbox, load_image, undo, undo_map
from pipeline.text import printable

SCORE_THRESHOLD: Final = 0.25  # these three as in `yolo predict`
NMS_IOU: Final = 0.7
MAX_DETECTIONS: Final = 300
BACKGROUND: Final = "background"  # the class of this name stays uncoloured
MAX_LABELS: Final = 20  # boxes with a label of their own: more would hide the objects, and a legend names the colors
FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
LEGEND_LINE, LEGEND_SCALE = 20, 0.4  # pixels, and OpenCV's font scale
TINT: Final = 0.5
EXPECTED: Final = "expected a bundle (.zip or unpacked) or an .onnx file"

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
            PipelineError: if it is none of these, the bundle is damaged, or the threshold is outside 0 to 1.

        """
        if not 0 <= threshold <= 1:
            raise PipelineError(f"threshold: expected a number from 0 to 1, got {threshold}")
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
            PipelineError: if it is no such image, or the model gives what its metadata does not allow.

        """
        square, transform = letterbox(_pixels(image), self.backend.metadata.image_size_px)
        outputs = self.backend(square[None])
        if fault := output_fault(self.backend.metadata, 1, outputs):
            raise PipelineError(f"the model's answer is not what its metadata says: {fault}; export it again")
        output = outputs[0]
        if self.task == "segment":
            return undo_map(output[0], transform)
        (rows,) = detections(
            output,
            end2end=self.backend.metadata.end2end,
            score_threshold=self.threshold,
            nms_iou=NMS_IOU,
            max_detections=MAX_DETECTIONS,
            multi_label=False,
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

    def legend(self, found: Found, width: int) -> Image:
        """Draw the names of the classes in their colors, as a strip to put under a picture.

        Args:
            found: What the call gave.
            width: Of the strip, in pixels.

        Returns:
            (H, width, 3) uint8 RGB; H is 0 where the picture needs none.

        """
        if isinstance(found, list):
            names = {box.name for box in found} if len(found) > MAX_LABELS else set()
        else:
            names = {self.classes[index] for index in np.unique(found)} - {BACKGROUND}
        entries = [(name, self._colour(name)) for name in self.classes if name in names]
        strip = np.full((LEGEND_LINE * _lines(entries, width), width, 3), 255, dtype=np.uint8)
        for name, colour, x, y in _places(entries, width):
            cv2.rectangle(strip, (x, y + 4), (x + 12, y + 16), colour, cv2.FILLED)
            cv2.putText(strip, printable(name), (x + 18, y + 15), FONT, LEGEND_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
        return strip

    def _colour(self, name: str) -> tuple[int, int, int]:
        """Return a class's color: the background has none among a segmenter's."""
        names = self.classes if self.task == "detect" else [other for other in self.classes if other != BACKGROUND]
        return colour_of(names.index(name))

    def _boxes(self, pixels: Image, boxes: list[Box]) -> Image:
        picture = np.ascontiguousarray(pixels.copy())
        width = max(1, round(max(picture.shape) / 300))
        scale = max(0.35, max(picture.shape) / 1200)
        for box in reversed(boxes):  # the best on top
            x0, y0, x1, y1 = (round(side) for side in box.xyxy)
            colour = self._colour(box.name)
            cv2.rectangle(picture, (x0, y0), (x1, y1), (0, 0, 0), width + 2)  # a dark rim: visible on any image
            cv2.rectangle(picture, (x0, y0), (x1, y1), colour, width)
            if len(boxes) > MAX_LABELS:
                continue
            text = printable(f"{box.name} {box.score:.2f}")
            (long, high), below = cv2.getTextSize(text, FONT, scale, width)
            top = y0 if y0 < high + below else y0 - high - below
            cv2.rectangle(picture, (x0, top), (x0 + long, top + high + below), colour, cv2.FILLED)
            cv2.putText(picture, text, (x0, top + high), FONT, scale, (0, 0, 0), width, cv2.LINE_AA)
        return picture

    def _tinted(self, pixels: Image, classes: ClassMap) -> Image:
        table, strength = np.zeros((len(self.classes), 3)), np.zeros(len(self.classes))
        for index, name in enumerate(self.classes):
            if name != BACKGROUND:
                table[index], strength[index] = self._colour(name), TINT
        share = strength[classes][..., None]  # (H, W, 1)
        return np.asarray((1 - share) * pixels + share * table[classes], dtype=np.uint8)


def _lines(entries: Sequence[tuple[str, Any]], width: int) -> int:
    """Count the lines that a legend needs."""
    return max((y // LEGEND_LINE + 1 for *_, y in _places(entries, width)), default=0)


def _places(entries: Sequence[tuple[str, Any]], width: int) -> Iterator[tuple[str, Any, int, int]]:
    """Place a legend's entries side by side, a new line where one is full."""
    x = y = 0
    for name, colour in entries:
        needed = 18 + cv2.getTextSize(printable(name), FONT, LEGEND_SCALE, 1)[0][0] + 12
        if x and x + needed > width:
            x, y = 0, y + LEGEND_LINE
        yield name, colour, x, y
        x += needed


def _load(model: Path, threads: int) -> Backend:
    try:
        present = model.exists()
    except OSError as error:  # such as a name that is too long
        raise PipelineError(f"{model} cannot be read: {error.strerror}") from None
    if not present:
        raise PipelineError(f"{model}: no such file: {EXPECTED}")
    if (model / NAME).is_file():
        check_folder(model)
        return load(model / REFERENCE, threads=threads)
    if model.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            unpack(model, Path(folder) / "bundle")
            return load(Path(folder) / "bundle" / REFERENCE, threads=threads)
    if model.suffix == ".onnx":
        return load(model, threads=threads)
    raise PipelineError(f"{model}: {EXPECTED}")


def _pixels(image: Path | Image) -> Image:
    if isinstance(image, Path):
        return load_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise PipelineError(f"expected an image (H, W, 3) uint8 RGB, got {image.dtype} of shape {image.shape}")
    return image
