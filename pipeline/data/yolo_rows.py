"""Rows of Ultralytics' label files: boxes and polygons, and what poses and predictions add to them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.data.defects import Defect
from pipeline.data.source import RawBox

BOX_WIDTH = 5  # class, center x, center y, width, height
POLYGON_WIDTH = 7  # class and 3 points, at least
CORNERS_WIDTH = 9  # class and 4 points: an oriented box, or a polygon
FARTHEST = 2.0  # in shares of the image's side: what lies farther out is no share
POSE_SHARE = 0.9  # of rows: what is called poses may hold a few that are not
WIDEST_POSE = 2000  # numbers: 478 points of a face are the most in use, and comparing edges takes time
MARGIN = 0.1  # of a box's side: how far outside of it a keypoint may lie
MIDDLE = 0.25  # of the sides of the box around some points: what lies so far from its center still lies amid them
VISIBILITIES = frozenset([0.0, 1.0, 2.0])
EXPECTED = "a class and 4 numbers (a box), or a class and 3 or more pairs (a polygon)"
LIKE_CONFIDENCE = "if the last one is the confidence of a prediction, remove it"
LIKE_TRACK = "the last two look like the confidence and track id of a prediction: remove them"
LIKE_POSE = "the rows of this width look like boxes with keypoints: add kpt_shape to the YAML file"
Point = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """One line of a label file, and the upright size of its image."""

    text: str
    file: str
    line: int
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Row:
    """A line's words as numbers, the class first; the last word as it was written."""

    source: Text
    numbers: array[float]
    last: str

    @property
    def width(self) -> int:
        """Count the numbers."""
        return len(self.numbers)

    @property
    def values(self) -> array[float]:
        """Return the numbers behind the class."""
        return self.numbers[1:]


def read_rows(
    lines: Sequence[Text], classes: int, keypoints: tuple[int, int] | None
) -> tuple[list[RawBox | Defect], list[Defect]]:
    """Turn all label lines of a dataset into boxes.

    What a row with more than 5 numbers means is judged over all of them: polygons, oriented boxes, boxes with
    keypoints, and rows of predictions, which end with a confidence and perhaps a track id, have the same widths.

    Args:
        lines: all lines with labels.
        classes: how many classes there are.
        keypoints: `kpt_shape`, the keypoints of a box and the numbers of each; None for a dataset without keypoints.

    Returns:
        For each line its box or what is wrong with it; and what was made of rows that are not plain boxes.

    """
    parsed = [_parse(line, classes) for line in lines]
    rows = [row for row in parsed if isinstance(row, Row)]
    refused = _refused_widths(rows) if keypoints is None else {}
    found = [row if isinstance(row, Defect) else _box(row, keypoints, refused) for row in parsed]
    taken = [row for row, box in zip(parsed, found, strict=True) if isinstance(row, Row) and isinstance(box, RawBox)]
    return found, _notes(taken, keypoints)


def is_label(line: str) -> bool:
    """Say whether a line of text looks like a row of labels."""
    words = line.split()
    try:
        return len([float(word) for word in words[1:]]) >= BOX_WIDTH - 1
    except ValueError:
        return False


def _parse(line: Text, classes: int) -> Row | Defect:
    """Read the numbers and check the class."""
    words = line.text.split()
    try:
        numbers = array("d", map(float, words))  # far smaller than a tuple: a dataset may have a million rows
    except ValueError:
        return _malformed(line, "numbers")
    if not math.isfinite(numbers[0]) or numbers[0] != int(numbers[0]):
        return _malformed(line, "a whole class number first")
    if not 0 <= numbers[0] < classes:
        message = f"class {int(numbers[0])}, but names has 0 to {classes - 1}"
        return Defect("unknown_class", line.file, line.line, message)
    return Row(line, numbers, words[-1])


def _box(row: Row, keypoints: tuple[int, int] | None, refused: dict[int, str]) -> RawBox | Defect:
    """Turn a row into the box that encloses what it describes."""
    if keypoints is None:
        expected, bad = EXPECTED, _bad_polygon(row, refused)
    else:
        expected = f"5 numbers (a box), or {BOX_WIDTH + math.prod(keypoints)} (with the keypoints of kpt_shape)"
        bad = None if row.width in {BOX_WIDTH, *_pose_widths(keypoints)} else ""
    if bad is not None:
        return _malformed(row.source, expected, f"{row.width} numbers", bad)
    values = row.values if keypoints is None else row.values[:4]
    if any(abs(value) > FARTHEST for value in values if math.isfinite(value)):
        return _malformed(row.source, "shares of the image's sides, from 0 to 1", hint="are these pixels?")
    corners = _corners(values, row.source.size)
    return RawBox(int(row.numbers[0]), corners, row.source.file, row.source.line)


def _bad_polygon(row: Row, refused: dict[int, str]) -> str | None:
    """Say why a row is neither a box nor a polygon: a reason, empty where the width says it all, None if it is one."""
    if row.width == BOX_WIDTH:
        return None
    if row.width in refused:
        return refused[row.width]
    if row.width > BOX_WIDTH and row.width % 2 == 0:
        return LIKE_CONFIDENCE
    if row.width < POLYGON_WIDTH:
        return ""
    return LIKE_TRACK if _ends_like_track(row, least=2) else None


def _malformed(line: Text, expected: str, came: str = "", hint: str = "") -> Defect:
    text = line.text.strip()
    short = repr(text if len(text) <= 60 else f"{text[:57]}...")
    came = f"{came}: {short}" if came else short
    message = f"expected {expected}, got {came}" + (f" ({hint})" if hint else "")
    return Defect("malformed", line.file, line.line, message)


