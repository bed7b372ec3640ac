"""What this device runs: each backend with each precision, built and measured, or skipped and why."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.backends import load
from pipeline.backends.built import load_built
from pipeline.backends.tensorrt import PlanInfo
from pipeline.checkpoint_info import load_info
from pipeline.data.prepared import PreparedDataset
from pipeline.device import probe
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import evaluate
from pipeline.export import engine
from pipeline.export.engine import EngineJob, build_engines
from pipeline.export.gate import Trained
from pipeline.export.student import export_student
from pipeline.params import Engine, Params, TensorRT
from pipeline.records import Accuracy, BackendBuild, EngineRecord, Parity, read_record
from tests.tiny import awake, export_params_of, save

PRECISIONS = ["fp32", "fp16", "int8"]
TENSORRT = TensorRT(workspace_mb=1024, optimization_level=3, max_batch=8, dla_core=None, gpu_fallback=True)


@pytest.fixture(scope="module")
def trained(mini_dataset: PreparedDataset, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Export an untrained segmenter in every precision, beside its checkpoint."""
    model = awake("micro-n-sem.yaml", "segment", mini_dataset.info.mask_classes)
    folder = save(tmp_path_factory.mktemp("engine") / "toy", model, "segment")
    info = load_info(folder).model_info()
    accuracy = evaluate(load(folder, threads=1), mini_dataset, "test", params.evaluate, model=info, size_mb=1.0)
    export = export_params_of(precisions=PRECISIONS, max_drop=dict.fromkeys(PRECISIONS, 1.0), parity_images=2)
    student = Trained(folder, accuracy, mini_dataset, export, params.evaluate)
    export_student(student, folder.parent / "export", folder.parent / "records", folder.parent)
    return student


def build(
    trained: Trained, backends: list[Any], out: Path, fail_on_rejection: bool = False
) -> dict[tuple[str, str], BackendBuild]:
    exported = trained.checkpoint.parent / "export"
    params = Engine(backends=backends, fail_on_rejection=fail_on_rejection, tensorrt=TENSORRT)
    job = EngineJob(exported, params, probe(), out / "engine", out / "caches")
    build_engines(trained, job, out / "records", out)
    record = read_record(out / "records/engine.json", EngineRecord)
    assert record == read_record(out / "engine/engine.json", EngineRecord)
    assert (record.device, record.model) == (probe(), trained.accuracy.model)
    return {(build.backend, build.precision): build for build in record.builds}


