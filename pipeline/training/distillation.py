"""The same trainer, with a distillation part in the student's loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

from pipeline.distill import build_loss
from pipeline.distill.loss import DistillationLoss
from pipeline.distill.pairing import pair_maps
from pipeline.errors import PipelineError
from pipeline.features import frozen, head_channels, head_strides
from pipeline.params import DistillRecipe, Method, Prompt, reads_prompts
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.criterion import DistillationCriterion
from pipeline.training.prompts import load_prompts
from pipeline.training.trainer import Trainer
from pipeline.training.weighting import Weighting


@dataclass(frozen=True)
class TeacherJob:
    """What a distillation needs beside the student's own job.

    Attributes:
        teacher_dir: The teacher's checkpoint.
        prompts_dir: Its prompts; not read by a method without prompts.
        method: `distill.method`.
        recipe: The task's section of `distill`.
        prompt: Section `prompt`, which the prompts were trained with.

    """

    teacher_dir: Path
    prompts_dir: Path
    method: Method
    recipe: DistillRecipe
    prompt: Prompt

    @property
    def reads_prompts(self) -> bool:
        """Whether the method reads the prompts."""
        return reads_prompts(self.method, self.recipe)


class DistillationTrainer(Trainer):
    """Train a student under a frozen teacher; the adapters train beside it and are dropped at the end."""

    teacher_job: TeacherJob

    def build_optimizer(self, model: nn.Module, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Add the adapters to the student's optimizer: same learning rate and schedule, no weight decay."""
        optimizer = super().build_optimizer(model, *arguments, **options)
        self.teacher, self.distill_loss = self._build_teacher(unwrap_model(model))
        recipe = self.teacher_job.recipe
        self.weighting = Weighting(recipe.weighting, recipe.weight, self.epochs * len(self.train_loader))
        self.adapters = [parameter for parameter in self.distill_loss.parameters() if parameter.requires_grad]
        optimizer.add_param_group({"params": self.adapters, "weight_decay": 0.0, "param_group": "adapter"})
        return optimizer

    def _build_teacher(self, student: nn.Module) -> tuple[nn.Module, DistillationLoss]:
        job = self.teacher_job
        teacher, _ = load_checkpoint(job.teacher_dir)
        self.pairs = pair_maps(self.job.task, head_strides(student), head_strides(teacher))
        channels = head_channels(student), head_channels(teacher)
        torch.manual_seed(self.job.training.seed)  # the adapters are equal on every rank
        loss = build_loss(
            job.method,
            [channels[0][index] for index, _ in self.pairs],
            [channels[1][index] for _, index in self.pairs],
            **self._options(),
        )
        if "boxes" in loss.extras and self.job.task != "detect":
            raise PipelineError(
                f"distill.{self.job.task}.options.{job.method}.head: there are no box branches in task "
                f"{self.job.task}, set it to 0"
            )
        if job.reads_prompts:
            prompts, _ = load_prompts(job.prompts_dir)
            loss.load_prompts({str(pair): prompts[str(index)] for pair, (_, index) in enumerate(self.pairs)})  # type: ignore[operator]
        if job.recipe.weighting == "balanced" and loss.reads != "features":
            raise PipelineError(
                f"distill.{self.job.task}.weighting: balanced compares gradients of features, {job.method} reads none"
            )
        return frozen(teacher, self.device), loss.to(self.device)

    def _options(self) -> dict[str, Any]:
        """Return the method's options; FreeKD's wavelet transform is that of section `prompt`."""
        job = self.teacher_job
        options: dict[str, Any] = dict(job.recipe.options.get(job.method, {}))
        if job.method != "freekd":
            return options
        shared = {"levels": job.prompt.levels, "prompts": job.prompt.prompts, "wavelet": job.prompt.wavelet}
        if twice := sorted(set(shared) & set(options)):
            raise PipelineError(
                f"distill.{self.job.task}.options.freekd.{twice[0]}: remove it, it is taken from section prompt"
            )
        return options | shared

    def _setup_train(self) -> None:
        super()._setup_train()
        student = unwrap_model(self.model)
        task_loss = student.criterion
        del student.criterion  # a segmenter's is a module, in whose place torch takes nothing else
        student.criterion = DistillationCriterion(
            self.job.task,
            task_loss,
            student,
            self.teacher,
            pairs=self.pairs,
            loss=self.distill_loss,
            weighting=self.weighting,
        )

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
