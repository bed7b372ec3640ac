"""Quantization-aware fine-tuning: starts from the distilled student, resumes exactly, leaves a plain student."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.backends import load
from pipeline.checkpoint_info import SKIPPED, load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.digest import file_digest
from pipeline.export.onnx import export_onnx
from pipeline.params import Machine, Params, Qat, Teacher
from pipeline.records import Skipped, read_record
from pipeline.stage import Stage
from pipeline.tasks import Task
from pipeline.training import quantization
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.distillation import TeacherJob
from pipeline.training.fake_quant import RANGES, insert, quantized_layers, read_ranges
from pipeline.training.prompts import PromptJob, train_prompts
from pipeline.training.quantization import QuantizationTrainer, calibrate, calibration_batches, fine_tune
from pipeline.training.trainer import Job
from stages import qat as stage_script
from tests.tiny import awake, save

QAT = Qat(enabled=True, epochs=2, learning_rate=0.001, warmup_epochs=0.0)
TEACHERS: dict[Task, str] = {"detect": "micro-s.yaml", "segment": "micro-s-sem.yaml"}
both = pytest.mark.parametrize("job", ["detect", "segment"], indirect=True)  # else detect alone


@pytest.fixture(scope="module")
def job(request: Any, mini_dataset: PreparedDataset, mini_recipes: dict[Task, Teacher], cpu: Machine) -> Job:
    task: Task = getattr(request, "param", "detect")
    recipe = mini_recipes[task]
    return Job(task, recipe.model, recipe, cpu, mini_dataset, Path("set by each test"))


@pytest.fixture(scope="module")
def artifacts(
    job: Job, params: Params, mini_recipes: dict[Task, Teacher], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Save an untrained teacher with prompts, and an untrained student as if it were distilled."""
    folder = tmp_path_factory.mktemp("artifacts")
    teacher = save(folder / "teacher", awake(TEACHERS[job.task], job.task, job.classes), job.task)
    save(folder / "distilled", awake(job.model, job.task, job.classes), job.task)
    prompt = params.prompt.model_copy(update={"iterations": 2, "batch_size": 8, "levels": 2})
    (folder / "state").mkdir()
    recipe = mini_recipes[job.task]
    prompt_job = PromptJob(job.task, prompt, recipe, job.machine, job.dataset, teacher, folder / "state")
    train_prompts(prompt_job, folder / "prompts", folder / "history.csv")
    return folder


@pytest.fixture(scope="module")
def teacher_job(job: Job, artifacts: Path, params: Params) -> TeacherJob:
    prompt = params.prompt.model_copy(update={"levels": 2})
    return TeacherJob(artifacts / "teacher", artifacts / "prompts", "freekd", params.distill.recipe(job.task), prompt)


def run(job: Job, teacher_job: TeacherJob, state: Path, qat: Qat = QAT) -> Path:
    """Fine-tune; the state lies in `state`, the result in `state/out`."""
    (state / "out").mkdir(parents=True, exist_ok=True)
    fine_tune(
        replace(job, state_dir=state),
        qat,
        teacher_job,
        teacher_job.teacher_dir.with_name("distilled"),
        state / "out",
        state / "history.csv",
        name="x",
        made_by="test",
    )
    return state / "out"


def bytes_of(out: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in [*out.iterdir(), out.with_name("history.csv")]}


