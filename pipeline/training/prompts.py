"""Train frequency prompts in the frozen teacher, on its own task loss (FreeKD, equation 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from ultralytics.cfg import get_cfg

from pipeline.checkpoint_info import SKIPPED
from pipeline.data.prepared import PreparedDataset
from pipeline.digest import file_digest
from pipeline.distill.prompt import init_prompts, overlap, prompted
from pipeline.errors import PipelineError
from pipeline.features import Features, head_channels, head_of, replaced_features
from pipeline.params import Machine, Prompt, Teacher
from pipeline.records import Record, Skipped, read_record, write_record
from pipeline.tasks import Task
from pipeline.text import PlainConsole
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.data import EpochSampler, build_images, build_train_loader, describe
from pipeline.training.devices import backend_device
from pipeline.training.history import skip, write_history
from pipeline.training.state import load_state, save_state
from pipeline.training.task_loss import build_task_loss
from pipeline.training.trainer import Job, ultralytics_arguments

WEIGHTS, INFO = "prompts.safetensors", "prompts.json"
SAVE_EVERY = 25


class PromptsInfo(Record):
    """`prompts.json`. Losses are means over the last tenth of the iterations."""

    levels: int
    prompts: int
    wavelet: str
    teacher: str
    task_loss_plain: float
    task_loss_prompted: float
    overlap: float
    digest: str


@dataclass(frozen=True)
class PromptJob:
    """One training of prompts.

    Attributes:
        task: The teacher's.
        params: Section `prompt`.
        augment: The task's section of `teacher`: images are augmented as they were for the teacher.
        machine: Section `machine`.
        dataset: The prepared dataset.
        teacher_dir: The teacher's checkpoint.
        state_dir: Where an interrupted run goes on.

    """

    task: Task
    params: Prompt
    augment: Teacher
    machine: Machine
    dataset: PreparedDataset
    teacher_dir: Path
    state_dir: Path


def train_prompts(job: PromptJob, out: Path, history: Path) -> None:
    """Learn where in the teacher's bands its own task finds what it needs.

    Only the prompts train; the teacher is frozen, BatchNorm included.

    Args:
        job: What to train on what.
        out: Gets `prompts.safetensors` and `prompts.json`.
        history: The CSV to write, one row per iteration.

    """
    teacher, teacher_info = load_checkpoint(job.teacher_dir)
    training = Job(job.task, job.augment.model, job.augment, job.machine, job.dataset, job.state_dir)
    teacher.args = get_cfg(overrides={**ultralytics_arguments(training), "batch": job.params.batch_size})
    prompts, rows = _fit(teacher.to(backend_device(job.machine.device)), job)
    out.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().cpu() for key, value in prompts.items()}, out / WEIGHTS)
    write_history(history, rows)
    last = rows[-max(1, len(rows) // 10) :]
    mean = {key: round(sum(row[key] for row in last) / len(last), 5) for key in rows[0]}
    info = PromptsInfo(
        levels=job.params.levels,
        prompts=job.params.prompts,
        wavelet=job.params.wavelet,
        teacher=teacher_info.digest,
        task_loss_plain=mean["task_loss_plain"],
        task_loss_prompted=mean["task_loss"],
        overlap=mean["overlap"],
        digest=file_digest(out / WEIGHTS),
    )
    write_record(out / INFO, info)


def skip_prompts(out: Path, history: Path) -> None:
    """Leave a note where the prompts would be, the same for all methods without prompts, and an empty history."""
    reason = "distill.method and its mask in params.yaml read no prompts"
    skip(out, history, reason, columns="iteration,task_loss,overlap")


def load_prompts(folder: Path) -> tuple[dict[str, Tensor], PromptsInfo]:
    """Read prompts: a state dict `<pyramid map>` -> (1 + levels, T, C), and `prompts.json`.

    Raises:
        PipelineError: if the folder does not hold prompts, or not the ones that `prompts.json` names.

    """
    if (folder / SKIPPED).exists():
        reason = read_record(folder / SKIPPED, Skipped).skipped
        raise PipelineError(f"{folder} holds no prompts ({reason}): run `dvc repro prompt`")
    if not (folder / INFO).exists() or not (folder / WEIGHTS).exists():
        raise PipelineError(f"{folder} holds no prompts (no {INFO}): run `dvc repro prompt`")
    info = read_record(folder / INFO, PromptsInfo)
    if file_digest(folder / WEIGHTS) != info.digest:
        raise PipelineError(f"{folder / WEIGHTS} is not the file that {INFO} names: run `dvc repro prompt`")
    try:
        return load_file(folder / WEIGHTS), info
    except SafetensorError as error:
        raise PipelineError(f"{folder / WEIGHTS} cannot be read ({error}): run `dvc repro prompt`") from None


def _fit(teacher: nn.Module, job: PromptJob) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Run the iterations that are left; return the prompts and one history row per iteration."""
    params, state_file = job.params, job.state_dir / "prompts.pt"
    device = next(teacher.parameters()).device
    teacher.requires_grad_(False).eval()
    head_of(teacher).training = True  # the head alone: raw outputs, as the task loss wants them
    torch.manual_seed(params.seed)
    prompts = init_prompts(head_channels(teacher), params.levels, params.prompts).to(device)
    optimizer = torch.optim.Adam(prompts.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, params.iterations, eta_min=1e-6)
    history: list[dict[str, float]] = []
    if state := load_state(state_file):
        prompts.load_state_dict(state["prompts"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        history = state["history"]
        print(f"Resuming after iteration {len(history)} of {params.iterations}")

    step = PromptStep(job.task, teacher, prompts, params)
    batches = _batches(teacher.args, job, start=len(history))
    console = PlainConsole(stderr=True)
    for iteration in track(range(len(history), params.iterations), description="prompts", console=console):
        batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in next(batches).items()}
        batch["img"] = batch["img"].float() / 255
        loss, row = step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append({"iteration": iteration + 1, **row})
        if len(history) % SAVE_EVERY == 0 or len(history) == params.iterations:
            state = {"prompts": prompts.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
            save_state(state_file, {**state, "schedule": schedule.state_dict()})
    return prompts.state_dict(), history


class PromptStep:
    """The prompt loss of a batch: the prompted teacher's task loss and the overlap of its masks."""

    def __init__(self, task: Task, teacher: nn.Module, prompts: nn.ParameterList, params: Prompt) -> None:
        self.teacher, self.prompts, self.params = teacher, prompts, params
        self.criterion = build_task_loss(task, teacher)
        self.overlaps: list[Tensor] = []

    def __call__(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss per image and what it is made of."""
        with torch.no_grad():
            plain = self._task_loss(batch)
        self.overlaps.clear()
        with replaced_features(self.teacher, self._prompted):
            task = self._task_loss(batch)
        shared = torch.stack(self.overlaps).sum()
        loss = task + self.params.overlap_weight * shared
        if not torch.isfinite(loss):
            parts = f"task {task:.4g}, overlap {shared:.4g}"
            raise PipelineError(f"the prompt loss is not finite ({parts}): lower prompt.learning_rate")
        return loss, {"task_loss": task.item(), "task_loss_plain": plain.item(), "overlap": shared.item()}

    def _task_loss(self, batch: dict[str, Any]) -> Tensor:
        return self.criterion(self.teacher(batch["img"]), batch)[0].sum() / len(batch["img"])

    def _prompted(self, features: Features) -> Features:
        rebuilt = []
        for feature, prompt in zip(features, self.prompts, strict=True):
            image, marked = prompted(feature, prompt, self.params.wavelet)
            rebuilt.append(image)
            self.overlaps.extend(overlap(mask, self.params.overlap) for mask in marked)
        return rebuilt


def _batches(arguments: Any, job: PromptJob, start: int) -> Iterator[dict[str, Any]]:
    """Yield batches for ever, from the one after `start` iterations on: equal whether interrupted or not."""
    workers = 0 if backend_device(job.machine.device) == "cpu" else job.machine.workers
    data = describe(job.dataset, job.task, job.state_dir / "data", job.params.seed)
    images = build_images(data, data["train"], arguments, job.params.batch_size, augment=True, stride=32)
    sampler = EpochSampler(len(images), job.params.seed)
    loader = build_train_loader(images, job.params.batch_size, workers, sampler)
    epoch, skip = divmod(start, len(loader))
    sampler.restart(epoch)
    while True:
        for position, batch in enumerate(loader):
            if position >= skip:
                yield batch
        skip = 0
