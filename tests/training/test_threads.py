"""Training computes with the threads that it is given, and several processes share them."""

import os
from types import SimpleNamespace

import cv2
import pytest

from pipeline.params import Machine
from pipeline.training import trainer
from pipeline.training.trainer import Trainer


@pytest.mark.parametrize(
    ("asked", "processes", "rank", "limit"),
    [(0, 0, -1, 8), (0, 1, -1, 8), (3, 1, -1, 3), (0, 4, -1, 2), (6, 4, -1, 1), (99, 16, -1, 6), (2, 4, 0, 2)],
)
def test_trainer__threads_of_its_processes(
    monkeypatch: pytest.MonkeyPatch, cpu: Machine, asked: int, processes: int, rank: int, limit: int
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(trainer, "limit_threads", limits.append)
    monkeypatch.setattr(trainer, "available_threads", lambda: 8)
    monkeypatch.setattr(trainer, "RANK", rank)
    made = object.__new__(Trainer)
    made.job = SimpleNamespace(machine=cpu.model_copy(update={"threads": asked}))  # type: ignore[assignment]
    made.world_size = processes
    made._limit_threads()
    assert limits == [limit]


def test_trainer__leaves_opencv_without_threads_of_its_own() -> None:
    assert cv2.getNumThreads() == 1  # as Ultralytics sets it; data loaders fork
    assert int(os.environ["OMP_NUM_THREADS"]) >= 1
