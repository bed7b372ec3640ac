"""The whole chain in a temporary clone: killed twice, repeated, changed and changed back."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.checkpoint_info import load_info
from pipeline.export.ultralytics import export_ultralytics
from pipeline.records import Parity, read_record
from tests.e2e.clone import ENVIRONMENT, ROOT, make_clone, set_params

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MINIATURE = {
    "machine.device": "cpu",
    "prepare.image_size_px": 64,
    "prepare.calibration_images": 8,
    "prepare.scenes": {"train_images": 48, "val_images": 16, "test_images": 16},
    "teacher.detect.model": "micro-s.yaml",
    "teacher.detect.epochs": 4,
    "teacher.segment.model": "micro-s-sem.yaml",
    "teacher.segment.epochs": 2,
    "prompt.levels": 2,
    "prompt.iterations": 4,
    "distill.detect.options": {"freekd": {"mask": "prompt*score"}},  # the segmenter's mask reads no prompts
    "students.micro-s.model": "micro-n.yaml",
    "students.micro-s-sem.model": "micro-n-sem.yaml",
    "student.detect.epochs": 4,
    "student.segment.epochs": 2,
    "robustness.corruptions": ["fog"],
    "robustness.images": 4,
    "export.parity_images": 4,
    "export.enforce_max_drop": False,  # the models are hardly trained
    "benchmark.batch_sizes": [1, 2],
    "benchmark.warmup_min_s": 0.0,
    "benchmark.warmup_max_s": 0.0,
    "benchmark.min_time_s": 0.1,
    "benchmark.min_runs": 5,
    "report.images": 2,
}


def repro(clone: Path) -> list[str]:
    """Run the chain to its end and return the stages that ran."""
    done = subprocess.run(["dvc", "repro"], cwd=clone, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return re.findall(r"Running stage '([^']+)'", done.stdout)


def kill_when(clone: Path, ready: Callable[[], bool]) -> None:
    """Start the chain and kill dvc and everything it started, as soon as `ready`."""
    with (clone.parent / "killed.log").open("w") as log:
        process = subprocess.Popen(
            ["dvc", "repro"], cwd=clone, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )
        while not ready():
            assert process.poll() is None, (clone.parent / "killed.log").read_text()[-3000:]
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def state_of(clone: Path, stage: str) -> Callable[[], bool]:
    return lambda: any((clone / ".state" / stage).glob("*/last.pt"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the working tree with small params."""
    return make_clone(tmp_path_factory.mktemp("e2e") / "clone", MINIATURE)


