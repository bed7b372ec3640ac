"""The prompted teacher through the same evaluation as the plain one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models import build
from pipeline.backends import Backend, load
from pipeline.data.prepared import PreparedDataset
from pipeline.digest import file_digest
from pipeline.distill.prompt import init_prompts
from pipeline.evaluation.accuracy import evaluate
from pipeline.evaluation.prompted import evaluate_prompted
from pipeline.features import head_channels
from pipeline.params import Machine, Params
from pipeline.records import Accuracy, Skipped, read_record
from pipeline.training.checkpoint import save_checkpoint
from pipeline.training.prompts import INFO, WEIGHTS, PromptsInfo, skip_prompts


def save_prompts(folder: Path, channels: list[int], size: float) -> Path:
    folder.mkdir()
    prompts = init_prompts(channels, levels=2, prompts=3)
    save_file({key: value.detach() * size for key, value in prompts.state_dict().items()}, folder / WEIGHTS)
    info = PromptsInfo(
        levels=2, prompts=3, wavelet="haar", teacher="", task_loss_plain=0.0, task_loss_prompted=0.0, overlap=0.0,
        digest=file_digest(folder / WEIGHTS),
    )  # fmt: skip
    (folder / INFO).write_text(info.model_dump_json())
    return folder


def test_prompted_teacher__equals_the_plain_one_for_zero_prompts_only(
    mini_dataset: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("micro-n.yaml", "detect", mini_dataset.info.classes, seed=0)
    with torch.no_grad():
        for _ in range(20):
            model.train()(torch.rand(4, 3, 64, 64))  # BatchNorm statistics: untrained features vanish without them
    teacher, record = tmp_path / "teacher", tmp_path / "record.json"
    save_checkpoint(
        teacher, model, task="detect", name="teacher", role="teacher", image_size_px=64, best_epoch=1, made_by="test"
    )
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    found = []

    def watched(backend: Backend, *arguments: Any, **options: Any) -> Accuracy:
        found.append(backend(images)[0])
        return evaluate(backend, *arguments, **options)

    monkeypatch.setattr("pipeline.evaluation.prompted.evaluate", watched)
    for size in (0.0, 1000.0):
        prompts = save_prompts(tmp_path / f"prompts-{size}", head_channels(model), size)
        evaluate_prompted(teacher, prompts, mini_dataset, params.evaluate, cpu, record)
    assert read_record(record, Accuracy).runtime == "torch-prompted"
    plain = load(teacher)(images)[0]
    np.testing.assert_allclose(found[0], plain, rtol=1e-4, atol=1e-3)
    assert not np.allclose(found[1], plain, rtol=1e-4, atol=1e-3)


def test_prompted_teacher__is_skipped_where_there_are_no_prompts(
    mini_dataset: PreparedDataset, params: Params, cpu: Machine, tmp_path: Path
) -> None:
    skip_prompts(tmp_path / "prompts", tmp_path / "history.csv")
    record = tmp_path / "record.json"
    evaluate_prompted(tmp_path / "teacher", tmp_path / "prompts", mini_dataset, params.evaluate, cpu, record)
    assert read_record(record, Skipped).skipped == "distill.method and its mask in params.yaml read no prompts"
