"""The same trainer, with a distillation part in the student's loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from ultralytics.utils.torch_utils import unwrap_model

from pipeline.distill import build_loss
from pipeline.distill.taps import HeadInputs, features_only, head_channels
from pipeline.params import Distill
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.prompts import load_prompts
from pipeline.training.trainer import Trainer


@dataclass(frozen=True)
class TeacherJob:
    """What a distillation needs beside the student's own job."""

    teacher_dir: Path
    prompts_dir: Path
    distill: Distill


class DistillationCriterion:
    """The student's task loss with the weighted distillation parts appended.

    It is no module: the student stays a plain detector in state dicts, EMA and checkpoints.
    """

    def __init__(
        self, task: Any, student: nn.Module, teacher: nn.Module, loss: nn.Module, weights: dict[str, float]
    ) -> None:
        self.task, self.student, self.teacher = task, student, teacher
        self.loss, self.weights = loss, weights
        self.tap = HeadInputs(student)
        self.logged: dict[str, Tensor] = {}

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss vector, scaled by the batch size as Ultralytics scales it, and its detached parts."""
        task_loss, items = self.task(predictions, batch)
        teacher = features_only(self.teacher, batch["img"])
        parts = self.loss(self.tap.features, teacher)
        parts = {name: self.weights[name] * part for name, part in parts.items() if self.weights[name]}
        total = torch.stack([*parts.values()]).sum() if parts else task_loss.new_zeros(())
        share = total.detach() / (total + task_loss.sum() / len(batch["img"])).detach()
        self.logged = {**{name: part.detach() for name, part in parts.items()}, "distill_share": share}
        loss = torch.cat([task_loss.reshape(-1), total.reshape(1) * len(batch["img"])])
        return loss, {**items, **self.logged}

    def update(self) -> None:
        """Pass on the epoch's end to criteria that have a schedule of their own."""
        if hasattr(self.task, "update"):
            self.task.update()


class DistillationTrainer(Trainer):
    """Train a student under a frozen teacher; the adapters train beside it and are dropped at the end."""

    teacher_job: TeacherJob

    def build_optimizer(self, model: nn.Module, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Add the adapters to the student's optimizer: same learning rate and schedule, no weight decay."""
        optimizer = super().build_optimizer(model, *arguments, **options)
        self.teacher, self.distill_loss = self._build_teacher(unwrap_model(model))
        self.adapters = [parameter for parameter in self.distill_loss.parameters() if parameter.requires_grad]
        optimizer.add_param_group({"params": self.adapters, "weight_decay": 0.0, "param_group": "adapter"})
        return optimizer

    def _build_teacher(self, student: nn.Module) -> tuple[nn.Module, nn.Module]:
        job = self.teacher_job
        teacher, _ = load_checkpoint(job.teacher_dir)
        prompts, info = load_prompts(job.prompts_dir)
        torch.manual_seed(self.job.training.seed)  # the adapters are equal on every rank
        loss = build_loss(
            job.distill.method,
            head_channels(student),
            head_channels(teacher),
            levels=info.levels,
            prompts=info.prompts,
            mask=job.distill.mask,
            scale=job.distill.scale,
        )
        loss.prompts.load_state_dict(prompts)  # type: ignore[union-attr]
        return teacher.requires_grad_(False).eval().to(self.device), loss.to(self.device)

    def _setup_train(self) -> None:
        super()._setup_train()
        student, distill = unwrap_model(self.model), self.teacher_job.distill
        weights = {"high": distill.weight, "low": distill.weight * distill.low_band_weight}
        student.criterion = DistillationCriterion(student.criterion, student, self.teacher, self.distill_loss, weights)

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Leave out the distillation's parts of the validation loss: there is no teacher in it."""
        absent = {f"val/{name}" for name in unwrap_model(self.model).criterion.logged}
        super().save_metrics({key: value for key, value in metrics.items() if key not in absent})

    def optimizer_step(self) -> None:
        """Average the adapters' gradients over ranks, which DDP does for the student alone."""
        if self.world_size > 1:
            for gradient in [p.grad for p in self.adapters if p.grad is not None]:
                dist.all_reduce(gradient, op=dist.ReduceOp.AVG)
        super().optimizer_step()

    def extra_state(self) -> dict[str, Any]:
        """Keep the adapters."""
        return self.distill_loss.state_dict()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take the adapters back."""
        self.distill_loss.load_state_dict(state)
