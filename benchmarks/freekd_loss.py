"""The released FreeKD loss, ours against the formula as it stands: time and memory of forward and backward.

    python -m benchmarks.freekd_loss

YOLO maps, N = 8, strides 8, 16 and 32 of 640 px, 64, 128 and 256 channels. Naive: two transforms by pytorch_wavelets
and T-fold expanded bands of both networks, as in the official code, but with frozen prompts (the official code computes
their gradient as well, and throws it away). Both sides are timed alternately, with the 1x1 adapters in front and
without. Memory is torch's allocator's peak during forward and backward; `extra` leaves out the student's gradient,
which either has to return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_wavelets import DWTForward
from torch import Tensor, nn

from benchmarks.measure import alternately, options, peak_mb, ratio, record, summary
from pipeline.distill import build_loss

CHANNELS, SIDES, N, LEVELS = [64, 128, 256], [80, 40, 20], 8, 3
ROUNDS = 15


def naive_loss(prompts: nn.ParameterList, student: list[Tensor], teacher: list[Tensor], transform: nn.Module) -> Tensor:
    """Write the release's formula: mean over (N, T, C, 3, h, w) per level, summed over levels and maps."""
    total = student[0].new_zeros(())
    for prompt, s, t in zip(prompts, student, teacher, strict=True):
        _, student_bands = transform(s)
        _, teacher_bands = transform(t)
        for row, s_band, t_band in zip(prompt[1:], student_bands, teacher_bands, strict=True):
            n, _, _, h, w = t_band.shape
            mask = (row @ t_band.sum(dim=2).flatten(2)).sigmoid().view(n, -1, 1, 1, h, w)
            total = total + F.l1_loss(mask * s_band[:, None], mask * t_band[:, None])
    return total


def measure(device: str, prompts: int) -> list[dict[str, object]]:
    """Measure one T with and without adapters."""
    torch.manual_seed(0)
    loss: Any = build_loss("freekd", CHANNELS, CHANNELS, variant="released", levels=LEVELS, prompts=prompts).to(device)
    transform = DWTForward(J=LEVELS, wave="haar", mode="zero").to(device)
    shapes = [(N, c, side, side) for c, side in zip(CHANNELS, SIDES, strict=True)]
    student = [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]
    teacher = [torch.randn(shape, device=device) for shape in shapes]
    adapters, nothing = loss.adapters, nn.ModuleList(nn.Identity() for _ in CHANNELS)

    def step(function: Callable[[], Tensor], front: nn.ModuleList) -> Callable[[], None]:
        def run() -> None:
            loss.adapters = front
            for s in student:
                s.grad = None
            function().backward()

        return run

    def ours() -> Tensor:
        return loss(student, teacher)["high"]

    def naive() -> Tensor:
        maps = [adapt(s) for adapt, s in zip(loss.adapters, student, strict=True)]
        return naive_loss(loss.prompts, maps, teacher, transform)

    rows = []
    gradient_mb = sum(s.numel() * s.element_size() for s in student) / 1e6
    for label, front in (("loss alone", nothing), ("with adapters", adapters)):
        functions = {"naive": step(naive, front), "ours": step(ours, front)}
        times = alternately(functions, ROUNDS)
        peak = {}
        for name, function in functions.items():
            for s in student:
                s.grad = None
            peak[name] = peak_mb(function, device)
        extra = {name: value - gradient_mb for name, value in peak.items()}
        rows.append(
            {
                "device": device,
                "T": prompts,
                "what": label,
                "naive_p50_ms": summary(times["naive"])["p50_ms"],
                "ours_p50_ms": summary(times["ours"])["p50_ms"],
                "faster": ratio(times, "naive", "ours"),
                "naive_peak_mb": round(peak["naive"], 1),
                "ours_peak_mb": round(peak["ours"], 1),
                "less_peak": round(peak["naive"] / peak["ours"], 2),
                "less_extra": round(extra["naive"] / extra["ours"], 2),
            }
        )
    return rows


def main() -> None:
    """Measure T = 6, as in the released RetinaNet prompts, and T = 2, as in the paper."""
    devices, out = options(__doc__)
    record("freekd_loss", [row for device in devices for prompts in (6, 2) for row in measure(device, prompts)], out)


if __name__ == "__main__":
    main()