@pytest.fixture(scope="module")
def ran(clone: Path) -> Path:
    """Run the chain to its end: killed in the teacher, killed in the distillation, started a third time."""
    kill_when(clone, state_of(clone, "teacher-detect"))
    kill_when(clone, state_of(clone, "distill-micro-s"))
    done = subprocess.run(["dvc", "repro"], cwd=clone, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (clone.parent / "last.log").write_text(done.stdout)
    return clone


def test_chain__killed_in_the_teacher_it_goes_on_from_the_last_epoch(ran: Path) -> None:
    log = (ran.parent / "killed.log").read_text()
    assert re.search(r"Resuming after epoch [1-4] of 4 \(state in \.state/teacher-detect/", log)


def test_chain__killed_in_the_distillation_it_goes_on_from_the_last_epoch(ran: Path) -> None:
    log = (ran.parent / "last.log").read_text()
    assert re.search(r"Resuming after epoch [1-4] of 4 \(state in \.state/distill-micro-s/", log)
    assert "Running stage 'teacher@detect'" not in log


def test_chain__every_epoch_is_in_the_history_once(ran: Path) -> None:
    for run in ("teacher", "micro-s/control", "micro-s/distilled"):
        rows = (ran / f"results/detect/{run}/history.csv").read_text().splitlines()[1:]
        assert [row.split(",")[0] for row in rows] == ["1", "2", "3", "4"]


def test_chain__leaves_no_state_and_no_pickle(ran: Path) -> None:
    assert not [path for path in (ran / ".state").rglob("*.pt") if "weights" not in path.parts]
    assert not [path for path in (ran / "artifacts").rglob("*") if path.suffix in {".pt", ".pth", ".pkl", ".bin"}]


def test_chain__metrics_have_teacher_control_student_and_onnx(ran: Path) -> None:
    shown = subprocess.check_output(["dvc", "metrics", "show", "--json"], cwd=ran, env=ENVIRONMENT, text=True)
    metrics = json.loads(shown)[""]["data"]["reports/metrics.json"]["data"]
    for task, student, score in (("detect", "micro-s", "map50_95"), ("segment", "micro-s-sem", "miou")):
        assert {score, "p50_ms", "size_mb", "params_m"} <= set(metrics[task]["teacher"]["torch"])
        assert score in metrics[task][student]["control"]["torch"]
        assert {score, "p50_ms"} <= set(metrics[task][student]["distilled"]["onnxruntime-fp32"])
        parity = read_record(ran / f"results/{task}/{student}/export/parity-onnxruntime-fp32.json", Parity)
        assert abs(parity.drop) <= 0.01, "the budget is not enforced here, and fp32 has to be the same network"


def test_chain__the_second_run_looks_at_data_and_device_alone(ran: Path) -> None:
    assert sorted(repro(ran)) == ["probe", "source"]


def test_chain__prompts_are_trained_where_the_mask_reads_them(ran: Path) -> None:
    assert (ran / "artifacts/detect/prompts/prompts.json").exists()
    assert (ran / "artifacts/segment/prompts/skipped.json").exists()


def test_chain__another_distillation_reruns_neither_teacher_nor_prompt_nor_control(ran: Path) -> None:
    set_params(ran, {"distill.detect.weight": 0.7})
    stages = set(repro(ran))
    assert {"distill@micro-s", "evaluate@micro-s", "robustness@micro-s", "export@micro-s", "report"} <= stages
    assert not {stage.split("@")[0] for stage in stages} & {"prepare", "teacher", "prompt", "control"}
    assert not any(stage.endswith("@micro-s-sem") for stage in stages), "the other task has its own weight"


def test_chain__going_back_restores_the_old_student_without_training(ran: Path) -> None:
    changed = load_info(ran / "artifacts/detect/micro-s/distilled").digest
    set_params(ran, {"distill.detect.weight": YAML().load(ROOT / "params.yaml")["distill"]["detect"]["weight"]})
    stages = {stage.split("@")[0] for stage in repro(ran)}
    assert "distill" not in stages
    assert load_info(ran / "artifacts/detect/micro-s/distilled").digest != changed


def test_chain__an_experiment_with_another_method_reruns_the_distillation_and_what_follows(ran: Path) -> None:
    command = ["dvc", "exp", "run", "-S", "distill.method=fgd"]
    done = subprocess.run(command, cwd=ran, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    stages = re.findall(r"Running stage '([^']+)'", done.stdout)
    assert {"distill@micro-s", "distill@micro-s-sem", "export@micro-s", "report"} <= set(stages)
    follows = {"distill", "qat", "evaluate", "robustness", "export", "probe", "engine", "benchmark", "report"}
    follows |= {
        "source",
        "prompt",
        "evaluate_teacher",
    }  # the prompts go, and with them the score of the prompted teacher
    assert {stage.split("@")[0] for stage in stages} <= follows


def test_chain__a_checkpoint_becomes_a_file_that_stock_ultralytics_runs(ran: Path, tmp_path: Path) -> None:
    export_ultralytics(ran / "artifacts/detect/micro-s/distilled", tmp_path / "student.pt")
    image = next((ran / "dataset/images").iterdir())
    code = "import sys; from ultralytics import YOLO; print(len(YOLO(sys.argv[1]).predict(sys.argv[2], verbose=False)))"
    command = [sys.executable, "-c", code, tmp_path / "student.pt", image]
    assert subprocess.check_output(command, cwd=tmp_path, text=True).splitlines()[-1] == "1"


def test_chain__a_wrong_param_is_one_clear_error_and_loses_nothing(ran: Path) -> None:
    before = (ran / "reports/metrics.json").read_bytes()
    set_params(ran, {"distill.detect.wieght": 1.0})
    done = subprocess.run(
        [sys.executable, "-m", "stages.distill", "micro-s"],
        cwd=ran,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"ERROR distill: params.yaml:\d+: distill.detect.wieght: unknown key", done.stderr)
    assert "Traceback" not in done.stderr
    assert (ran / "reports/metrics.json").read_bytes() == before
    assert (ran / "artifacts/detect/micro-s/distilled/model.safetensors").exists()