def test_build_engines__each_backend_with_each_precision_is_built_or_says_why_not(
    trained: Trained, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    builds = build(trained, ["onnxruntime", "tensorrt", "openvino"], tmp_path)
    assert list(builds) == [(b, p) for b in ("onnxruntime", "tensorrt", "openvino") for p in PRECISIONS]
    built = {key for key, found in builds.items() if found.status == "built"}
    assert built == {*(("onnxruntime", p) for p in PRECISIONS), ("openvino", "fp32"), ("openvino", "int8")}
    for key, found in builds.items():
        if key in built:
            assert found.file == f"{found.precision}.onnx"
            exported = trained.checkpoint.parent / "export" / found.file
            assert found.size_mb == pytest.approx(exported.stat().st_size / 1e6)
            assert found.version
        else:
            assert (found.file, found.size_mb) == (None, None)
            assert found.reason
    shutil.copytree(trained.checkpoint.parent / "export", tmp_path / "export")
    loaded = [backend.runtime for backend in load_built(tmp_path, threads=1)]
    assert loaded == [f"{b}-{p}" for b, p in builds if (b, p) in built]


def test_build_engines__a_dla_skips_what_it_cannot_run_and_says_what_it_left(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(trained.checkpoint.parent / "export/fp32.onnx", tmp_path / "fp16.onnx")
    places = {"dla": 0, "gpu": 3}
    info = PlanInfo(
        tensorrt_version="10.3.0", gpu="Orin", outputs=[], layer_shares={"fp16": 1}, layer_places=places, metadata={}
    )

    def build_plan(_source: Path, plan: Path, *_: object) -> PlanInfo:
        plan.parent.mkdir(parents=True, exist_ok=True)
        plan.write_bytes(b"plan")
        return info

    monkeypatch.setattr(engine, "unavailable", lambda: None)
    monkeypatch.setattr("pipeline.export.tensorrt.build_plan", build_plan)
    monkeypatch.setattr(engine, "load", lambda *_: None)
    tensorrt = TENSORRT.model_copy(update={"dla_core": 0, "gpu_fallback": False})
    params = Engine(backends=["tensorrt"], fail_on_rejection=False, tensorrt=tensorrt)
    job = EngineJob(tmp_path, params, probe(), tmp_path / "engine", tmp_path / "caches")
    builds = [engine.BUILDERS["tensorrt"](job, precision)[0] for precision in ("fp32", "fp16", "int8")]
    assert [build.status for build in builds] == ["skipped", "built", "skipped"]
    assert "explicit Q/DQ" in str(builds[2].reason)
    assert builds[1].layer_places == places
    assert "all runs on the GPU" in str(builds[1].reason)
    assert "WARNING fp16.plan: DLA core 0 was asked for" in capsys.readouterr().err


def test_build_engines__a_provider_that_is_not_offered_is_skipped(trained: Trained, tmp_path: Path) -> None:
    builds = build(trained, ["onnxruntime_cuda", "onnxruntime_tensorrt"], tmp_path)
    assert {found.status for found in builds.values()} == {"skipped"}
    assert all("CPUExecutionProvider" in str(found.reason) and found.version for found in builds.values())


def test_build_engines__what_compiles_here_is_measured_here(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    build(trained, ["openvino"], tmp_path)
    for precision, agreement in (("fp32", 0.999), ("int8", 0.5)):
        parity = read_record(tmp_path / f"records/parity-openvino-{precision}.json", Parity)
        accuracy = read_record(tmp_path / f"records/accuracy-openvino-{precision}.json", Accuracy)
        assert parity.agreement > agreement
        assert parity.score_exported == accuracy.main
        assert parity.drop == pytest.approx(trained.accuracy.main - accuracy.main)


@pytest.fixture
def better(trained: Trained) -> Trained:
    """Return a student whose score no file reaches."""
    accuracy = trained.accuracy.model_copy(update={"scores": {**trained.accuracy.scores, "miou": 1.0}})
    export = trained.export.model_copy(update={"max_drop": dict.fromkeys(PRECISIONS, 0.01)})
    return replace(trained, accuracy=accuracy, export=export)


def test_build_engines__a_backend_that_computes_something_else_is_rejected_and_the_run_goes_on(
    better: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    builds = build(better, ["onnxruntime", "openvino"], tmp_path)
    statuses = {key: found.status for key, found in builds.items()}
    rejected = {("openvino", "fp32"), ("openvino", "int8")}
    assert {key for key, status in statuses.items() if status == "rejected"} == rejected
    assert {statuses["onnxruntime", precision] for precision in PRECISIONS} == {"built"}
    for backend, precision in rejected:
        assert "export.max_drop" in str(builds[backend, precision].reason)
        assert read_record(tmp_path / f"records/parity-{backend}-{precision}.json", Parity).verdict == "failed"
        assert (tmp_path / f"records/least-alike-{backend}-{precision}.png").exists()
    assert "openvino int8 is rejected for this device" in capsys.readouterr().err
    shutil.copytree(better.checkpoint.parent / "export", tmp_path / "export")
    assert [backend.runtime for backend in load_built(tmp_path, threads=1)] == [
        f"onnxruntime-{precision}" for precision in PRECISIONS
    ]


def test_build_engines__a_param_makes_a_rejection_a_failure(better: Trained, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(PipelineError, match=r"(?s)openvino int8: mIoU.*least-alike-openvino-int8.*engine\.backends"):
        build(better, ["openvino"], tmp_path, fail_on_rejection=True)
    assert not (tmp_path / "records/engine.json").exists()
    assert not (tmp_path / "engine").exists()


def test_build_engines__a_backend_that_fails_here_is_rejected_with_its_own_message(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")

    def fail(*_arguments: object, **_options: object) -> None:
        raise PipelineError("no kernel for this CPU")

    monkeypatch.setattr(engine, "load", fail)
    builds = build(trained, ["openvino"], tmp_path)
    assert {builds["openvino", name].reason for name in ("fp32", "int8")} == {"no kernel for this CPU"}
    with pytest.raises(PipelineError, match="no kernel"):
        build(trained, ["onnxruntime"], tmp_path / "reference")


def test_build_engines__names_a_missing_package(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    builds = build(trained, ["openvino"], tmp_path)
    assert {found.reason for found in builds.values()} == {"it is not installed here: pip install openvino"}


def test_build_engines__a_file_that_gives_nan_is_not_built(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = load(trained.checkpoint.parent / "export/fp32.onnx", threads=1)
    broken = replace(sound, run=lambda images: [output * float("nan") for output in sound.run(images)])
    monkeypatch.setattr(engine, "load", lambda _: broken)
    with pytest.raises(PipelineError, match="NaN or infinity"):
        build(trained, ["onnxruntime"], tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda outputs: [outputs[0][:, :8], *outputs[1:]], "expected uint8 class ids of shape"),
        (lambda outputs: [outputs[0].astype("int64"), *outputs[1:]], "expected uint8 class ids of shape"),
        (lambda outputs: [outputs[0] + 200, *outputs[1:]], "expected class ids from 0 to"),
        (lambda outputs: [outputs[0], outputs[1] * float("nan")], "NaN or infinite"),
    ],
    ids=["shape", "type", "class ids", "nan"],
)
def test_build_engines__a_backend_whose_answer_is_none_is_rejected(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Any, message: str
) -> None:
    pytest.importorskip("openvino")
    sound = load(trained.checkpoint.parent / "export/fp32.onnx", threads=1)
    broken = replace(sound, runtime="openvino-fp32", run=lambda images: wrong(sound.run(images)))
    monkeypatch.setattr(engine, "load", lambda *_, **__: broken)
    builds = build(trained, ["openvino"], tmp_path)
    assert builds["openvino", "fp32"].status == "rejected"
    assert message in str(builds["openvino", "fp32"].reason)
