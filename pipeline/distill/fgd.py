"""FGD: foreground, background, attention and context of a detector's maps (Yang et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.distill.adapter import adapters
from pipeline.distill.loss import DistillationLoss


class FGD(DistillationLoss):
    """Compare maps where the teacher attends, objects and background apart, then their attention and their context.

    With the teacher's attention A_space (N, H, W) and A_channel (N, C), see `_attention`, and sums divided by N only:
        foreground  sum mask A_space A_channel (s - t)^2, mask = the largest 1 / ((h + 1) (w + 1)) of the boxes there;
        background  the same with mask = 1 / number of positions outside every box of the image;
        attention   sum |A_channel^s - A_channel^t| + sum |A_space^s - A_space^t|;
        relation    sum (c_s(s) - c_t(t))^2, c_s and c_t a global context block each, trained beside the student.

    Shape:
        student, teacher: equally long lists of (N, C_i, H_i, W_i), finest first; H_i, W_i equal in both.
        objects: (M, 5), each the image's index in the batch, then x1, y1, x2, y2 as fractions in [0, 1] of the image's
        width and height. None, or an image without rows: all of it is background.
        Returns the four parts, summed over maps.

    Weights `foreground`, `background`, `attention`, `relation` are the paper's alpha, beta, gamma, lambda; defaults are
    those released for RetinaNet (two-stage: 5e-5, 2.5e-5, 5e-5, 5e-7; FCOS: temperature 0.8 and weights x 1.6). A box
    covers the cells floor(x1 W) to ceil(x2 W), inclusive, as released; the release swaps a map's rows and columns
    there, which is not repeated.
    """

    extras: frozenset[str] = frozenset({"objects"})

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        temperature: float = 0.5,
        foreground: float = 1e-3,
        background: float = 5e-4,
        attention: float = 5e-4,
        relation: float = 5e-6,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        weights = {"foreground": foreground, "background": background, "attention": attention, "relation": relation}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.adapters = adapters(student_channels, teacher_channels)
        if relation:
            self.student_context = nn.ModuleList(_Context(count) for count in teacher_channels)
            self.teacher_context = nn.ModuleList(_Context(count) for count in teacher_channels)

    def forward(
        self, student: list[Tensor], teacher: list[Tensor], *, objects: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compare all maps."""
        with torch.autocast(student[0].device.type, enabled=False):
            if objects is None:
                objects = teacher[0].new_zeros(0, 5)
            maps = [
                self._compare(index, self.adapters[index](s), t, objects)
                for index, (s, t) in enumerate(zip(student, teacher, strict=True))
            ]
            return {name: torch.stack([parts[name] for parts in maps]).sum() for name in self.weights}

    def _compare(self, index: int, student: Tensor, teacher: Tensor, objects: Tensor) -> dict[str, Tensor]:
        space, channel = self._attention(teacher)
        parts = {}
        if "foreground" in self.weights or "background" in self.weights:
            error = torch.einsum("nchw,nc,nhw->nhw", (student - teacher).square(), channel, space)
            foreground = _object_mask(objects.to(teacher), *error.shape)  # (N, H, W)
            outside = (foreground == 0).to(error)
            parts["foreground"] = error * foreground
            parts["background"] = error * outside / outside.sum(dim=(1, 2), keepdim=True).clamp_min(1)
        if "attention" in self.weights:
            student_space, student_channel = self._attention(student)
            parts["attention"] = torch.cat(
                [(student_channel - channel).flatten(), (student_space - space).flatten()]
            ).abs()
        if "relation" in self.weights:
            parts["relation"] = (self.student_context[index](student) - self.teacher_context[index](teacher)).square()
        return {name: part.sum() / len(student) for name, part in parts.items()}

    def _attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax a map's mean magnitude over positions and over channels; either averages 1."""
        magnitude = x.abs() / self.temperature
        space, channel = magnitude.mean(dim=1), magnitude.mean(dim=(2, 3))  # (N, H, W), (N, C)
        return (
            space.flatten(1).softmax(dim=1).view_as(space) * space[0].numel(),
            channel.softmax(dim=1) * channel.shape[1],
        )


def _object_mask(objects: Tensor, images: int, height: int, width: int) -> Tensor:
    """Spread each box's weight 1 / ((h + 1) (w + 1)) over its cells; the largest wins. Returns (N, H, W)."""
    x1, y1, x2, y2 = (objects[:, 1:] * objects.new_tensor([width, height, width, height])).unbind(dim=1)
    x1, y1, x2, y2 = x1.floor(), y1.floor(), x2.ceil(), y2.ceil()  # (M,) each, in cells
    rows, columns = (torch.arange(size, device=objects.device) for size in (height, width))
    across = (rows >= y1[:, None]) & (rows <= y2[:, None])  # (M, H)
    along = (columns >= x1[:, None]) & (columns <= x2[:, None])  # (M, W)
    weight = 1 / ((y2 - y1 + 1) * (x2 - x1 + 1))  # (M,)
    masks = []
    for image in range(images):
        own = objects[:, 0] == image
        boxes = weight[own, None, None] * (across[own, :, None] & along[own, None, :])  # (m, H, W)
        masks.append(torch.cat([boxes.new_zeros(1, height, width), boxes]).amax(dim=0))
    return torch.stack(masks)


class _Context(nn.Module):
    """Add to every position what an attention-pooled summary of the map says: GcBlock."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, kernel_size=1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, channels // 2, kernel_size=1),
            nn.LayerNorm([channels // 2, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, kernel_size=1),
        )
        nn.init.kaiming_normal_(self.mask.weight, nonlinearity="relu")
        nn.init.zeros_(self.mask.bias)  # type: ignore[arg-type]
        for parameter in self.transform[-1].parameters():  # so that the block starts as the identity
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) for (N, C, H, W)."""
        attention = self.mask(x).flatten(2).softmax(dim=2)  # (N, 1, HW)
        pooled = torch.einsum("ncp,nop->nc", x.flatten(2), attention)
        return x + self.transform(pooled[:, :, None, None])