def _corners(values: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Turn a normalised box or polygon into xyxy pixels."""
    width, height = size
    if len(values) == 4:
        cx, cy, w, h = values
        return (cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height
    xs, ys = values[0::2], values[1::2]
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan, math.nan, math.nan
    return min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height


# What rows of more than 5 numbers are, judged over the whole dataset


def _refused_widths(rows: Sequence[Row]) -> dict[int, str]:
    """Find the widths whose rows look like something else than polygons, with the reason."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        if row.width >= POLYGON_WIDTH:
            groups.setdefault(row.width, []).append(row)
    wide = sum(map(len, groups.values()))
    poses = {width: LIKE_POSE for width, group in groups.items() if _like_poses(group, width)}
    if sum(len(groups[width]) for width in poses) >= POSE_SHARE * wide:
        return poses
    polygons = {width: group for width, group in groups.items() if width % 2 == 1}
    tracks = {width for width, group in polygons.items() if all(_ends_like_track(row, least=1) for row in group)}
    if tracks != polygons.keys():  # longer polygons may well end at the border; of triangles, few do
        tracks &= {POLYGON_WIDTH}
    return {width: reason for width, reason in poses.items() if width % 2 == 0} | dict.fromkeys(tracks, LIKE_TRACK)


def _ends_like_track(row: Row, least: int) -> bool:
    """Say whether a row ends with a confidence and a whole number of at least `least`, and is good without them."""
    confidence = row.numbers[-2]
    if not (row.last.isdecimal() and row.numbers[-1] >= least and 0 < confidence < 1):
        return False
    return row.width > POLYGON_WIDTH or _box_fits(row.values)


def _like_poses(rows: Sequence[Row], width: int) -> bool:
    """Say whether rows of one width read as boxes with keypoints, and not as polygons."""
    if width > WIDEST_POSE:
        return False
    if (width - BOX_WIDTH) % 3 == 0 and all(_box_fits(row.values) for row in rows):
        if all(set(row.values[6::3]) <= VISIBILITIES for row in rows):
            return True
        if width % 2 == 0:
            return all(_pose_fits(row, _keypoints(row, 3)) for row in rows)
    if width % 2 == 0 or sum(_pose_fits(row, _keypoints(row, 2)) for row in rows) < POSE_SHARE * len(rows):
        return False
    return 2 * sum(_is_crooked(row) or _starts_in_the_middle(row) for row in rows) >= len(rows)


def _keypoints(row: Row, numbers: int) -> list[Point]:
    """Read the keypoints behind a box, each of `numbers` numbers."""
    rest = row.values[4:]
    return list(zip(rest[0::numbers], rest[1::numbers], strict=True))


def _is_crooked(row: Row) -> bool:
    """Say whether a row's numbers, read as a polygon, have no area or edges that cross."""
    return not _is_simple(list(zip(row.values[0::2], row.values[1::2], strict=True)))


def _starts_in_the_middle(row: Row) -> bool:
    """Say whether the first point lies amid those from the third on, as a box's center does; a polygon's is at a side.

    Points at 0, 0 are not labeled and do not count.
    """
    points = [point for point in _keypoints(row, 2) if point != (0, 0)]
    sides = [(min(side), max(side)) for side in zip(*points, strict=True)]
    return all(
        abs((low + high) / 2 - center) <= MIDDLE * (high - low)
        for (low, high), center in zip(sides, row.values[:2], strict=bool(points))
    )


def _pose_fits(row: Row, points: Iterable[Point]) -> bool:
    """Say whether a box lies in its image and keypoints in the box; one at 0, 0 is not labeled."""
    cx, cy, w, h = row.values[:4]
    reach_x, reach_y = w * (0.5 + MARGIN), h * (0.5 + MARGIN)
    return _box_fits(row.values) and all(
        (x, y) == (0, 0) or (abs(x - cx) <= reach_x and abs(y - cy) <= reach_y) for x, y in points
    )


def _box_fits(values: Sequence[float]) -> bool:
    """Say whether the first four numbers are a box inside its image."""
    cx, cy, w, h = values[:4]
    return w > 0 and h > 0 and all(c - s / 2 >= -0.01 and c + s / 2 <= 1.01 for c, s in ((cx, w), (cy, h)))


def _is_simple(points: Sequence[Point]) -> bool:
    """Say whether a polygon has an area and no edges that cross."""
    edges = list(pairwise([*points, points[0]]))
    if abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in edges)) < 1e-9:
        return False
    return not any(_cross(*edge, *other) for number, edge in enumerate(edges) for other in edges[number + 2 :])


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Say whether the insides of the segments a-b and c-d meet."""
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _pose_widths(keypoints: tuple[int, int]) -> set[int]:
    """List the widths of rows with keypoints: some tools leave the visibility out, or add it."""
    return {BOX_WIDTH + keypoints[0] * numbers for numbers in (2, 3)}


def _notes(rows: Sequence[Row], keypoints: tuple[int, int] | None) -> list[Defect]:
    """Say once for the dataset what was made of rows that are not plain boxes."""
    wide = [row for row in rows if row.width > BOX_WIDTH and all(map(math.isfinite, row.numbers))]
    if not wide:
        return []
    rest = f"{len(wide)} of {len(rows)} rows, this is the first"
    if keypoints is not None:
        return [_at(wide[0], "keypoints", rest)]
    corners = sum(row.width == CORNERS_WIDTH for row in wide)
    notes = [_at(wide[0], "polygon", f"{rest}; {corners} have four corners")]
    if border := [row for row in wide if _ends_like_track(row, least=1)]:
        notes.append(_at(border[0], "border_polygon", f"{len(border)} of {len(rows)} rows, this is the first"))
    return notes


def _at(row: Row, kind: str, message: str) -> Defect:
    return Defect(kind, row.source.file, row.source.line, message)
