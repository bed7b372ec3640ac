import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pipeline.backends import DEVICE_PHASES, Array, load
from pipeline.backends.torch import _phases as torch_phases
from pipeline.backends.torch import deployed
from pipeline.device import available_threads
from pipeline.errors import PipelineError
from pipeline.evaluation.difference import match
from pipeline.export.graph import properties_of, save_graph
from pipeline.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]


def images(count: int, size: int = 64) -> Array:
    return np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32)


def close(reference: Array, other: Array, end2end: bool) -> None:
    """Compare end2end rows where they have a counterpart, and raw outputs by position."""
    if not end2end:
        np.testing.assert_allclose(other, reference, atol=2e-3)
        return
    for rows, others in zip(reference, other, strict=True):
        np.testing.assert_allclose(others[:, 4], rows[:, 4], atol=1e-4)
        left, right = match(rows, others, 0.99)
        assert len(left) >= 0.95 * len(rows)
        np.testing.assert_allclose(others[right], rows[left], atol=2e-3)


def test_load__torch_and_onnxruntime_agree(checkpoint: Path, onnx_file: Path) -> None:
    torch_backend, onnx_backend = load(checkpoint, threads=1), load(onnx_file, threads=1)
    assert (torch_backend.runtime, onnx_backend.runtime) == ("torch", "onnxruntime-fp32")
    assert torch_backend.metadata == onnx_backend.metadata
    assert torch_backend.metadata.end2end == (checkpoint.name == "end2end")
    for count in (3, 1):
        (reference,), (exported,) = torch_backend(images(count)), onnx_backend(images(count))
        assert reference.dtype == exported.dtype == np.float32
        assert len(reference) == count
        close(reference, exported, torch_backend.metadata.end2end)


def test_load__answer_depends_on_the_image(checkpoint: Path) -> None:
    (output,) = load(checkpoint, threads=1)(np.concatenate([images(1), images(1) * 0.1]))
    assert np.abs(output[0] - output[1]).max() > 0.01


