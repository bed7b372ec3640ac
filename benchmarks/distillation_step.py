"""A whole distillation training step against what it cannot be cheaper than, and against Ultralytics' own.

    python -m benchmarks.distillation_step

Same student, same teacher, same batch, measured alternately in one process:

- `student`: forward, task loss, backward and optimiser step of the student alone;
- `teacher`: a bare forward pass of the frozen teacher;
- `ultralytics`: the step of Ultralytics' built-in `distill_model`;
- one row per method of ours, with the defaults of params.yaml for FreeKD and of the sources for its rivals.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.distill_model import DistillationModel

from benchmarks.measure import alternately, options, ratio, record, summary
from models import build
from pipeline.distill import build_loss
from pipeline.distill.losses import LOSSES
from pipeline.features import frozen, head_channels
from pipeline.params_file import load_params
from pipeline.training.criterion import DistillationCriterion
from pipeline.training.weighting import Weighting

CLASSES = ["a", "b", "c"]
CASES = [  # student, teacher, side in pixels, batch
    ("benchmarks/bccd/yolov8-half.yaml", "yolov8n.yaml", 256, 16),
    ("yolov8n.yaml", "yolov8s.yaml", 320, 8),
]
ROUNDS = 8


def batch_of(n: int, side: int, device: str) -> dict[str, Tensor]:
    """Draw images and eight boxes in each."""
    index = torch.arange(n, device=device).repeat_interleave(8)
    boxes = torch.cat([torch.rand(8 * n, 2) * 0.6 + 0.2, torch.rand(8 * n, 2) * 0.2 + 0.1], dim=1).to(device)
    classes = torch.randint(len(CLASSES), (8 * n, 1), device=device).float()
    return {"img": torch.rand(n, 3, side, side, device=device), "batch_idx": index, "cls": classes, "bboxes": boxes}


def training_step(
    model: nn.Module, batch: dict[str, Tensor], beside: nn.Module | None = None, criterion: object = None
) -> Callable[[], None]:
    """Make a step that trains a model, and the module beside it."""
    parameters = [p for module in (model, beside) if module for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    if criterion is not None:
        model.criterion = criterion  # type: ignore[assignment]

    def step() -> None:
        optimizer.zero_grad()
        loss, _ = model(batch)
        loss.sum().backward()
        optimizer.step()

    return step


def measure(student_name: str, teacher_name: str, side: int, n: int, device: str) -> list[dict[str, object]]:
    """Measure one pair of models."""
    torch.manual_seed(0)
    batch = batch_of(n, side, device)
    student, teacher = build(student_name, "detect", CLASSES, 0), build(teacher_name, "detect", CLASSES, 1)
    arguments = get_cfg(overrides={"imgsz": side})
    student.args = teacher.args = arguments
    student, teacher = student.to(device).train(), teacher.to(device).eval().requires_grad_(False)

    def bare_teacher() -> None:
        with torch.no_grad():
            teacher(batch["img"])

    built_in = DistillationModel(deepcopy(teacher), deepcopy(student)).to(device).train()
    functions = {
        "student": training_step(deepcopy(student), batch),
        "teacher": bare_teacher,
        "ultralytics, built in": training_step(built_in, batch),
    }
    for method in ["freekd", *sorted(set(LOSSES) - {"freekd"})]:
        own = deepcopy(student)
        criterion, loss = criterion_of(method, own, teacher, device)
        functions[method] = training_step(own, batch, loss, criterion)
    times = alternately(functions, ROUNDS)
    return [
        {
            "device": device,
            "student": f"{Path(student_name).stem}, {side} px, N = {n}",
            "teacher": Path(teacher_name).stem,
            "step": name,
            **summary(times[name]),
            "of_student_plus_teacher": ratio(times, name, "student", "teacher"),
            "of_ultralytics": ratio(times, name, "ultralytics, built in"),
        }
        for name in functions
    ]


def criterion_of(
    method: str, student: nn.Module, teacher: nn.Module, device: str
) -> tuple[DistillationCriterion, nn.Module]:
    """Build a method's criterion for a student, and the loss whose adapters train beside it."""
    method_options: Any = load_params().distill.recipe("detect").options.get(method, {})  # type: ignore[call-overload]
    loss = build_loss(method, head_channels(student), head_channels(teacher), **method_options).to(device)
    criterion = DistillationCriterion(
        "detect",
        student.init_criterion(),  # type: ignore[operator]
        student,
        frozen(teacher, torch.device(device)),
        pairs=[(index, index) for index in range(len(student.stride))],  # type: ignore[arg-type]
        loss=loss,
        weighting=Weighting("fixed", 0.1, steps=1),
    )
    return criterion, loss


def distillation_model(student_name: str, teacher_name: str, side: int, device: str) -> nn.Module:
    """Build a student whose loss is distilled from a teacher by FreeKD; its adapters are its own submodule."""
    student, teacher = build(student_name, "detect", CLASSES, 0), build(teacher_name, "detect", CLASSES, 1)
    student.args = teacher.args = get_cfg(overrides={"imgsz": side})
    student, teacher = student.to(device).train(), teacher.to(device).eval().requires_grad_(False)
    student.criterion, student.adapters = criterion_of("freekd", student, teacher, device)
    return student


def main() -> None:
    """Measure all pairs on all devices."""
    devices, out = options(__doc__)
    record("distillation_step", [row for device in devices for case in CASES for row in measure(*case, device)], out)


if __name__ == "__main__":
    main()
