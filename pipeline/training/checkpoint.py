"""Safe checkpoints: a folder with `model.safetensors` and `model.json`, and nothing pickled."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from ultralytics.nn.tasks import BaseModel

from models import build_from_architecture
from pipeline.checkpoint_info import INFO, WEIGHTS, CheckpointInfo, load_info
from pipeline.digest import file_digest
from pipeline.errors import PipelineError
from pipeline.features import head_strides
from pipeline.files import write_text
from pipeline.records import Role
from pipeline.tasks import Task


def save_checkpoint(
    folder: Path,
    model: BaseModel,
    *,
    task: Task,
    name: str,
    role: Role,
    image_size_px: int,
    best_epoch: int,
    made_by: str,
) -> None:
    """Write a model as safetensors and JSON. Equal weights give equal bytes.

    Args:
        folder: Created if missing.
        model: A plain model: no teacher, adapters or hooks.
        task: What it does.
        name: `teacher` or the student's name in params.yaml.
        role: What it is in the comparison.
        image_size_px: Side of the square it was trained on.
        best_epoch: 1-based epoch of these weights.
        made_by: Digest of the params, data and code that made it.

    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    info = CheckpointInfo(
        name=name,
        role=role,
        task=task,
        classes=list(model.names.values()),
        image_size_px=image_size_px,
        strides=head_strides(model),
        end2end=getattr(model.model[-1], "one2one_cv2", None) is not None,
        params_m=round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 4),
        best_epoch=best_epoch,
        made_by=made_by,
        digest=file_digest(folder / WEIGHTS),
        architecture=model.yaml,
    )
    write_text(folder / INFO, info.model_dump_json(indent=2) + "\n")


def load_checkpoint(folder: Path) -> tuple[BaseModel, CheckpointInfo]:
    """Rebuild a model from its checkpoint.

    Returns:
        The model on the CPU, fp32, in eval mode, and its `model.json`.

    Raises:
        PipelineError: if the folder is not a checkpoint, or its weights are not the ones that `model.json` names.

    """
    info = load_info(folder)
    weights = folder / WEIGHTS
    if not weights.is_file() or file_digest(weights) != info.digest:
        raise PipelineError(
            f"{weights} is not the file that {INFO} names: run `dvc repro` or `dvc checkout` to restore it"
        )
    model = build_from_architecture(info.architecture, info.task, info.classes, str(folder / INFO))
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise PipelineError(f"{weights} does not hold the weights of {INFO}'s architecture: {error}") from None
    return model.float().eval(), info
