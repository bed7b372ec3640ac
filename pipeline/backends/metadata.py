"""What an ONNX file of this pipeline says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.backends import Metadata
from pipeline.errors import PipelineError

KEYS = ("task", "classes", "image_size_px", "strides", "end2end", "precision")


def parse_metadata(path: Path, properties: Mapping[str, str]) -> Metadata:
    """Read what `export_onnx` wrote: one JSON value per key.

    Raises:
        PipelineError: if a key is missing.

    """
    if missing := [key for key in KEYS if key not in properties]:
        raise PipelineError(
            f"{path}: its metadata lacks {', '.join(missing)}, so it was not exported by this pipeline; "
            "make it with `dvc repro export`"
        )
    values: dict[str, Any] = {key: json.loads(properties[key]) for key in KEYS}
    return Metadata(**values)
