"""How much the distillation counts beside the task, step by step."""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.params import Weighting as Kind

MOMENTUM = 0.9  # of the norms' moving averages


class Weighting:
    """The factor on the distillation parts.

    `fixed`: the weight itself. `linear`: falls from it to 0 over the run. `balanced`: the weight is the ratio of the
    norms of the two gradients that reach the maps which the head reads, distillation to task.
    """

    def __init__(self, kind: Kind, weight: float, steps: int) -> None:
        self.kind, self.weight, self.steps = kind, weight, steps
        self.step = 0
        self.norms = torch.zeros(2, dtype=torch.float64)  # task, unweighted distillation; moving averages
        self._squares: Tensor | None = None
        self._factor = weight

    def next(self) -> float:
        """Return the factor of the step that begins."""
        if self.kind == "balanced":
            self._average()
        self.step += 1
        if self.kind == "linear":
            return self.weight * (1 - (self.step - 1) / self.steps)
        if self.kind == "balanced" and bool((self.norms > 0).all()):
            self._factor = self.weight * float(self.norms[0] / self.norms[1])
        return self._factor

    def watch(self, task: list[Tensor], distillation: list[Tensor]) -> None:
        """Measure the gradients that will reach two views of the same maps in the backward pass of this step."""
        if self.kind != "balanced":
            return
        squares = torch.zeros(2, device=task[0].device)
        for row, views in enumerate((task, distillation)):
            for view in views:
                view.register_hook(partial(_add_square, squares[row]))
        self._squares = squares

    def state(self) -> dict[str, Tensor]:
        """Return what the next step depends on."""
        self._average()
        return {
            "step": torch.tensor(self.step),
            "norms": self.norms,
            "factor": torch.tensor(self._factor, dtype=torch.float64),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self.step, self.norms, self._factor = int(state["step"]), state["norms"].clone(), float(state["factor"])

    def _average(self) -> None:
        """Add the latest norms to the moving averages; a step whose gradients overflowed is left out."""
        squares, self._squares = self._squares, None
        if squares is None:
            return
        if dist.is_initialized():
            dist.all_reduce(squares)
        norms = squares.cpu().double().sqrt() / torch.tensor([1.0, self._factor or 1.0], dtype=torch.float64)
        if not bool(norms.isfinite().all()):
            return
        self.norms = MOMENTUM * self.norms + (1 - MOMENTUM) * norms if bool(self.norms.any()) else norms


def _add_square(total: Tensor, gradient: Tensor) -> None:
    total += gradient.detach().float().square().sum()
