"""Ultralytics' trainer, extended by exact resume and safe checkpoints, for both tasks.

Augmentation, EMA, schedule, validation and DDP stay Ultralytics'. Teacher, control and student share this file, so
that what differs between two runs is what their sections in params.yaml say.
"""

from __future__ import annotations

import os
import random
import sys
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.data.build import InfiniteDataLoader
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.models.yolo.semantic import SemanticSegmentationTrainer
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from models import build
from pipeline.data.prepared import PreparedDataset
from pipeline.device import available_threads, limit_threads
from pipeline.errors import PipelineError
from pipeline.features import head_of
from pipeline.params import Machine, Training
from pipeline.tasks import ULTRALYTICS_TASK, Task, main_score, main_title
from pipeline.training.data import EpochSampler, build_images, build_train_loader, describe
from pipeline.training.devices import choose_device
from pipeline.training.state import load_state, save_state
from pipeline.training.task_loss import build_task_loss
from pipeline.training.validation import VALIDATORS

STATE_FILE = "last.pt"

FREQUENCIES: dict[Task, type[DetectionTrainer]] = {"detect": DetectionTrainer, "segment": SemanticSegmentationTrainer}
METRICS = {
    "metrics/mAP50(B)": "val/map50",
    "metrics/mAP50-95(B)": "val/map50_95",
    "metrics/mIoU": "val/miou",
    "metrics/pixel_acc": "val/pixel_accuracy",
}


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        task: What the model learns.
        model: Name of the architecture, see `models.build`.
        training: Hyperparameters.
        machine: Device and workers.
        dataset: The prepared dataset.
        state_dir: Where the state lives until the run is over.

    """

    task: Task
    model: str
    training: Training
    machine: Machine
    dataset: PreparedDataset
    state_dir: Path

    @property
    def classes(self) -> list[str]:
        """The task's classes."""
        return self.dataset.task_classes(self.task)

    def build_model(self) -> BaseModel:
        """Build the model, as it starts."""
        return build(self.model, self.task, self.classes, self.training.seed)