@pytest.mark.slow
@both
def test_fine_tune__a_killed_and_resumed_run_ends_with_the_same_bytes(
    job: Job, teacher_job: TeacherJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):  # noqa: N818
        """Stands for SIGKILL."""

    class Mortal(QuantizationTrainer):
        def optimizer_step(self) -> None:
            super().optimizer_step()
            if self.epoch == 1:
                raise Killed

    whole = bytes_of(run(job, teacher_job, tmp_path / "whole"))
    assert set(whole) == {"model.safetensors", "model.json", RANGES, "history.csv"}
    with monkeypatch.context() as patch:
        patch.setattr(quantization, "QuantizationTrainer", Mortal)
        with pytest.raises(Killed):
            run(job, teacher_job, tmp_path / "resumed")
    assert not list((tmp_path / "resumed/out").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(quantization, "calibrate", lambda *_: pytest.fail("the ranges are in the state"))
        assert bytes_of(run(job, teacher_job, tmp_path / "resumed")) == whole


@pytest.mark.slow
@both
def test_fine_tune__leaves_a_plain_student_that_exports(
    job: Job, teacher_job: TeacherJob, params: Params, tmp_path: Path
) -> None:
    out = run(job, teacher_job, tmp_path)
    model, info = load_checkpoint(out)
    start, start_info = load_checkpoint(teacher_job.teacher_dir.with_name("distilled"))
    assert info.role == "qat"
    assert info.architecture == start_info.architecture
    assert set(model.state_dict()) == set(start.state_dict())
    assert set(read_ranges(out)) <= set(quantized_layers(model))
    export_onnx(out, tmp_path / "fp32.onnx", params.export)
    assert load(tmp_path / "fp32.onnx").metadata.task == job.task
    header, *rows = (tmp_path / "history.csv").read_text().splitlines()
    assert len(rows) == QAT.epochs
    assert {"train/high", "train/distill_share", "val/score"} <= set(header.split(","))


def test_fine_tune__starts_from_the_distilled_student_and_keeps_batchnorms_statistics(
    job: Job, teacher_job: TeacherJob, tmp_path: Path
) -> None:
    qat = QAT.model_copy(update={"epochs": 1})
    found, _ = load_checkpoint(run(job, teacher_job, tmp_path, qat))
    start, _ = load_checkpoint(teacher_job.teacher_dir.with_name("distilled"))
    before, after = start.state_dict(), found.state_dict()
    statistics = [key for key in before if "running" in key or "tracked" in key]
    assert statistics
    assert all(torch.equal(before[key], after[key]) for key in statistics)
    moved = [float((after[key] - before[key]).abs().max()) for key, _ in start.named_parameters()]
    assert 0 < max(moved) < 0.01, "a few steps of 0.001"


def test_trainer__trains_and_validates_the_quantized_student(
    job: Job, teacher_job: TeacherJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []

    class Watched(QuantizationTrainer):
        def validate(self) -> Any:
            ema: nn.Module = self.ema.ema
            plain = self.job.build_model().eval()
            plain.load_state_dict(ema.state_dict())
            images = torch.rand(2, 3, 64, 64)
            with torch.no_grad():
                in_float = plain(images)[0]
                insert(plain, self.ranges)
                assert torch.equal(ema(images)[0], plain(images)[0])
                assert not torch.equal(ema(images)[0], in_float)
            modes = {type(module): module.training for module in self.model.modules()}
            checked.append((modes[nn.BatchNorm2d], modes[nn.Conv2d]))
            return super().validate()

    monkeypatch.setattr(quantization, "QuantizationTrainer", Watched)
    run(job, teacher_job, tmp_path, QAT.model_copy(update={"epochs": 1}))
    assert checked == [(False, True)]


def test_calibrate__covers_every_calibration_image_in_any_batch_size(job: Job, artifacts: Path) -> None:
    batches = list(calibration_batches(job.dataset, 7))
    assert sum(len(batch) for batch in batches) == len(job.dataset.calibration_images) > 7
    ranges = calibrate(artifacts / "distilled", job)
    ends = float(min(batch.min() for batch in batches)), float(max(batch.max() for batch in batches))
    assert ranges["model.0.conv"] == ends
    recipe = job.training.model_copy(update={"batch_size": 5})
    again = calibrate(artifacts / "distilled", replace(job, training=recipe))
    assert again.keys() == ranges.keys()
    assert all(again[path] == pytest.approx(ends, rel=1e-4) for path, ends in ranges.items())


# -- the stage


@pytest.fixture
def stage(job: Job, artifacts: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Lay out what the stage reads, and go there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Stage, "check_inputs", lambda _stage: None)
    Path("dataset").symlink_to(job.dataset.root)
    Path("artifacts/detect/micro-s").mkdir(parents=True)
    for name, place in {"teacher": "teacher", "prompts": "prompts", "distilled": "micro-s/distilled"}.items():
        (Path("artifacts/detect") / place).symlink_to(artifacts / name)
    students = {"micro-s": params.students["micro-s"].model_copy(update={"model": job.model})}
    student = {"detect": params.student["detect"].model_copy(update={"batch_size": 8})}
    changes = {"students": students, "student": student, "machine": job.machine}
    (tmp_path / "state").mkdir()
    return Stage("qat", "micro-s", params.model_copy(update=changes), "digest", tmp_path / "state")


def with_qat(stage: Stage, **changes: Any) -> Stage:
    qat = stage.params.qat.model_copy(update=changes)
    return replace(stage, params=stage.params.model_copy(update={"qat": qat}))


def test_stage__that_is_switched_off_says_so(stage: Stage) -> None:
    stage_script.work(with_qat(stage, enabled=False))
    note = read_record(Path("artifacts/detect/micro-s/qat") / SKIPPED, Skipped)
    assert "qat.enabled is false" in note.skipped
    assert Path("results/detect/micro-s/qat/history.csv").read_text() == "epoch,val/score\n"


def test_stage__publishes_model_ranges_and_history(stage: Stage) -> None:
    stage_script.work(with_qat(stage, enabled=True, epochs=1))
    out = Path("artifacts/detect/micro-s/qat")
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "model.json", RANGES}
    info = load_info(out)
    assert (info.name, info.role, info.made_by) == ("micro-s", "qat", "digest")
    assert len(Path("results/detect/micro-s/qat/history.csv").read_text().splitlines()) == 2
