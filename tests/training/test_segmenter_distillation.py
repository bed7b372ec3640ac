"""Distillation between segmenters: every method, and teachers of another family."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from ultralytics.nn.tasks import BaseModel

from pipeline.data.prepared import PreparedDataset
from pipeline.distill import build_loss
from pipeline.distill.losses import LOSSES
from pipeline.distill.pairing import pair_maps
from pipeline.errors import PipelineError
from pipeline.features import class_logits, features_only, frozen, head_channels, head_strides
from pipeline.params import DistillRecipe, Machine, Params, Teacher
from pipeline.tasks import Task
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.criterion import DistillationCriterion
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.extras import Step, segmenter_extras, segmenter_scores
from pipeline.training.prompts import PromptJob, load_prompts, train_prompts
from pipeline.training.run import train
from pipeline.training.trainer import Job
from pipeline.training.weighting import Weighting
from tests.tiny import awake, save

CLASSES = ["background", "a", "b", "c"]
CPU = torch.device("cpu")
PAIRS = {  # teacher, student: strides
    "own": ("micro-s-sem.yaml", "micro-n-sem.yaml"),  # 4 8, 4 8
    "pspnet": ("pspnet-mobilenet", "yolo26n-sem.yaml"),  # 8, 8 16
    "unet": ("unet-mobilenet", "micro-n-sem.yaml"),  # 1, 4 8
    "to a plain one": ("micro-s-sem.yaml", "deeplabv3plus-mobilenet"),  # 4 8, 4
}


def batch_of(count: int = 2) -> dict[str, Tensor]:
    """Make images, and masks of patches with an ignored stripe."""
    torch.manual_seed(1)
    masks = torch.randint(0, len(CLASSES), (count, 4, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    masks[:, :5] = 255
    return {"img": torch.rand(count, 3, 64, 64), "semantic_mask": masks.to(torch.int32)}


def criterion_of(student: BaseModel, teacher: BaseModel, method: str) -> DistillationCriterion:
    """Build what the trainer builds."""
    student.args = SimpleNamespace(data=None)
    pairs = pair_maps("segment", head_strides(student), head_strides(teacher))
    channels = head_channels(student), head_channels(teacher)
    torch.manual_seed(2)
    loss = build_loss(method, [channels[0][s] for s, _ in pairs], [channels[1][t] for _, t in pairs])
    weighting = Weighting("fixed", 0.3, 10)
    return DistillationCriterion(
        "segment", student.init_criterion(), student, frozen(teacher, CPU), pairs=pairs, loss=loss, weighting=weighting
    )


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("method", LOSSES)
def test_criterion__every_method_teaches_a_segmenter_of_any_family(method: str, pair: str) -> None:
    teacher, student = (awake(name, "segment", CLASSES) for name in PAIRS[pair])
    criterion, batch = criterion_of(student.train(), teacher, method), batch_of()
    predictions = student(batch["img"])
    loss, items = criterion(predictions, batch)
    plain, _ = criterion.task_loss(predictions, batch)
    assert loss.shape == (2,)
    torch.testing.assert_close(loss[0], plain.reshape(()))
    parts = [items[name] for name in criterion.loss.weights]
    torch.testing.assert_close(loss[1].detach(), sum(parts) * len(batch["img"]))
    assert 0 < items["distill_share"] < 1
    loss[1].backward()
    first = next(parameter for parameter in student.parameters() if parameter.requires_grad)
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.any(), "the distillation alone reaches the student's first layer"
    assert all(parameter.grad is None for parameter in criterion.teacher.parameters())


@pytest.mark.parametrize("method", ["cwd", "fgd", "mse", "pkd", "dist"])
def test_criterion__is_small_where_the_student_is_the_teacher(method: str) -> None:
    teacher, student = (awake("micro-n-sem.yaml", "segment", CLASSES) for _ in range(2))
    other = awake("micro-n-sem.yaml", "segment", CLASSES)
    torch.manual_seed(5)
    for parameter in other.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    batch, totals = batch_of(), []
    for model in (student, other):
        criterion = criterion_of(model, teacher, method)
        loss, _ = criterion(model(batch["img"]), batch)  # eval: equal BatchNorm statistics
        totals.append(float(loss[1].detach()))
    assert totals[0] < 0.02 * totals[1]


def test_extras__confidence_is_the_likeliest_class_on_each_compared_grid() -> None:
    teacher, batch = frozen(awake("unet-mobilenet", "segment", CLASSES), CPU), batch_of()
    features = features_only(teacher, batch["img"])  # stride 1
    compared = [torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 64, 64)]
    step = Step(teacher, [], features, compared, None, batch, background=0)
    extras = segmenter_extras(step, {"confidence"})
    assert list(extras) == ["confidence"]
    small, full = extras["confidence"]
    (logits,) = class_logits(teacher, features)
    expected = logits.softmax(dim=1).max(dim=1, keepdim=True).values
    torch.testing.assert_close(full, expected)
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(expected, 4))


@pytest.mark.parametrize("background", [0, None])
def test_extras__objects_are_the_regions_of_the_masks(background: int | None) -> None:
    batch = {"semantic_mask": torch.zeros(2, 64, 64, dtype=torch.int32)}
    batch["semantic_mask"][1, 16:32, 32:64] = 2
    step = Step(torch.nn.Identity(), [], [], [], None, batch, background)
    objects = segmenter_extras(step, {"objects"})["objects"].tolist()
    assert [1.0, 0.5, 0.25, 1.0, 0.5] in objects
    assert len(objects) == (1 if background == 0 else 3)


def test_scores__are_the_main_logits_in_training_and_out_of_it() -> None:
    model, batch = awake("micro-n-sem.yaml", "segment", CLASSES), batch_of()
    teacher = frozen(awake("pspnet-mobilenet", "segment", CLASSES), CPU)
    features = features_only(teacher, batch["img"])
    for predictions in (model(batch["img"]), model.train()(batch["img"])):
        step = Step(teacher, [], features, [], predictions, batch, None)
        (student,), (found,) = segmenter_scores(step)
        assert student is (predictions[0] if isinstance(predictions, tuple) else predictions)
        torch.testing.assert_close(found, teacher(batch["img"]), rtol=1e-3, atol=1e-3)


def test_criterion__an_error_names_the_tasks_own_key() -> None:
    teacher, student = (awake(name, "segment", CLASSES) for name in PAIRS["own"])
    criterion, batch = criterion_of(student.train(), teacher, "mse"), batch_of()
    criterion.loss.adapters[0].bias.data.fill_(torch.nan)  # type: ignore[union-attr,index]
    with pytest.raises(
        PipelineError, match=r"not finite at step 1 .*map 0: student \(2, .*Lower distill\.segment\.weig"
    ):
        criterion(student(batch["img"]), batch)


# -- the trainer


@pytest.fixture(scope="module")
def job(mini_dataset: PreparedDataset, mini_recipes: dict[Task, Teacher], cpu: Machine) -> Job:
    recipe = mini_recipes["segment"].model_copy(update={"epochs": 1})
    return Job("segment", "yolo26n-sem.yaml", recipe, cpu, mini_dataset, Path("set by each test"))


@pytest.fixture(scope="module")
def pspnet(job: Job, params: Params, tmp_path_factory: pytest.TempPathFactory) -> TeacherJob:
    """Save an untrained PSPNet, and train prompts in it."""
    return teacher_job_of("pspnet-mobilenet", job, params, tmp_path_factory.mktemp("pspnet"))


def teacher_job_of(name: str, job: Job, params: Params, folder: Path) -> TeacherJob:
    teacher = save(folder / "teacher", awake(name, "segment", job.classes), "segment")
    prompt = params.prompt.model_copy(update={"iterations": 2, "batch_size": 8, "levels": 2})
    (folder / "state").mkdir()
    prompts = PromptJob("segment", prompt, job.training, job.machine, job.dataset, teacher, folder / "state")
    train_prompts(prompts, folder / "prompts", folder / "history.csv")
    return TeacherJob(teacher, folder / "prompts", "freekd", params.distill.recipe("segment"), prompt)


@pytest.fixture(scope="module")
def own(job: Job, params: Params, tmp_path_factory: pytest.TempPathFactory) -> TeacherJob:
    """Save an untrained teacher of the own family, and train prompts in it."""
    return teacher_job_of("micro-s-sem.yaml", job, params, tmp_path_factory.mktemp("own"))


def with_options(teacher_job: TeacherJob, **freekd: Any) -> TeacherJob:
    recipe = DistillRecipe(weight=0.3, weighting="fixed", options={"freekd": freekd})
    return replace(teacher_job, recipe=recipe)


def run(
    job: Job, teacher_job: TeacherJob, folder: Path, trainer: type[DistillationTrainer] = DistillationTrainer
) -> Path:
    out, job = folder / "out", replace(job, state_dir=folder / "state")
    job.state_dir.mkdir()
    train(
        job,
        out,
        folder / "history.csv",
        name="x",
        role="distilled",
        made_by="test",
        trainer=trainer,
        teacher_job=teacher_job,
    )
    return out


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["released", "paper", "plus"])
def test_distillation__freekd_takes_a_pspnet_as_the_teacher_of_a_yolo(
    job: Job, pspnet: TeacherJob, tmp_path: Path, variant: str
) -> None:
    options = {"variant": variant, "mask": "prompt*score", "adapter": "mlp", "spatial": 1.0}
    out = run(job, with_options(pspnet, **options), tmp_path)
    prompts, _ = load_prompts(pspnet.prompts_dir)
    assert {key: value.shape[2] for key, value in prompts.items()} == {"0": 512}
    model, info = load_checkpoint(out)
    assert (info.task, info.strides) == ("segment", [8, 16])
    assert not model.model[-1]._forward_pre_hooks
    header = (tmp_path / "history.csv").read_text().splitlines()[0].split(",")
    assert {"train/high", "train/spatial", "train/distill_share", "val/score", "val/pixel_accuracy"} <= set(header)
    assert {"train/ce_loss", "train/dice_loss"} <= set(header)
    assert "train/head" not in header


@pytest.mark.slow
def test_distillation__a_student_that_reads_one_map_is_compared_with_the_teachers_of_its_stride(
    job: Job, own: TeacherJob, tmp_path: Path
) -> None:
    class Watched(DistillationTrainer):
        def _setup_train(self) -> None:
            super()._setup_train()
            assert self.pairs == [(0, 1)]
            own_prompts, _ = load_prompts(own.prompts_dir)
            assert [tuple(prompt.shape) for prompt in self.distill_loss.prompts] == [tuple(own_prompts["1"].shape)]
            assert torch.equal(self.distill_loss.prompts[0].cpu(), own_prompts["1"])

    run(replace(job, model="pspnet-mobilenet"), with_options(own, mask="prompt"), tmp_path, Watched)
    assert "train/high" in (tmp_path / "history.csv").read_text()


def test_distillation__box_branches_of_a_segmenter_are_a_clear_error(
    job: Job, pspnet: TeacherJob, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError, match=r"distill\.segment\.options\.freekd\.head: .*no box branches.*set it to 0"):
        run(job, with_options(pspnet, head=0.5), tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "weighting", "message"),
    [
        ("dist", "balanced", r"distill\.segment\.weighting: balanced compares gradients of features, dist reads none"),
        ("freekd", "fixed", r"distill\.segment\.options\.freekd\.levels: remove it, it is taken from section prompt"),
    ],
)
def test_distillation__a_recipe_that_does_not_fit_names_the_tasks_own_key(
    job: Job, pspnet: TeacherJob, tmp_path: Path, method: Any, weighting: Any, message: str
) -> None:
    recipe = DistillRecipe(weight=0.3, weighting=weighting, options={"freekd": {"levels": 2}})
    with pytest.raises(PipelineError, match=message):
        run(job, replace(pspnet, method=method, recipe=recipe), tmp_path)
