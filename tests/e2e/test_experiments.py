"""Data and weights beside the checkout, no active environment: `dvc repro`, `dvc exp run --temp` and `--queue`."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.checkpoint_info import load_info
from pipeline.export.ultralytics import export_ultralytics
from tests.e2e.clone import make_clone, remove_param, set_params
from tests.e2e.test_own_data import QUICK, write_voc
from tests.tiny import CLASSES, awake, save

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DVC = Path(sys.executable).parent / "dvc"
BARE = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
SMALL = QUICK | {
    "prepare.source": "voc",
    "prepare.path": "../mydata",
    "prepare.annotations": "annotations_voc",
    "teacher.detect.model": "micro-s.yaml",
    "teacher.detect.epochs": 1,
    "students": {"micro-s": {"task": "detect", "model": "micro-n.yaml"}},
    "student.detect.epochs": 1,
}


def dvc(clone: Path, *arguments: str) -> str:
    """Run dvc by its path alone, as somebody without the environment would; return what it printed."""
    command = [str(DVC), *arguments]
    done = subprocess.run(command, cwd=clone, env=BARE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def stages_of(printed: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", printed)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the working tree, beside data that it names by a relative path, and train the teacher."""
    folder = tmp_path_factory.mktemp("experiments")
    write_voc(folder / "mydata")
    clone = make_clone(folder / "clone", {})
    remove_param(clone, "teacher", "segment")
    set_and_commit(clone, SMALL)
    assert stages_of(dvc(clone, "repro", "prompt@detect")) == ["source", "prepare", "teacher@detect", "prompt@detect"]
    commit(clone)
    return clone


def set_and_commit(clone: Path, changes: dict[str, object]) -> None:
    set_params(clone, changes)
    commit(clone)


def commit(clone: Path) -> None:
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["add", "-A"], ["commit", "-qm", "run", "--allow-empty"]):
        subprocess.run([*git, *command], cwd=clone, check=True)


def test_experiments__the_default_mask_reads_no_prompts(clone: Path) -> None:
    assert "read no prompts" in (clone / "artifacts/detect/prompts/skipped.json").read_text()
    assert (clone / "results/detect/teacher/prompt_history.csv").read_text() == "iteration,task_loss,overlap\n"


def test_experiments__one_in_a_temporary_folder_does_not_retrain_the_teacher(clone: Path) -> None:
    printed = dvc(clone, "exp", "run", "--temp", "-S", "distill.detect.options.freekd.mask=prompt", "prompt@detect")
    assert stages_of(printed) == ["source", "prompt@detect"]


def test_experiments__another_path_to_the_same_data_does_not_either(clone: Path) -> None:
    absolute = f"prepare.path={clone.parent / 'mydata'}"
    printed = dvc(clone, "exp", "run", "--temp", "-S", absolute, "prompt@detect")
    assert stages_of(printed) == ["source", "prepare"]


def test_experiments__changed_data_prepare_again_in_a_temporary_folder(clone: Path) -> None:
    label = next((clone.parent / "mydata/annotations_voc/train").iterdir())
    text = label.read_text()
    label.write_text(re.sub(r"<object>.*?</object>\s*", "", text, count=1, flags=re.DOTALL))
    try:
        printed = dvc(clone, "exp", "run", "--temp", "prompt@detect")
    finally:
        label.write_text(text)
    assert {"source", "prepare", "teacher@detect"} <= set(stages_of(printed))


def test_experiments__queued_ones_run_side_by_side(clone: Path) -> None:
    environment = BARE | {"PATH": f"{DVC.parent}:{BARE['PATH']}"}  # the queue's workers call dvc by its name

    def call(*arguments: str) -> str:
        return subprocess.check_output(["dvc", *arguments], cwd=clone, env=environment, text=True)

    for iterations in (3, 4):
        mask = "distill.detect.options.freekd.mask=prompt"
        call("exp", "run", "--queue", "-S", mask, "-S", f"prompt.iterations={iterations}", "prompt@detect")
    call("queue", "start", "--jobs", "2")
    for _ in range(200):
        status = call("queue", "status")
        if not re.search("Running|Queued", status):
            break
        time.sleep(2)
    assert status.count("Success") == 2, status
    names = re.findall(r"^\w{7}\s+(\S+)", status, flags=re.MULTILINE)
    for name in names or re.findall(r"^(\w{7})", status, flags=re.MULTILINE):
        assert stages_of(call("queue", "logs", name)) == ["source", "prompt@detect"]


def test_experiments__a_trained_file_beside_the_checkout_is_the_teacher(clone: Path) -> None:
    classes = load_info(clone / "artifacts/detect/teacher").classes
    assert len(classes) == 2 * len(CLASSES)
    mine = save(clone.parent / "mine", awake("micro-m.yaml", classes=classes))
    export_ultralytics(mine, clone.parent / "mine.pt")
    changes = ["-S", "teacher.detect.model=../mine.pt", "-S", "teacher.detect.epochs=0"]
    printed = dvc(clone, "exp", "run", "--temp", "-n", "mine", *changes, "prompt@detect")
    assert "teacher@detect" in stages_of(printed)
    assert "../mine.pt: used as it is" in printed
    refs = subprocess.check_output(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], cwd=clone, text=True)
    (ref,) = [name for name in refs.split() if name.endswith("/mine")]
    show = ["git", "show", f"{ref}:results/detect/teacher/history.csv"]
    history = subprocess.check_output(show, cwd=clone, text=True).splitlines()
    assert [line.split(",")[0] for line in history] == ["epoch", "0"]
