"""What `predict` is given: files, folders, patterns and videos, as a list of images to run."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pipeline.bundle.manifest import NAME
from pipeline.decoding.decode import quiet_opencv
from pipeline.decoding.header import IMAGE_SUFFIXES
from pipeline.errors import PipelineError
from pipeline.preprocess import Image, load_image

VIDEO_SUFFIXES: Final = frozenset(
    [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".asf", ".ogv"]
)
MODEL_SUFFIXES: Final = frozenset([".zip", ".onnx", ".pt", ".plan", ".engine"])
COMPLETE: Final = 0.9  # a video that ends before this share of its declared length is damaged; lengths are estimates
WILDCARD: Final = re.compile(r"[*?[]")
ONE_MODEL: Final = "is a model: predict takes one model, as its first argument"
# What is no file: a pattern of the whole argument, and what to say of it.
UNSUPPORTED: Final = {
    r"-": "standard input is not read: write the image to a file and give its name",
    r"[A-Za-z][A-Za-z0-9+.-]*://.*": "a URL is not read: download it and give the file",
    r"\d+|/dev/video\d+": "no such file, and a camera is not read: record a video and give the file",
}


@dataclass(frozen=True)
class PredictInput:
    """One image or video file; or why an argument is neither."""

    name: str
    error: str | None = None

    @property
    def path(self) -> Path:
        """Return the name as a path."""
        return Path(self.name)

    @property
    def is_video(self) -> bool:
        """Tell a video from an image by its suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def expand_inputs(arguments: Sequence[str]) -> list[PredictInput]:
    """List the images and videos that the arguments mean: files as given, folders and patterns in order of names."""
    return [found for argument in arguments for found in _expand(argument)]


def read_frames(given: PredictInput) -> Iterator[tuple[str, Image]]:
    """Decode an input.

    Yields:
        Name and (H, W, 3) uint8 RGB: one for an image; for a video one per frame, named `clip.mp4#0`, `clip.mp4#1`, ...

    Raises:
        PipelineError: if it cannot be read.

    """
    if given.error is not None:
        raise PipelineError(f"{given.name}: {given.error}")
    if given.is_video:
        yield from _video_frames(given.name)
    else:
        yield given.name, load_image(given.path)


def _expand(argument: str) -> list[PredictInput]:
    kind = _kind(Path(argument)) if argument else "missing"  # an empty path would be this folder
    if kind == "file":
        is_model = Path(argument).suffix.lower() in MODEL_SUFFIXES
        return [PredictInput(str(Path(argument)), ONE_MODEL if is_model else None)]
    if kind == "folder":
        return _folder(Path(argument))
    reason = next((why for pattern, why in UNSUPPORTED.items() if re.fullmatch(pattern, argument, re.DOTALL)), None)
    if reason is None and kind == "missing" and WILDCARD.search(argument):
        return _matching(argument) or [PredictInput(argument, "no image or video matches this pattern")]
    return [PredictInput(argument, reason or ("no such file" if kind == "missing" else "is no regular file"))]


def _kind(path: Path) -> str:
    """Return file, folder, other or missing; a name that is too long is missing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "missing"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def _folder(folder: Path) -> list[PredictInput]:
    if _kind(folder / NAME) == "file":
        return [PredictInput(str(folder), ONE_MODEL)]
    try:
        found = _pictures(folder.iterdir())
    except OSError as error:
        return [PredictInput(str(folder), f"cannot be read: {error.strerror}")]
    return found or [PredictInput(str(folder), "the folder holds no image or video; its subfolders do not count")]


def _matching(pattern: str) -> list[PredictInput]:
    anchor = Path(pattern).anchor
    try:
        return _pictures(Path(anchor).glob(pattern.removeprefix(anchor)))
    except (ValueError, OSError, NotImplementedError):  # such as `**a`
        return []


def _pictures(files: Iterable[Path]) -> list[PredictInput]:
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    shown = [file for file in files if file.suffix.lower() in suffixes and not file.name.startswith(".")]
    return [PredictInput(str(file)) for file in sorted(shown) if _kind(file) == "file"]


def _video_frames(name: str) -> Iterator[tuple[str, Image]]:
    try:
        name.encode()  # OpenCV crashes on a name with bytes that are no UTF-8
    except UnicodeEncodeError:
        raise PipelineError(f"{name}: the name of a video should be UTF-8: rename it") from None
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # errors come from here, not from FFmpeg
    count, end_s = 0, 0.0
    with quiet_opencv():
        video = cv2.VideoCapture(name)
    try:
        rate, frames = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
        while (frame := _next_frame(video)) is not None:
            yield f"{name}#{count}", frame
            count, end_s = count + 1, video.get(cv2.CAP_PROP_POS_MSEC) / 1000
    finally:
        video.release()
    if not count:
        raise PipelineError(f"{name}: OpenCV cannot read this video: it is damaged, or its codec is not installed")
    declared_s = frames / rate if rate > 0 else 0.0
    if end_s + 1 / max(rate, 1) < COMPLETE * declared_s:
        raise PipelineError(f"{name}: ends after {end_s:.1f} of {declared_s:.1f} s: it is damaged or truncated")


def _next_frame(video: cv2.VideoCapture) -> Image | None:
    with quiet_opencv():
        more, frame = video.read()  # (H, W, 3) BGR
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8) if more else None
