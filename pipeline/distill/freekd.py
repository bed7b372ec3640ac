"""FreeKD: the student imitates the teacher's wavelet bands at the points of interest (CVPR 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.distill.adapter import Adapter, adapters
from pipeline.distill.haar_l1 import haar_l1
from pipeline.distill.loss import DistillationLoss
from pipeline.distill.prompt import init_prompts, masks
from pipeline.distill.relation import Relation, joint
from pipeline.distill.wavelet import band_sums, dwt
from pipeline.errors import PipelineError

Variant = Literal["released", "paper", "plus"]
Mask = Literal["prompt", "score", "uniform", "prompt*score"]
LOW_WEIGHT = {"released": 0.0, "paper": 1.0, "plus": 1.0}
HIGH_WEIGHT = {"released": 1.0, "paper": 1.0, "plus": 0.5}
REDUCTION = {"released": "mean", "paper": "sum", "plus": "mean"}


class FreeKD(DistillationLoss):
    """Masked distance between the wavelet bands of teacher and adapted student.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first.
        confidence: for the masks with a score: per map (N, 1, H_i, W_i) in [0, 1], the teacher's class confidence.
        boxes: for the part `head`: the box branches' outputs (N, 4 reg_max, H_i, W_i) of student and of teacher.
        Returns the unweighted parts whose weight is not 0, each summed over maps: `high` (details) and `low` (the low
        band), `spatial` (mean squared error of the aligned maps) and `head` (smooth L1 of the box branches).

    Args:
        student_channels: Of the student's maps.
        teacher_channels: Of the teacher's.
        variant: `released` follows the official code: L1 of the details. `paper` adds the low band and the relational
            weight (equations 8 to 10). `plus` follows FreeKD+'s two ideas: the low band is aligned strongly (squared
            error) and the details loosely (log(1 + |difference|)), and the student refines the masks after a warm-up.
        levels: Of the wavelet transform.
        prompts: T.
        wavelet: Any that `dwt` knows; only Haar has the fused kernel.
        mask: Where the points of interest come from. Scores are divided by their mean over the batch; they weigh the
            part `spatial` as well.
        adapter: See `adapters`.
        scale: `teacher_std` divides every map by the teacher's standard deviation, `none` compares raw maps.
        reduction: `mean` weighs every wavelet level alike (as released), `sum` every coefficient (as the paper writes
            it, per position and channel).
        high: Weight of the details; null: the variant's own.
        low: Of the low band; null: the variant's own.
        spatial: Of the squared error that the official configs add (5 for RetinaNet); 0 leaves it out.
        head: Of the smooth L1 between box branches that the official configs add (1 for RetinaNet); 0 leaves it out.
            Heads of different `reg_max` are compared by the distances that they predict.
        refine_after_steps: Warm-up of `plus`, in training steps.

    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        variant: Variant = "released",
        levels: int = 3,
        prompts: int = 6,
        wavelet: str = "haar",
        mask: Mask = "prompt",
        adapter: Adapter = "linear",
        scale: Literal["none", "teacher_std"] = "none",
        reduction: Literal["mean", "sum"] | None = None,
        high: float | None = None,
        low: float | None = None,
        spatial: float = 0.0,
        head: float = 0.0,
        refine_after_steps: int = 1000,
    ) -> None:
        super().__init__()
        self.variant, self.levels, self.wavelet, self.mask, self.scale = variant, levels, wavelet, mask, scale
        self.reduction = reduction or REDUCTION[variant]
        self.refine_after_steps = refine_after_steps
        high = HIGH_WEIGHT[variant] if high is None else high
        low = LOW_WEIGHT[variant] if low is None else low
        weights = {"high": high, "low": low, "spatial": spatial, "head": head}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.extras = frozenset(["confidence"] * ("score" in mask) + ["boxes"] * (head != 0))
        self.adapters = adapters(student_channels, teacher_channels, adapter)
        self.prompts = init_prompts(teacher_channels, levels, prompts).requires_grad_(False)
        if variant == "paper":
            self.relation_teacher, self.relation_student = Relation(teacher_channels), Relation(teacher_channels)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # of `plus`; kept for exact resume

    def load_prompts(self, prompts: dict[str, Tensor]) -> None:
        """Take trained prompts, a state dict `<map>` -> (1 + levels, T, C)."""
        for level, own in enumerate(self.prompts):
            came = tuple(prompts[str(level)].shape) if str(level) in prompts else None
            if came != tuple(own.shape):
                raise PipelineError(
                    f"map {level}: the trained prompts are {came}, the teacher and the levels ask for "
                    f"{tuple(own.shape)}: run `dvc repro prompt`"
                )
        self.prompts.load_state_dict(prompts)

    def forward(
        self,
        student: list[Tensor],
        teacher: list[Tensor],
        *,
        confidence: list[Tensor] | None = None,
        boxes: tuple[list[Tensor], list[Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Compare all maps."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self.weights}
        with torch.autocast(student[0].device.type, enabled=False):
            omegas = self._omegas(student, teacher)
            for level, (adapt, s, t) in enumerate(zip(self.adapters, student, teacher, strict=True)):
                aligned = adapt(s)
                score = self._score(None if confidence is None else confidence[level])
                if "spatial" in parts:
                    parts["spatial"].append(self._squared_error(aligned, t, score))
                if "high" in parts or "low" in parts:
                    gates = self._gates(level, aligned, t, score)
                    for name, value in self._compare(aligned, t, gates, omegas[level]).items():
                        parts[name].append(value)
                if "head" in parts:
                    parts["head"].append(_box_term(level, boxes))
        if self.variant == "plus" and self.training:
            self.steps += 1
        return {name: torch.stack(values).sum() for name, values in parts.items()}

    def _compare(self, s: Tensor, t: Tensor, gates: list[Tensor], omega: Tensor | None) -> dict[str, Tensor]:
        """Measure `high` and `low` of one map pair."""
        scale = self._scale(t)
        if self.variant == "plus" or self.wavelet != "haar":
            high, low = self._distances((s - t) / scale, gates)
        else:
            high, low = haar_l1(s, t, gates[1:], gates[0] if "low" in self.weights else None)
            high, low = high / scale, low / scale
        parts = {"high": high, "low": low}
        return {name: (s if omega is None else s * omega).sum() for name, s in parts.items() if name in self.weights}

    def _squared_error(self, s: Tensor, t: Tensor, score: Tensor | None) -> Tensor:
        """Average the squared error over channels and positions; with a score, weighted as Ultralytics' loss is."""
        root = 1.0 if score is None else score.sqrt()
        return F.mse_loss(s * root, t * root) / self._scale(t) ** 2

    def _scale(self, t: Tensor) -> Tensor | float:
        return t.std().clamp_min(1e-6) if self.scale == "teacher_std" else 1.0

    def _score(self, confidence: Tensor | None) -> Tensor | None:
        """Divide the teacher's confidence by its mean, where the mask asks for it."""
        if "score" not in self.mask:
            return None
        if confidence is None:
            raise PipelineError(f"freekd with mask {self.mask!r} needs the teacher's confidence beside its maps")
        return confidence / confidence.mean().clamp_min(1e-9)

    def _distances(self, difference: Tensor, gates: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Do what `haar_l1` does for any wavelet, and for the distances of `plus`."""
        low, details = dwt(difference, self.levels, self.wavelet)
        if self.variant == "plus":
            low, details = low.square(), [d.abs().log1p() for d in details]
        else:
            low, details = low.abs(), [d.abs() for d in details]
        sums = [(d.sum(dim=2) * gate).sum(dim=(2, 3)) for d, gate in zip(details, gates[1:], strict=True)]
        return torch.stack(sums).sum(dim=0), (low * gates[0]).sum(dim=(2, 3))

    @torch.no_grad()
    def _gates(self, level: int, s: Tensor, t: Tensor, score: Tensor | None) -> list[Tensor]:
        """Weigh every coefficient: mask x reduction. The T masks are positive and shared: their mean does the same."""
        sizes = self._band_sizes(t)
        gates = [t.new_ones(1, 1, 1, 1)] * (1 + self.levels)
        if "prompt" in self.mask:
            marked = masks(self.prompts[level], t, self.wavelet)
            if self.variant == "plus" and self.steps >= self.refine_after_steps:
                refined = masks(self.prompts[level], s, self.wavelet)
                marked = [m * r for m, r in zip(marked, refined, strict=True)]
            gates = [mask.mean(dim=1, keepdim=True) for mask in marked]
        if score is not None:
            depths = [self.levels, *range(1, self.levels + 1)]
            gates = [g * _pooled(score, depth, z) for g, depth, z in zip(gates, depths, sizes, strict=True)]
        return [gate * weight for gate, weight in zip(gates, self._coefficient_weights(t, sizes), strict=True)]

    def _band_sizes(self, t: Tensor) -> list[tuple[int, int]]:
        """List the bands' heights and widths, low band first."""
        if self.wavelet == "haar":
            h, w = t.shape[-2:]
            sizes = [(-(-h // 2**level), -(-w // 2**level)) for level in range(1, self.levels + 1)]
            return [sizes[-1], *sizes]
        return [tuple(s.shape[-2:]) for s in band_sums(t[:1, :1], self.levels, self.wavelet)]  # type: ignore[misc]

    def _coefficient_weights(self, t: Tensor, sizes: list[tuple[int, int]]) -> list[float]:
        """Turn sums over a band into the mean over it, or into sums per position and channel of the map."""
        n, c, h, w = t.shape
        if self.reduction == "sum":
            return [1 / (n * c * h * w)] * len(sizes)
        (low_h, low_w), *details = sizes
        return [1 / (n * c * low_h * low_w), *(1 / (3 * n * c * h * w) for h, w in details)]

    def _omegas(self, student: list[Tensor], teacher: list[Tensor]) -> list[Tensor] | list[None]:
        if self.variant != "paper":
            return [None] * len(teacher)
        with torch.no_grad():
            aligned = [adapt(s) for adapt, s in zip(self.adapters, student, strict=True)]
        pairs = zip(self.relation_teacher(teacher), self.relation_student(aligned), strict=True)
        return [joint(t, s) for t, s in pairs]


def _pooled(score: Tensor, depth: int, size: tuple[int, int]) -> Tensor:
    """Average a score over the positions of each coefficient."""
    pooled = F.avg_pool2d(score, 2**depth, ceil_mode=True)
    return pooled if tuple(pooled.shape[2:]) == size else F.adaptive_avg_pool2d(score, size)  # longer filters


def _box_term(level: int, boxes: tuple[list[Tensor], list[Tensor]] | None) -> Tensor:
    if boxes is None:
        raise PipelineError("freekd with head > 0 needs the box branches' outputs of student and teacher")
    s, t = boxes[0][level].float(), boxes[1][level].float()
    return F.smooth_l1_loss(s, t) if s.shape == t.shape else F.smooth_l1_loss(_box_distances(s), _box_distances(t))


def _box_distances(x: Tensor) -> Tensor:
    """Decode a box branch (N, 4 bins, H, W) to the expected distances (N, 4, H, W), in units of the stride."""
    bins = x.shape[1] // 4
    if bins == 1:
        return x
    return torch.einsum("nkbhw,b->nkhw", x.unflatten(1, (4, bins)).softmax(dim=2), torch.arange(bins).to(x))
