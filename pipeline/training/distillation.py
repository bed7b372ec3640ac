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
from pipeline.distill.loss import DistillationLoss
from pipeline.distill.taps import (
    HeadInputs,
    box_outputs,
    class_logits,
    features_only,
    frozen,
    head_channels,
    split_outputs,
)
from pipeline.errors import PipelineError
from pipeline.params import Distill
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.prompts import load_prompts
from pipeline.training.trainer import Trainer
from pipeline.training.weighting import Weighting


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
        self, task: Any, student: nn.Module, teacher: nn.Module, loss: DistillationLoss, weighting: Weighting
    ) -> None:
        self.task, self.teacher, self.loss, self.weighting = task, teacher, loss, weighting
        self.tap = HeadInputs(student)
        self.logged: dict[str, Tensor] = {}

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss vector, scaled by the batch size as Ultralytics scales it, and its detached parts."""
        task_loss, items = self.task(predictions, batch)
        factor = self.weighting.next()
        student = [feature.view_as(feature) for feature in self.tap.features]
        self.weighting.watch(self.tap.views, student)
        teacher = features_only(self.teacher, batch["img"])
        parts = self._parts(student, teacher, predictions, batch) if factor else {}
        weighted = {name: factor * self.loss.weights[name] * part for name, part in parts.items()}
        total = sum(weighted.values(), start=task_loss.new_zeros(()))
        if not torch.isfinite(total):
            raise PipelineError(self._explain(weighted, student, teacher))
        whole = (total + task_loss.sum() / len(batch["img"])).detach()
        shares = {f"share_{name}": part.detach() / whole for name, part in weighted.items()}
        self.logged = {name: part.detach() for name, part in weighted.items()}
        self.logged |= {**shares, "distill_share": total.detach() / whole}
        loss = torch.cat([task_loss.reshape(-1), total.reshape(1) * len(batch["img"])])
        return loss, {**items, **self.logged}

    def update(self) -> None:
        """Pass on the epoch's end to criteria that have a schedule of their own."""
        if hasattr(self.task, "update"):
            self.task.update()

    def _parts(
        self, student: list[Tensor], teacher: list[Tensor], predictions: dict[str, Any], batch: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Give the loss the maps that it reads and the extras that it names."""
        outputs = predictions.get("one2many", predictions)
        extras: dict[str, Any] = {}
        if "confidence" in self.loss.extras:
            logits = class_logits(self.teacher, teacher)
            extras["confidence"] = [level.float().amax(dim=1, keepdim=True).sigmoid() for level in logits]
        if "boxes" in self.loss.extras:
            extras["boxes"] = split_outputs(outputs["boxes"], student), box_outputs(self.teacher, teacher)
        if "objects" in self.loss.extras:
            centre, half = batch["bboxes"][:, :2], batch["bboxes"][:, 2:] / 2
            extras["objects"] = torch.cat([batch["batch_idx"].view(-1, 1), centre - half, centre + half], dim=1)
        if self.loss.reads == "scores":
            student, teacher = split_outputs(outputs["scores"], student), class_logits(self.teacher, teacher)
        return self.loss(student, teacher, **extras)  # type: ignore[no-any-return]

    def _explain(self, parts: dict[str, Tensor], student: list[Tensor], teacher: list[Tensor]) -> str:
        """Say where a distillation that is not finite comes from."""
        values = ", ".join(f"{name} {float(part.detach()):.4g}" for name, part in parts.items())
        maps = "; ".join(
            f"map {level}: student {tuple(s.shape)} {_range(s)}, teacher {tuple(t.shape)} {_range(t)}"
            for level, (s, t) in enumerate(zip(student, teacher, strict=True))
        )
        return (
            f"the distillation is not finite at step {self.weighting.step} ({values}). {maps}. The epochs before are "
            "kept. Lower distill.weight or the learning rate, or switch mixed_precision off"
        )


class DistillationTrainer(Trainer):
    """Train a student under a frozen teacher; the adapters train beside it and are dropped at the end."""

    teacher_job: TeacherJob

    def build_optimizer(self, model: nn.Module, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Add the adapters to the student's optimizer: same learning rate and schedule, no weight decay."""
        optimizer = super().build_optimizer(model, *arguments, **options)
        self.teacher, self.distill_loss = self._build_teacher(unwrap_model(model))
        distill = self.teacher_job.distill
        self.weighting = Weighting(distill.weighting, distill.weight, self.epochs * len(self.train_loader))
        self.adapters = [parameter for parameter in self.distill_loss.parameters() if parameter.requires_grad]
        optimizer.add_param_group({"params": self.adapters, "weight_decay": 0.0, "param_group": "adapter"})
        return optimizer

    def _build_teacher(self, student: nn.Module) -> tuple[nn.Module, DistillationLoss]:
        job, distill = self.teacher_job, self.teacher_job.distill
        teacher, _ = load_checkpoint(job.teacher_dir)
        prompts, info = load_prompts(job.prompts_dir)
        options: dict[str, Any] = dict(distill.options.get(distill.method, {}))
        if distill.method == "freekd":
            trained = {"levels": info.levels, "prompts": info.prompts, "wavelet": info.wavelet}
            if twice := sorted(set(trained) & set(options)):
                raise PipelineError(f"distill.options.freekd.{twice[0]}: remove it, section prompt says it")
            options |= trained
        torch.manual_seed(self.job.training.seed)  # the adapters are equal on every rank
        loss = build_loss(distill.method, head_channels(student), head_channels(teacher), **options)
        if hasattr(loss, "load_prompts"):
            loss.load_prompts(prompts)  # type: ignore[operator]
        if distill.weighting == "balanced" and loss.reads != "features":
            raise PipelineError(
                f"distill.weighting: balanced compares gradients of features, {distill.method} reads none"
            )
        return frozen(teacher, self.device), loss.to(self.device)

    def _setup_train(self) -> None:
        super()._setup_train()
        student = unwrap_model(self.model)
        criterion = DistillationCriterion(student.criterion, student, self.teacher, self.distill_loss, self.weighting)
        student.criterion = criterion

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
        """Keep the adapters and the weighting."""
        return {"loss": self.distill_loss.state_dict(), "weighting": self.weighting.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.distill_loss.load_state_dict(state["loss"])
        self.weighting.load_state(state["weighting"])


def _range(x: Tensor) -> str:
    bad = int((~x.isfinite()).sum())
    return f"with {bad} values that are not finite" if bad else f"from {x.min():.3g} to {x.max():.3g}"
