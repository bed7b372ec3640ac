"""Images that look the same although their bytes differ: copies that were encoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.defects import Defect
from pipeline.data.images import ImageFacts
from pipeline.data.prepared import SPLITS
from pipeline.data.source import RawItem, relative
from pipeline.decoding.decode import quiet_opencv

SIDE = 16  # of the thumbnails that decide
MAX_BITS = 10  # of 64 in which the hashes of copies may differ: who passes is compared by thumbnail
MAX_DIFFERENCE = 8  # grey levels, in every cell of the thumbnails: what strong JPEG compression changes
MIN_CONTRAST = 8.0  # standard deviation in grey levels: flat images are all alike
REDUCIBLE_PX = 4 * 8 * SIDE  # a JPEG with this shorter side is decoded at a quarter, which is faster
JPEG_START = b"\xff\xd8"


@dataclass(frozen=True)
class Look:
    """What an image looks like: a 64-bit difference hash, and a grey thumbnail, (SIDE, SIDE)."""

    bits: int
    grey: npt.NDArray[np.uint8]


def look_at(file: tuple[Path, ImageFacts]) -> Look | None:
    """Describe an image; None if it cannot be decoded, or is too flat to be told from others."""
    path, facts = file
    content = path.read_bytes()
    reduced = content.startswith(JPEG_START) and min(facts.size) >= REDUCIBLE_PX
    flag = cv2.IMREAD_REDUCED_GRAYSCALE_4 if reduced else cv2.IMREAD_GRAYSCALE
    with quiet_opencv():
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    if pixels is None:
        return None
    grey = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)
    if grey.std() < MIN_CONTRAST:
        return None
    small = cv2.resize(pixels, (9, 8), interpolation=cv2.INTER_AREA)
    return Look(int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big"), grey)


def find_similar(
    items: Sequence[RawItem], root: Path, facts: Mapping[Path, ImageFacts], looks: Mapping[Path, Look]
) -> Iterator[Defect]:
    """Report images of val and test that look like one of an earlier split; equal bytes are reported elsewhere."""
    by_split = {split: [item for item in items if item.split == split and item.image in looks] for split in SPLITS}
    for earlier, later in combinations(SPLITS, 2):
        if not by_split[earlier] or not by_split[later]:
            continue
        nearest = _nearest([looks[item.image] for item in by_split[earlier]])
        for item in by_split[later]:
            index = nearest(looks[item.image])
            other = by_split[earlier][0 if index is None else index]
            if index is None or facts[other.image].sha256 == facts[item.image].sha256:
                continue
            here, there = relative(root, item.image), relative(root, other.image)
            yield Defect("near_duplicate", item.file, item.line, f"{here} in {later} looks like {there} in {earlier}")


def _nearest(looks: Sequence[Look]) -> Callable[[Look], int | None]:
    """Index images; return a function that finds the copy of another one among them."""
    bits = np.array([look.bits for look in looks], np.uint64)
    greys = np.stack([look.grey for look in looks]).astype(np.int16)

    def find(look: Look) -> int | None:
        close = np.flatnonzero(np.bitwise_count(bits ^ np.uint64(look.bits)) <= MAX_BITS)
        if not len(close):
            return None
        differences = np.abs(greys[close] - look.grey.astype(np.int16)).max(axis=(1, 2))
        best = int(differences.argmin())
        return int(close[best]) if differences[best] <= MAX_DIFFERENCE else None

    return find
