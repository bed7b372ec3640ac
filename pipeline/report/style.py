"""What the plots share: colours, markers, fonts, and a figure that needs no display."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's palette: told apart by colour-blind readers, and in print.
COLOURS = {"teacher": "#0072B2", "control": "#E69F00", "distilled": "#007A5A"}
GREY, INK = "#9A9A9A", "#222222"
MARKERS = {  # by runtime and precision
    "torch": "o",
    "onnxruntime-fp32": "s", "onnxruntime-fp16": "p", "onnxruntime-int8": "h",
    "onnxruntime_cuda-fp32": "P", "onnxruntime_cuda-fp16": "X", "onnxruntime_cuda-int8": "*",
    "onnxruntime_tensorrt-fp32": "<", "onnxruntime_tensorrt-fp16": "1", "onnxruntime_tensorrt-int8": "2",
    "openvino-fp32": "D", "openvino-int8": "d",
    "tensorrt-fp32": "^", "tensorrt-fp16": ">", "tensorrt-int8": "v",
}  # fmt: skip
STYLE = {
    "figure.dpi": 144,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "text.color": INK,
}


@contextmanager
def new_figure(path: Path, size_in: tuple[float, float]) -> Iterator[Any]:
    """Give an empty figure in the common style and save it; no pyplot, so no global state and no display."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size_in, layout=ConstrainedLayoutEngine(wspace=0.05, w_pad=0.08, h_pad=0.08))
        yield figure
        figure.savefig(path, format="png", metadata={"Software": None})


def run_look(name: str, names: Iterable[str]) -> dict[str, Any]:
    """Colour by role, line style by student."""
    role = name.rsplit(maxsplit=1)[-1]
    peers = [other for other in dict.fromkeys(names) if other.endswith(role)]
    return {"color": COLOURS[role], "linewidth": 1.8, "linestyle": ("-", "--", ":", "-.")[peers.index(name) % 4]}


def marker_of(runtime: str) -> str:
    """Choose the marker of a runtime and its precision."""
    return MARKERS.get(runtime, "P")
