"""`model.json` of a checkpoint, without torch: what a model is, for code that does not run it in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field, ValidationError

from pipeline.errors import PipelineError
from pipeline.files import read_text
from pipeline.records import ClassNames, Digest, FileName, ImageSizePx, Line, ModelInfo, NonNegative, Role, Strides
from pipeline.tasks import Task

WEIGHTS, INFO = "model.safetensors", "model.json"
SKIPPED = "skipped.json"  # stands in the place of a model that was not asked for


class CheckpointInfo(pydantic.BaseModel):
    """`model.json`: what it takes to rebuild the model, and what made it."""

    model_config = ConfigDict(extra="forbid")

    name: FileName
    role: Role
    task: Task
    classes: ClassNames
    image_size_px: ImageSizePx
    strides: Strides
    end2end: bool
    params_m: NonNegative
    best_epoch: Annotated[int, Field(ge=0)]
    made_by: Line
    digest: Digest
    architecture: dict[str, Any]

    def model_info(self) -> ModelInfo:
        """Say which model a record is about."""
        return ModelInfo(
            task=self.task,
            name=self.name,
            role=self.role,
            architecture=_architecture_name(self.architecture),
            params_m=self.params_m,
            image_size_px=self.image_size_px,
            digest=self.digest,
        )


def load_info(folder: Path) -> CheckpointInfo:
    """Read `model.json`.

    Raises:
        PipelineError: if the folder is not a checkpoint.

    """
    try:
        return CheckpointInfo.model_validate_json(read_text(folder / INFO), strict=True)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise PipelineError(f"{folder} is not a checkpoint (no {INFO}): run `dvc repro` to make it") from None
    except ValidationError as error:
        raise PipelineError(f"{folder / INFO} is not of this version: {error}") from None


def _architecture_name(architecture: dict[str, Any]) -> str:
    if "decoder" in architecture:
        return f"{architecture['decoder']}-{architecture['encoder']}"
    return Path(str(architecture.get("yaml_file", "unnamed"))).stem
