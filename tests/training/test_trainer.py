"""Exact resume, equal data with and without a teacher, and plain students."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.digest import file_digest
from pipeline.distill.losses import LOSSES
from pipeline.errors import PipelineError
from pipeline.params import Machine, Method, Params, Prompt, Teacher
from pipeline.tasks import Task
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.distillation import DistillationTrainer, TeacherJob
from pipeline.training.prompts import PromptJob, skip_prompts, train_prompts
from pipeline.training.run import train
from pipeline.training.trainer import Job, Trainer

pytestmark = pytest.mark.slow


TEACHERS: dict[Task, str] = {"detect": "micro-s.yaml", "segment": "micro-s-sem.yaml"}
both = pytest.mark.parametrize("job", ["detect", "segment"], indirect=True)  # else detect alone


@pytest.fixture(scope="module")
def job(
    request: Any,
    mini_dataset: PreparedDataset,
    mini_recipes: dict[Task, Teacher],
    cpu: Machine,
    tmp_path_factory: Any,
) -> Job:
    task: Task = getattr(request, "param", "detect")
    recipe = mini_recipes[task]
    return Job(task, recipe.model, recipe, cpu, mini_dataset, tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def teacher_job(job: Job, params: Params, tmp_path_factory: Any) -> TeacherJob:
    """Train a teacher for three epochs, and prompts for four iterations."""
    folder = tmp_path_factory.mktemp("teacher")
    teacher, prompts = folder / "teacher", folder / "prompts"
    run(replace(job, model=TEACHERS[job.task], state_dir=folder / "state"), teacher)
    recipe = params.prompt.model_copy(update={"iterations": 4, "batch_size": 8, "levels": 2})
    train_prompts(prompt_job(recipe, job, teacher, folder / "state"), prompts, folder / "history.csv")
    return TeacherJob(teacher, prompts, params.distill.method, params.distill.recipe(job.task), recipe)


def changed(teacher_job: TeacherJob, method: Method | None = None, **update: Any) -> TeacherJob:
    """Change the method, or keys of the recipe."""
    recipe = teacher_job.recipe.model_copy(update=update)
    return replace(teacher_job, method=method or teacher_job.method, recipe=recipe)


def prompt_job(recipe: Prompt, job: Job, teacher: Path, state: Path) -> PromptJob:
    state.mkdir(exist_ok=True)
    return PromptJob(job.task, recipe, job.training, job.machine, job.dataset, teacher, state)


def run(job: Job, out: Path, trainer: type[Trainer] = Trainer, **attributes: Any) -> Path:
    job.state_dir.mkdir(exist_ok=True)
    train(job, out, out / "history.csv", name="x", role="control", made_by="test", trainer=trainer, **attributes)
    return out


def bytes_of(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


class Killed(Exception):  # noqa: N818
    """Stands for SIGKILL."""


def killed_after(epochs: int, trainer: type[Trainer]) -> type[Trainer]:
    """Make a trainer that dies in the middle of the epoch after `epochs` whole ones."""

    class Mortal(trainer):  # type: ignore[valid-type,misc]
        def optimizer_step(self) -> None:
            super().optimizer_step()
            if self.epoch == epochs and self.optimizer.state:
                raise Killed

    return Mortal


@both
@pytest.mark.parametrize("epochs", [1, 2])
def test_trainer__a_killed_and_resumed_run_ends_with_the_same_bytes(job: Job, tmp_path: Path, epochs: int) -> None:
    whole = run(replace(job, state_dir=tmp_path / "a"), tmp_path / "whole")
    resumed = replace(job, state_dir=tmp_path / "b")
    with pytest.raises(Killed):
        run(resumed, tmp_path / "resumed", killed_after(epochs, Trainer))
    assert bytes_of(whole) == bytes_of(run(resumed, tmp_path / "resumed"))


def test_distillation__a_killed_and_resumed_run_ends_with_the_same_bytes(
    job: Job, teacher_job: TeacherJob, tmp_path: Path
) -> None:
    whole = run(
        replace(job, state_dir=tmp_path / "a"), tmp_path / "whole", DistillationTrainer, teacher_job=teacher_job
    )
    resumed = replace(job, state_dir=tmp_path / "b")
    with pytest.raises(Killed):
        run(resumed, tmp_path / "resumed", killed_after(1, DistillationTrainer), teacher_job=teacher_job)
    assert bytes_of(whole) == bytes_of(run(resumed, tmp_path / "resumed", DistillationTrainer, teacher_job=teacher_job))


METHODS: dict[Method, dict[str, Any]] = {
    **{method: {} for method in LOSSES},  # type: ignore[dict-item]
    "freekd": {"variant": "plus", "mask": "prompt*score", "head": 1.0, "spatial": 1.0, "refine_after_steps": 4},
    "maskd": {"warmup_steps": 4},
}


def options_of(method: Method, task: Task) -> dict[str, Any]:
    """Leave out what only detectors have."""
    return {key: value for key, value in METHODS[method].items() if task == "detect" or key != "head"}


@both
@pytest.mark.parametrize("method", METHODS)
def test_distillation__every_method_resumes_exactly(
    job: Job, teacher_job: TeacherJob, tmp_path: Path, method: Method
) -> None:
    weighting = "linear" if method == "dist" else "balanced"
    teacher_job = changed(
        teacher_job, method, weighting=weighting, weight=0.3, options={method: options_of(method, job.task)}
    )
    whole = run(
        replace(job, state_dir=tmp_path / "a"), tmp_path / "whole", DistillationTrainer, teacher_job=teacher_job
    )
    resumed = replace(job, state_dir=tmp_path / "b")
    with pytest.raises(Killed):
        run(resumed, tmp_path / "resumed", killed_after(2, DistillationTrainer), teacher_job=teacher_job)
    assert bytes_of(whole) == bytes_of(run(resumed, tmp_path / "resumed", DistillationTrainer, teacher_job=teacher_job))


def test_distillation__that_is_not_finite_names_step_map_and_shapes_and_keeps_the_state(
    job: Job, teacher_job: TeacherJob, tmp_path: Path
) -> None:
    class Diverging(DistillationTrainer):
        def optimizer_step(self) -> None:
            super().optimizer_step()
            if self.epoch == 1:
                self.distill_loss.adapters[1].bias.data.fill_(torch.inf)

    message = (
        r"not finite at step 5 \(high (nan|inf).*map 1: student \(8, \d+, 4, 4\) from .*, teacher \(8, \d+, 4, 4\) from"
    )
    plain = changed(teacher_job, options={})
    with pytest.raises(PipelineError, match=message):
        run(replace(job, state_dir=tmp_path / "a"), tmp_path / "out", Diverging, teacher_job=plain)
    assert (tmp_path / "a/last.pt").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"options": {"freekd": {"levels": 2}}}, r"distill.detect.options.freekd.levels: .*section prompt"),
        ({"options": {"freekd": {"masks": "score"}}}, r"options.freekd.masks: unknown option"),
        ({"method": "dist", "weighting": "balanced"}, r"distill.detect.weighting: balanced"),
    ],
)
def test_distillation__options_that_do_not_fit_stop_before_the_first_step(
    job: Job, teacher_job: TeacherJob, tmp_path: Path, update: dict[str, Any], message: str
) -> None:
    wrong = changed(teacher_job, **update)
    with pytest.raises(PipelineError, match=message):
        run(replace(job, state_dir=tmp_path / "a"), tmp_path / "out", DistillationTrainer, teacher_job=wrong)
    assert not (tmp_path / "out").exists()


@both
def test_distillation__weight_zero_is_the_control(job: Job, teacher_job: TeacherJob, tmp_path: Path) -> None:
    off = changed(teacher_job, weight=0.0)
    control = run(replace(job, state_dir=tmp_path / "a"), tmp_path / "control")
    distilled = run(
        replace(job, state_dir=tmp_path / "b"), tmp_path / "distilled", DistillationTrainer, teacher_job=off
    )
    assert (control / "model.safetensors").read_bytes() == (distilled / "model.safetensors").read_bytes()


@both
def test_distillation__leaves_a_plain_student_and_an_untouched_teacher(
    job: Job, teacher_job: TeacherJob, tmp_path: Path
) -> None:
    before = bytes_of(teacher_job.teacher_dir)
    out = run(replace(job, state_dir=tmp_path / "a"), tmp_path / "out", DistillationTrainer, teacher_job=teacher_job)
    model, info = load_checkpoint(out)
    assert info.params_m < 0.2
    assert not model.model[-1]._forward_pre_hooks
    assert bytes_of(teacher_job.teacher_dir) == before
    header = (out / "history.csv").read_text().splitlines()[0].split(",")
    assert {"train/high", "train/share_high", "train/distill_share", "val/score"} <= set(header)
    assert not {"val/high", "val/share_high", "val/distill_share"} & set(header)


def test_distillation__a_mask_without_prompts_needs_none(job: Job, teacher_job: TeacherJob, tmp_path: Path) -> None:
    skip_prompts(tmp_path / "prompts", tmp_path / "history.csv")
    trained = changed(teacher_job, options={"freekd": {"mask": "score"}})
    skipped = replace(trained, prompts_dir=tmp_path / "prompts")
    outs = [
        run(replace(job, state_dir=tmp_path / name), tmp_path / f"out-{name}", DistillationTrainer, teacher_job=given)
        for name, given in (("trained", trained), ("skipped", skipped))
    ]
    assert bytes_of(outs[0]) == bytes_of(outs[1])
    with pytest.raises(PipelineError, match=r"holds no prompts \(distill\.method and its mask .* read no prompts\)"):
        run(
            replace(job, state_dir=tmp_path / "c"), tmp_path / "c", DistillationTrainer,
            teacher_job=changed(skipped, options={"freekd": {"mask": "prompt"}}),
        )  # fmt: skip


@both
def test_prompts__a_resumed_run_ends_with_the_same_bytes(
    job: Job, teacher_job: TeacherJob, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.training.prompts.SAVE_EVERY", 1)
    recipe = params.prompt.model_copy(update={"iterations": 5, "batch_size": 8, "levels": 2})
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train_prompts(prompt_job(recipe, job, teacher_job.teacher_dir, tmp_path / "a"), whole, whole / "history.csv")

    from pipeline.training import prompts

    save = prompts.save_state

    def save_and_die(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        if len(state["history"]) == 2:
            raise Killed

    monkeypatch.setattr(prompts, "save_state", save_and_die)
    interrupted = prompt_job(recipe, job, teacher_job.teacher_dir, tmp_path / "b")
    with pytest.raises(Killed):
        train_prompts(interrupted, resumed, resumed / "history.csv")
    monkeypatch.setattr(prompts, "save_state", save)
    train_prompts(interrupted, resumed, resumed / "history.csv")
    assert bytes_of(whole) == bytes_of(resumed)


def test_trainer__a_loss_that_is_not_finite_stops_with_the_epoch_and_keeps_the_state(job: Job, tmp_path: Path) -> None:
    class Diverging(Trainer):
        def optimizer_step(self) -> None:
            super().optimizer_step()
            if self.epoch == 1:
                next(self.model.parameters()).data.fill_(torch.nan)

    state = tmp_path / "state"
    with pytest.raises(PipelineError, match=r"not finite in epoch 2 .*kept in"):
        run(replace(job, state_dir=state), tmp_path / "out", Diverging)
    assert (state / "last.pt").exists()
    assert not (tmp_path / "out").exists()


def test_trainer__a_log_file_gets_a_line_per_epoch(job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(replace(job, state_dir=tmp_path / "a"), tmp_path / "out")
    printed, warned = capfd.readouterr()
    epochs = [line for line in printed.splitlines() if ": epoch " in line]
    assert [line.split(": AP50-95")[0] for line in epochs] == [f"{job.model}: epoch {n} of 3" for n in (1, 2, 3)]
    assert len(printed.splitlines()) <= len(epochs) + 6
    assert "\r" not in printed + warned
    assert max(map(len, printed.splitlines())) < 200


@both
def test_trainer__writes_nothing_into_the_dataset(job: Job, tmp_path: Path) -> None:
    before = sorted(job.dataset.root.rglob("*"))
    run(replace(job, state_dir=tmp_path / "a"), tmp_path / "out")
    assert sorted(job.dataset.root.rglob("*")) == before


@both
def test_trainer__an_untrained_class_list_is_in_the_checkpoint(job: Job, tmp_path: Path) -> None:
    info = load_info(run(replace(job, state_dir=tmp_path / "a"), tmp_path / "out"))
    assert info.classes == job.classes
    assert info.strides == {"detect": [8, 16, 32], "segment": [4, 8]}[job.task]
    assert 1 <= info.best_epoch <= job.training.epochs


@both
def test_trainer__survives_a_process_that_knows_nothing_of_it(job: Job, tmp_path: Path) -> None:
    """Ultralytics' DDP sends the trainer's class to workers through cloudpickle: its job must travel with it."""
    import subprocess
    import sys

    import cloudpickle

    bound = type("Trainer", (Trainer,), {"job": replace(job, state_dir=tmp_path), "__module__": "__main__"})
    (tmp_path / "trainer.pkl").write_bytes(cloudpickle.dumps(bound))
    code = "import sys, pickle; t = pickle.load(open(sys.argv[1], 'rb'))(); print(t.data['nc'], t.epochs)"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "trainer.pkl"], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == [f"{len(job.classes)} 3"], done.stderr


@both
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_trainer__classes_weigh_what_ultralytics_makes_of_their_counts(job: Job, tmp_path: Path, power: float) -> None:
    weights: list[Any] = []

    class Watched(Trainer):
        def _setup_train(self) -> None:
            super()._setup_train()
            weights.append(getattr(self.model, "class_weights", None))

    training = job.training.model_copy(update={"class_weight_power": power, "epochs": 1})
    run(replace(job, training=training, state_dir=tmp_path), tmp_path / "out", Watched)

    if power == 0:
        assert weights == [None]
    else:
        expected = expected_weights(job)
        np.testing.assert_allclose(weights[0].numpy(), expected / expected.mean(), rtol=1e-5)


def expected_weights(job: Job) -> Any:
    """Weigh by 1/n boxes, and by 1/ln(1.02 + share of pixels) (ENet)."""
    counts = np.zeros(len(job.classes))
    for image in job.dataset.images("train"):
        if job.task == "detect":
            found = np.loadtxt(str(image).replace("images", "labels").replace(".png", ".txt"), ndmin=2)[:, 0].astype(
                int
            )
        else:
            found = cv2.imread(str(image).replace("images", "masks"), cv2.IMREAD_GRAYSCALE).ravel()
        counts += np.bincount(found, minlength=len(counts))
    return 1 / counts if job.task == "detect" else 1 / np.log(1.02 + counts / counts.sum())