class Trainer(DetectionTrainer):
    """Train one model and leave its state in `job.state_dir`."""

    job: Job  # set on a subclass by `run_trainer`, because Ultralytics' DDP pickles the class and not the instance

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        LOGGER.setLevel("WARNING")  # without a hundred arguments, and without progress bars where none can be drawn
        super().__init__(cfg, overrides or ultralytics_arguments(self.job), _callbacks)
        if sys.stdout.isatty():
            LOGGER.setLevel("INFO")
        self._limit_threads()
        self.history: list[dict[str, float]] = []
        self.best_state: dict[str, torch.Tensor] = {}
        self.best_epoch = 0
        self.parent = os.getppid()
        self.add_callback("on_train_epoch_start", Trainer.seed_epoch)
        self.add_callback("on_train_batch_end", Trainer.check_step)

    def _limit_threads(self) -> None:
        """Set the threads anew, as Ultralytics leaves one core idle; DDP's processes share them."""
        processes = max(self.world_size, 1) if RANK == -1 else 1  # a rank has its share from its parent
        limit_threads(max(1, (self.job.machine.threads or available_threads()) // processes))

    # -- data

    def get_dataset(self) -> dict[str, Any]:
        """Describe the prepared dataset; nothing is looked up or downloaded."""
        return describe(self.job.dataset, self.job.task, self.job.state_dir / "data", self.job.training.seed)

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Open one split."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_images(self.data, img_path, self.args, batch or 1, augment=mode == "train", stride=stride)

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> InfiniteDataLoader:
        """Load in an order that depends on seed and epoch alone; validation is Ultralytics' own."""
        if mode != "train":
            return super().get_dataloader(dataset_path, batch_size=batch_size, rank=rank, mode=mode)
        images = self.build_dataset(dataset_path, mode, batch_size)
        self.sampler = EpochSampler(len(images), self.job.training.seed, max(rank, 0), max(self.world_size, 1))
        return build_train_loader(images, batch_size, self.args.workers, self.sampler)

    def _close_dataloader_mosaic(self) -> None:
        super()._close_dataloader_mosaic()
        self.sampler.restart(self.epoch)  # the loader starts anew, and what it had prefetched is dropped

    # -- model

    def setup_model(self) -> None:
        """Build the model from its name; every rank starts from the same weights."""
        if not isinstance(self.model, nn.Module):
            self.model: nn.Module = self.job.build_model()

    def build_optimizer(self, *arguments: Any, **options: Any) -> torch.optim.Optimizer:
        """Update all parameters in one kernel on the CPU, where small models spend a tenth of a step on it."""
        optimizer = super().build_optimizer(*arguments, **options)
        if self.device.type == "cpu" and "fused" in optimizer.defaults:
            for group in (optimizer.defaults, *optimizer.param_groups):
                group["fused"] = True
        return optimizer

    def set_class_weights(self) -> None:
        """Weigh classes by how rare they are; a mask's single class has nothing to be weighed against."""
        if self.job.task == "detect" or len(self.job.classes) > 1:
            super().set_class_weights()

    def get_class_counts(self, *_limits: Any) -> Any:
        """Count the training split's boxes, or pixels, per class."""
        return FREQUENCIES[self.job.task].get_class_counts(self)

    def compute_class_weights(self, class_counts: Any) -> Any:
        """Weigh as Ultralytics does for the task."""
        return FREQUENCIES[self.job.task].compute_class_weights(self, class_counts)

    def get_validator(self) -> DetectionValidator:
        """Validate as Ultralytics does for the task."""
        arguments = copy(self.args)
        if getattr(head_of(unwrap_model(self.model)), "one2one_cv2", None) is not None:
            arguments.nms = False  # validate the one-to-one branch, which is the one that ships
        validator = VALIDATORS[self.job.task]
        return validator(self.test_loader, save_dir=self.save_dir, args=arguments, _callbacks=self.callbacks)

    def _setup_train(self) -> None:
        super()._setup_train()
        model = unwrap_model(self.model)
        model.criterion = build_task_loss(self.job.task, model)
        if self.start_epoch and hasattr(model.criterion, "updates"):  # the one-to-many weight of end-to-end heads
            model.criterion.updates = self.start_epoch - 1
            model.criterion.update()
        self.sampler.restart(self.start_epoch)

    def _build_train_pipeline(self) -> None:
        if self.optimizer is not None:  # Ultralytics retries with half the batch: another run than the one asked for
            raise PipelineError(f"batch_size {self.job.training.batch_size} does not fit into GPU memory: lower it")
        super()._build_train_pipeline()

    # -- state

    def extra_state(self) -> dict[str, Any]:
        """Return what a subclass trains beside the model."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` returned."""

    def resume_training(self, ckpt: Any) -> None:
        """Go on after the last finished epoch of this job, if there is one."""
        state = load_state(self.job.state_dir / STATE_FILE)
        if state is None:
            return
        unwrap_model(self.model).load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.load_extra_state(state["extra"])
        self.history, self.best_state = state["history"], state["best"]
        self.best_epoch, self.best_fitness = state["best_epoch"], state["best_fitness"]
        self.start_epoch = state["epochs_done"]
        if RANK in {-1, 0}:
            print(f"Resuming after epoch {self.start_epoch} of {self.epochs} (state in {self.job.state_dir})")

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Append one epoch to the history; `val/score` is the task's main score."""
        row = {METRICS.get(key, key): float(value) for key, value in metrics.items()}
        row["val/score"] = row.pop(f"val/{main_score(self.job.task)}")
        rate = row.pop("lr/pg0")
        row = {key: value for key, value in row.items() if not key.startswith(("lr/", "metrics/"))}
        self.history.append({"epoch": self.epoch + 1, **row, "learning_rate": rate})
        score = f"{main_title(self.job.task)} {row['val/score']:.4f} on val"
        print(f"{self.job.model}: epoch {self.epoch + 1} of {self.epochs}: {score}", flush=True)

    def save_model(self) -> bool:
        """Save everything that the next epoch depends on, in full precision."""
        ema = {key: value.detach().clone().cpu() for key, value in self.ema.ema.state_dict().items()}
        if self.fitness == self.best_fitness:
            self.best_state, self.best_epoch = ema, self.epoch + 1
        state = {
            "epochs_done": self.epoch + 1,
            "model": unwrap_model(self.model).state_dict(),
            "ema": ema,
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "extra": self.extra_state(),
            "history": self.history,
            "best": self.best_state,
            "best_epoch": self.best_epoch,
            "best_fitness": float(self.best_fitness),
        }
        save_state(self.job.state_dir / STATE_FILE, state)
        return True

    def final_eval(self) -> None:
        """Leave accuracy to the evaluate stage."""

    # -- every epoch, every step

    def seed_epoch(self) -> None:
        """Draw what the model itself draws (dropout, random masks) from seed, epoch and rank."""
        seed = int(np.random.SeedSequence([self.job.training.seed, self.epoch, max(RANK, 0)]).generate_state(1)[0])
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)

    def check_step(self) -> None:
        """Stop on a loss that is not a number, and when whoever started this run is gone."""
        if os.getppid() != self.parent:
            raise PipelineError(
                "the process that started this run has ended; the state is kept, start it again to go on"
            )
        if not torch.isfinite(self.loss):
            parts = ", ".join(f"{name} {float(value):.4g}" for name, value in self.loss_items.items())
            raise PipelineError(
                f"the loss is not finite in epoch {self.epoch + 1} ({parts}). The epochs before are kept in "
                f"{self.job.state_dir}. Lower the learning rate, or switch mixed_precision off"
            )

    def _handle_nan_recovery(self, epoch: int) -> bool:
        return False  # check_step has stopped the run before


def ultralytics_arguments(job: Job) -> dict[str, Any]:
    """Say in Ultralytics' words what the sections of params.yaml say."""
    training, machine = job.training, job.machine
    return {
        "task": ULTRALYTICS_TASK[job.task],
        "mode": "train",
        "model": job.model,
        "imgsz": job.dataset.info.image_size_px,
        "epochs": training.epochs,
        "batch": training.batch_size,
        "nbs": training.batch_size,  # no hidden gradient accumulation: one step per batch, so that resume is exact
        "optimizer": training.optimizer,
        "lr0": training.learning_rate,
        "lrf": training.final_learning_rate_factor,
        "momentum": training.momentum,
        "weight_decay": training.weight_decay,
        "warmup_epochs": training.warmup_epochs,
        "warmup_bias_lr": 0.0 if training.optimizer.startswith("Adam") else 0.1,
        "cos_lr": training.cosine_schedule,
        "close_mosaic": training.close_mosaic_epochs,
        "cls_pw": training.class_weight_power,
        "amp": training.mixed_precision,
        "seed": training.seed,
        **AUGMENTATION_OFF,
        **training.augment,
        "device": choose_device(machine.device),
        "workers": machine.workers,
        "patience": 0,
        "plots": False,
        "project": str(job.state_dir.absolute()),
        "name": "ultralytics",
        "exist_ok": True,
    }


AUGMENTATION_OFF = {
    **dict.fromkeys(["hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective"], 0.0),
    **dict.fromkeys(["flipud", "fliplr", "mosaic", "mixup", "cutmix", "multi_scale", "erasing"], 0.0),
}


def validate(job: Job) -> dict[str, float]:
    """Measure a model on the validation split as it is, and return what an epoch's row of the history has of that."""
    machine = job.machine.model_copy(update={"device": choose_device(job.machine.device).split(",")[0]})
    training = job.training.model_copy(update={"epochs": 1})
    job = replace(job, machine=machine, training=training)
    trainer = type("Trainer", (Trainer,), {"job": job})()
    trainer._setup_train()
    with torch.no_grad():  # the validator wants to know which losses there are
        trainer.loss, trainer.loss_items = trainer.ema.ema.loss(
            trainer.preprocess_batch(next(iter(trainer.test_loader)))
        )
    trainer.epoch = 0
    metrics, _ = trainer.validate()
    return {METRICS[key]: value for key, value in metrics.items() if key in METRICS}


def run_trainer(trainer: type[Trainer], job: Job, **attributes: Any) -> dict[str, Any]:
    """Train, or go on training, on one device or through Ultralytics' DDP on several.

    Returns:
        The final state: `best` (state dict of the best epoch's EMA), `best_epoch`, `history`, ...

    """
    state = load_state(job.state_dir / STATE_FILE)
    if state is None or state["epochs_done"] < job.training.epochs:
        bound = type(trainer.__name__, (trainer,), {"job": job, "__module__": "__main__", **attributes})
        bound().train()
        state = load_state(job.state_dir / STATE_FILE)
    if state is None:
        raise PipelineError(f"training left no state in {job.state_dir}: see the messages above")
    return state
