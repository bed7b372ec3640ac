"""The student's loss under a teacher: the task's, and the weighted parts of the distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.distill.loss import DistillationLoss
from pipeline.distill.pairing import common_grid
from pipeline.errors import PipelineError
from pipeline.features import Features, HeadInputs, features_only
from pipeline.tasks import Task
from pipeline.training.extras import EXTRAS, SCORES, Step
from pipeline.training.weighting import Weighting

Pairs = list[tuple[int, int]]


class DistillationCriterion:
    """The student's task loss with the weighted distillation parts appended.

    It is no module: the student stays a plain model in state dicts, EMA and checkpoints.
    """

    def __init__(
        self,
        task: Task,
        task_loss: Any,
        student: nn.Module,
        teacher: nn.Module,
        *,
        pairs: Pairs,
        loss: DistillationLoss,
        weighting: Weighting,
    ) -> None:
        self.task, self.task_loss = task, task_loss
        self.teacher, self.pairs, self.loss, self.weighting = teacher, pairs, loss, weighting
        self.background = _background(student)
        self.tap = HeadInputs(student)
        self.logged: dict[str, Tensor] = {}

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss vector, scaled by the batch size as Ultralytics scales it, and its detached parts."""
        task_loss, items = self.task_loss(predictions, batch)
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
        if hasattr(self.task_loss, "update"):
            self.task_loss.update()

    def _parts(
        self, student: Features, teacher: Features, predictions: Any, batch: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Give the loss the maps that it reads and the extras that it names."""
        maps = [common_grid(student[s], teacher[t]) for s, t in self.pairs]
        compared = [t for _, t in maps]
        step = Step(self.teacher, student, teacher, compared, predictions, batch, self.background)
        if self.loss.reads == "scores":
            maps = [common_grid(s, t) for s, t in zip(*SCORES[self.task](step), strict=True)]
        extras = EXTRAS[self.task](step, self.loss.extras)
        return self.loss([s for s, _ in maps], [t for _, t in maps], **extras)  # type: ignore[no-any-return]

    def _explain(self, parts: dict[str, Tensor], student: Features, teacher: Features) -> str:
        """Say where a distillation that is not finite comes from."""
        values = ", ".join(f"{name} {float(part.detach()):.4g}" for name, part in parts.items())
        maps = "; ".join(
            f"map {level}: student {tuple(student[s].shape)} {_range(student[s])}, "
            f"teacher {tuple(teacher[t].shape)} {_range(teacher[t])}"
            for level, (s, t) in enumerate(self.pairs)
        )
        return (
            f"the distillation is not finite at step {self.weighting.step} ({values}). {maps}. The epochs before are "
            f"kept. Lower distill.{self.task}.weight or the learning rate, or switch mixed_precision off"
        )


def _background(student: Any) -> int | None:
    return next((index for index, name in student.names.items() if name == "background"), None)


def _range(x: Tensor) -> str:
    bad = int((~x.isfinite()).sum())
    return f"with {bad} values that are not finite" if bad else f"from {x.min():.3g} to {x.max():.3g}"
