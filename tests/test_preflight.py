"""A slip in tasks and models is named within seconds, before anything trains."""

from pathlib import Path
from typing import Any

import pytest
import ultralytics
from ruamel.yaml import YAML

from models import build
from pipeline.errors import PipelineError
from pipeline.model_names import HEADS, model_levels
from pipeline.params import Params
from pipeline.preflight import preflight
from pipeline.tasks import Task

FAMILIES = sorted((Path(ultralytics.__file__).parent / "cfg/models").rglob("*.yaml"))


def changed(params: Params, **models: str) -> Params:
    """Change models by key: `teacher_detect`, or a student's name with underscores."""
    values = params.model_dump()
    for key, name in models.items():
        section, _, task = key.partition("teacher_")
        if task:
            values["teacher"][task]["model"] = name
        else:
            values["students"][section.replace("_", "-")]["model"] = name
    return Params.model_validate(values)


def test_preflight__the_default_is_fine(params: Params) -> None:
    preflight(params)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"micro_s": "micro-z.yaml"}, r"students\.micro-s\.model: model micro-z\.yaml: unknown scale.* n, s, m, l"),
        ({"micro_s": "yolo26q.yaml"}, r"students\.micro-s\.model: model yolo26q\.yaml: unknown"),
        ({"micro_s": "yolo62n.yaml"}, r"students\.micro-s\.model: model yolo62n\.yaml: unknown"),
        ({"micro_s": "micro-s"}, r"students\.micro-s\.model: model micro-s: unknown"),
        ({"micro_s": "../nowhere.yaml"}, r"students\.micro-s\.model: model \.\./nowhere\.yaml: unknown"),
        ({"micro_s": "../mine.pt"}, r"students\.micro-s\.model: model \.\./mine\.pt: no such file"),
        ({"teacher_detect": "yolo26q.pt"}, r"teacher\.detect\.model: model yolo26q\.pt: no such file"),
        ({"teacher_detect": "yolo26n-seg.pt"}, r"teacher\.detect\.model: model yolo26n-seg\.pt ends in Segment"),
        ({"teacher_detect": "unet-resnet18"}, r"teacher\.detect\.model: model unet-resnet18 is a segmenter"),
        ({"micro_s": "micro-s-sem.yaml"}, r"students\.micro-s\.model: .* ends in SemanticSegment, task detect needs"),
        ({"micro_s_sem": "micro-s.yaml"}, r"students\.micro-s-sem\.model: .* ends in Detect, task segment needs"),
        ({"micro_s_sem": "pspnet-resnet19"}, r"students\.micro-s-sem\.model: model pspnet-resnet19: unknown"),
        ({"micro_s": "yolo26n-p2.yaml"}, r"micro-s\.model: .* reads 4 maps, that of the teacher micro-l\.yaml reads 3"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_preflight__names_the_key_of_a_wrong_model(params: Params, models: dict[str, str], message: str) -> None:
    with pytest.raises(PipelineError, match=f"^params.yaml: {message}" if message[:2] != "mi" else message) as error:
        preflight(changed(params, **models))
    assert len(str(error.value)) < 600


def test_preflight__names_all_of_them(params: Params) -> None:
    with pytest.raises(PipelineError) as error:
        preflight(changed(params, micro_s="micro-z.yaml", teacher_segment="nowhere.pt"))
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    "models",
    [
        {"micro_s": "yolo26n.pt", "teacher_detect": "yolov8x.pt"},
        {"micro_s": "yolov5nu.pt", "teacher_detect": "yolov10m.yaml"},
        {"micro_s": "yolo11n.yaml", "micro_s_sem": "yolo26n-sem.pt"},
        {"teacher_segment": "deeplabv3plus-resnet50-imagenet", "micro_s_sem": "pspnet-mobilenet"},
    ],
    ids=lambda value: ", ".join(value.values()),
)
def test_preflight__takes_what_the_readme_names(params: Params, models: dict[str, str]) -> None:
    preflight(changed(params, **models))


def test_preflight__takes_files_of_the_users_own(params: Params, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"weights")
    (tmp_path / "mine.yaml").write_text("nc: 3\nbackbone: []\nhead:\n  - [[1, 2, 3], 1, Detect, [nc]]\n")
    preflight(changed(params, teacher_detect=str(tmp_path / "mine.yaml"), micro_s=str(tmp_path / "mine.pt")))


@pytest.mark.parametrize("text", ["", "head: []", "head: [[1, 1]]", "- a", "head: {a: 1}", "a: [", "head: 3"])
def test_preflight__names_a_file_that_is_no_architecture(params: Params, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"mine\.yaml(:1: is not valid YAML| does not describe a model)"):
        preflight(changed(params, micro_s=str(tmp_path / "mine.yaml")))


@pytest.mark.parametrize(("source", "left_over"), [("voc", "segment"), ("coco", "segment"), ("masks", "detect")])
def test_preflight__names_a_task_that_the_data_have_no_labels_for(params: Params, source: str, left_over: Task) -> None:
    values = params.model_dump()
    values["prepare"]["source"] = source
    student = params.students_of(left_over)[0]
    expected = rf"^params.yaml: teacher\.{left_over}: .* remove teacher\.{left_over} and students\.{student}"
    with pytest.raises(PipelineError, match=expected):
        preflight(Params.model_validate(values))
    del values["students"][student]
    with pytest.raises(PipelineError, match=rf"remove teacher\.{left_over}, or"):
        preflight(Params.model_validate(values))
    del values["teacher"][left_over]
    preflight(Params.model_validate(values))


def test_preflight__names_a_teacher_without_a_student(params: Params) -> None:
    values = params.model_dump()
    del values["students"]["micro-s-sem"]
    with pytest.raises(PipelineError, match=r"teacher\.segment: no student is for task segment: remove the section"):
        preflight(Params.model_validate(values))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda path: path.stem)
def test_model_levels__knows_every_architecture_that_ultralytics_ships(family: Path) -> None:
    inputs, _, head, *_ = YAML(typ="safe").load(family.read_text())["head"][-1]
    if head in HEADS["detect"]:
        assert model_levels(family.name, "detect") == len(inputs)
    else:
        with pytest.raises(PipelineError, match=f"ends in {head}"):
            model_levels(family.name, "detect")


@pytest.mark.parametrize("name", ["micro-n.yaml", "yolov8n-p2.yaml", "yolov8n6.yaml", "yolov10n.yaml"])
def test_model_levels__is_the_number_of_maps_of_the_built_model(name: str) -> None:
    head: Any = build(name, "detect", ["a", "b"], seed=0).model[-1]
    assert model_levels(name, "detect") == head.nl
