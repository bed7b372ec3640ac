"""What is checked before anything runs: that the sections of params.yaml fit the data, and the models each other."""

from __future__ import annotations

from typing import Final

from pipeline.errors import PipelineError
from pipeline.model_names import model_levels
from pipeline.params import Params
from pipeline.tasks import Task

LABELS: Final[dict[Task, str]] = {"detect": "boxes", "segment": "masks"}
SOURCE_TASKS: Final[dict[str, tuple[Task, ...]]] = {  # what a source has labels for
    "scenes": ("detect", "segment"),
    "yolo": ("detect",),
    "coco": ("detect",),
    "voc": ("detect",),
    "masks": ("segment",),
}


def preflight(params: Params) -> None:
    """Check tasks and models within seconds, so that a slip does not show after an hour of training.

    Raises:
        PipelineError: with every problem, a line each.

    """
    if problems := [*task_problems(params), *model_problems(params)]:
        raise PipelineError("\n".join(problems))


def task_problems(params: Params) -> list[str]:
    """Say which tasks have a teacher, but no labels in the data or no student."""
    problems = []
    for task in params.teacher:
        key, students = f"teacher.{task}", params.students_of(task)
        if task not in SOURCE_TASKS[params.prepare.source]:
            sections = " and ".join([key, *(f"students.{name}" for name in students)])
            problems.append(
                f"params.yaml: {key}: prepare.source {params.prepare.source} has no {LABELS[task]}, which task {task} "
                f"needs: remove {sections}, or set another source"
            )
        elif not students:
            problems.append(f"params.yaml: {key}: no student is for task {task}: remove the section, or add a student")
    return problems


def model_problems(params: Params) -> list[str]:
    """Say which models are unknown, missing or of another task, and which students do not fit their teacher."""
    teachers = [(f"teacher.{task}", task, teacher.model) for task, teacher in params.teacher.items()]
    students = [(f"students.{name}", model.task, model.model) for name, model in params.students.items()]
    problems: list[str] = []
    levels: dict[str, int | None] = {}
    for key, task, name in [*teachers, *students]:
        try:
            levels[key] = model_levels(name, task)
        except PipelineError as error:
            problems.append(f"params.yaml: {key}.model: {error}")
    teacher = levels.get("teacher.detect")  # segmenters' maps are paired by their stride, whatever their number
    for key, task, name in students:
        if task == "detect" and teacher and levels.get(key) not in {None, teacher}:
            problems.append(
                f"params.yaml: {key}.model: the head of {name} reads {levels[key]} maps, that of the teacher "
                f"{params.teacher[task].model} reads {teacher}: choose models of equally many levels"
            )
    return problems