def test_load__onnx_needs_no_torch(onnx_file: Path) -> None:
    code = (
        "import sys, numpy; from pathlib import Path; from pipeline.backends import load;"
        "from pipeline.evaluation.accuracy import evaluate;"
        f"load(Path({str(onnx_file)!r}))(numpy.zeros((1, 3, 64, 64), numpy.float32)); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_load__threads(checkpoint: Path, onnx_file: Path) -> None:
    assert load(checkpoint).threads == load(onnx_file).threads == available_threads()
    for path in (checkpoint, onnx_file, checkpoint):
        for threads in (3, 1):
            found = load(path, threads=threads).threads
            assert found == torch.get_num_threads() == cv2.getNumThreads() == threads


def test_load__the_environments_threads_are_not_exceeded(
    checkpoint: Path, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for path in (checkpoint, onnx_file):
        assert load(path).threads == torch.get_num_threads() == cv2.getNumThreads() == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_load__cuda_that_is_absent_is_an_error(checkpoint: Path, onnx_file: Path) -> None:
    with pytest.raises(PipelineError, match=r"device cuda: torch .* finds no CUDA device"):
        load(checkpoint, device="cuda")
    with pytest.raises(PipelineError, match=r"device cuda:1: ONNX Runtime .* does not offer CUDAExecutionProvider"):
        load(onnx_file, device="cuda:1")


def test_load__a_session_without_the_asked_provider_is_an_error(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime lists CUDA when it is compiled in, and falls back to the CPU when the libraries are missing."""
    here = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: here)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
    with pytest.raises(PipelineError, match="onnxruntime-gpu"):
        load(onnx_file, device="cuda")


class SessionOnGpu:
    """Answers as a session on the asked provider would, and computes on the CPU."""

    asked: ClassVar[list[tuple[str, dict[str, str], onnxruntime.SessionOptions]]] = []
    real = onnxruntime.InferenceSession

    def __init__(self, path: str, options: onnxruntime.SessionOptions, providers: list[Any]) -> None:
        self.asked.append((*providers[0], options))
        self.get_providers = lambda: [providers[0][0], "CPUExecutionProvider"]
        self.session = self.real(path, providers=["CPUExecutionProvider"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


@pytest.mark.parametrize(
    ("precision", "types"),
    [
        ("fp32", {}),
        ("fp16", {"trt_fp16_enable": "1"}),
        ("int8-tensorrt", {"trt_int8_enable": "1", "trt_fp16_enable": "1"}),
    ],
)
def test_load__tensorrt_provider_computes_all_of_a_file_in_its_own_types(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, types: dict[str, str]
) -> None:
    graph = onnx.load(onnx_file)
    save_graph(graph, tmp_path / "model.onnx", {**properties_of(graph), "precision": precision})
    SessionOnGpu.asked.clear()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", SessionOnGpu)

    backend = load(tmp_path / "model.onnx", "cuda:1", runtime="onnxruntime_tensorrt")

    provider, settings, options = SessionOnGpu.asked[-1]
    assert provider == "TensorrtExecutionProvider"
    assert settings == {"device_id": "1", **types}
    assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
    assert backend.runtime == f"onnxruntime_tensorrt-{precision.partition('-')[0]}"
    disabled = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert (options.graph_optimization_level == disabled) == (precision == "int8-tensorrt")


def test_load__tensorrt_provider_refuses_unsigned_activations(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(onnx_file)
    save_graph(graph, tmp_path / "int8.onnx", {**properties_of(graph), "precision": "int8"})
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", SessionOnGpu)
    with pytest.raises(PipelineError, match=r"TensorRT takes signed ones alone: use int8-tensorrt\.onnx"):
        load(tmp_path / "int8.onnx", "cuda", runtime="onnxruntime_tensorrt")


def test_load__cuda_provider_is_told_from_the_cpu_by_its_name(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", SessionOnGpu)
    assert load(onnx_file, "cuda").runtime == load(onnx_file, "cuda", runtime="onnxruntime_cuda").runtime
    assert load(onnx_file, "cuda").runtime == "onnxruntime_cuda-fp32"
    with pytest.raises(PipelineError, match="device cpu: CUDAExecutionProvider does not run there"):
        load(onnx_file, "cpu", runtime="onnxruntime_cuda")


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "0"])
def test_load__unknown_device(onnx_file: Path, device: str) -> None:
    with pytest.raises(PipelineError, match="expected cpu, cuda or cuda:N"):
        load(onnx_file, device=device)


def test_load__says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"absent\.onnx not found"):
        load(tmp_path / "absent.onnx")
    with pytest.raises(PipelineError, match=r"expected a checkpoint folder, an \.onnx or a \.plan file"):
        load(tmp_path / "weights.pt")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(PipelineError, match=r"broken\.onnx: ONNX Runtime cannot load it on cpu"):
        load(tmp_path / "broken.onnx")


def test_load__refuses_a_foreign_onnx(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(PipelineError, match=r"lacks task, classes, .*not exported by this pipeline"):
        load(tmp_path / "foreign.onnx")


def test_load__wrong_shape_is_named(onnx_file: Path) -> None:
    with pytest.raises(PipelineError, match=r"\('batch', 3, 64, 64\), got \(1, 3, 32, 32\)"):
        load(onnx_file)(images(1, size=32))


def test_deployed__same_answer_and_the_model_is_left_as_it_was(checkpoint: Path) -> None:
    model, info = load_checkpoint(checkpoint)
    model.model[-1].end2end = info.end2end
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    ready = deployed(model)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in ready.modules())
    with torch.inference_mode():
        expected = model(torch.from_numpy(images(2)))[0].numpy()
        answer = ready(torch.from_numpy(images(2))).numpy()
    close(expected, answer, info.end2end)


def test_load__on_the_cpu_there_is_no_clock_but_the_callers(checkpoint: Path, onnx_file: Path) -> None:
    assert load(checkpoint, threads=1).phases is None
    assert load(onnx_file, threads=1).phases is None


class FakeEvent:
    """A CUDA event whose clock is how many things have been done."""

    done: ClassVar[list[str]] = []

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.done.append("mark")
        self.at = len(self.done)

    def synchronize(self) -> None:
        self.done.append("synchronise")

    def elapsed_time(self, later: "FakeEvent") -> float:
        assert self.done[-1] == "synchronise"
        return later.at - self.at


def test_phases__are_parted_by_events_around_transfers_and_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeEvent.done.clear()
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())

    class Doubled(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            FakeEvent.done.extend(["layer", "layer"])
            return images * 2

    (output,), times = torch_phases(Doubled(), "cpu")(images(2))
    np.testing.assert_array_equal(output, images(2) * 2)
    assert FakeEvent.done == ["mark", "mark", "layer", "layer", "mark", "mark", "synchronise"]
    assert times == {"host_to_device": 1, "compute": 3, "device_to_host": 1}


@pytest.mark.gpu
def test_phases__on_a_gpu_answer_as_the_call_does(checkpoint: Path) -> None:
    backend = load(checkpoint, "cuda", threads=1)
    assert backend.phases is not None
    backend(images(2))
    (answer,), times = backend.phases(images(2))
    np.testing.assert_allclose(answer, backend(images(2))[0], atol=1e-3)
    assert list(times) == list(DEVICE_PHASES)
    assert min(times.values()) > 0
