"""params.yaml: strict, and wrong in one readable line per key."""

import re
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from pipeline.distill.freekd import Mask
from pipeline.distill.losses import LOSSES
from pipeline.errors import PipelineError
from pipeline.params import Params, reads_prompts
from pipeline.params_file import load_params
from pipeline.tasks import TASKS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.yaml").read_text()


def error_of(tmp_path: Path, old: str, new: str) -> str:
    """Load params.yaml with one change and return the message."""
    assert old in TEXT
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(PipelineError) as error:
        load_params(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  optimizer: AdamW",
            "  optimizer: Adamw",
            r"teacher\.detect\.optimizer: Input should be .*'AdamW'.*, got 'Adamw'",
        ),
        (
            "  batch_size: 16",
            "  batch_size: '16'",
            r"teacher\.detect\.batch_size: Input should be a valid integer, got '16'",
        ),
        ("  batch_size: 16", "  batch_size: 0", r"teacher\.detect\.batch_size: .* greater than or equal to 1, got 0"),
        ("  levels: 3", "  levles: 3", r"prompt\.levles: unknown key"),
        ("  method: freekd", "  method: freakd", r"distill\.method: Input should be 'acam', .*got 'freakd'"),
        ("fliplr: 0.5", "flip: 0.5", r"teacher\.detect\.augment: unknown augmentation flip; Ultralytics' are .*fliplr"),
        ("device: auto", "device: gpu", r"machine\.device: should be auto, cpu, a GPU number .*, got 'gpu'"),
        ("image_size_px: 128", "image_size_px: 100", r"prepare\.image_size_px: .*multiple of 32, got 100"),
        ("workspace_mb: 1024", "workspace_mb: 0", r"engine\.tensorrt\.workspace_mb: .* or equal to 1, got 0"),
        ("dla_core: null", "dla_core: gpu", r"engine\.tensorrt\.dla_core: .* valid integer, got 'gpu'"),
        (
            "batch_sizes: [1, 4]",
            "batch_sizes: [4]",
            r"benchmark\.batch_sizes: should start with 1 and increase.*got \[4\]",
        ),
        ("batch_sizes: [1, 4]", "batch_sizes: [1, 4, 4]", r"benchmark\.batch_sizes: should start with 1 and increase"),
        ("  threads: 0 # CPU", "  threads: -1 # CPU", r"machine\.threads: .* greater than or equal to 0, got -1"),
        ("max_time_s: 30.0", "max_time_s: 1.0", r"benchmark: max_time_s should be at least min_time_s"),
        ("warmup_max_s: 5.0", "warmup_max_s: 0.1", r"benchmark: warmup_max_s should be at least warmup_min_s"),
        ("val_fraction: 0.15", "val_fraction: 0.9", r"prepare: .*leave images to train on"),
        ("  threads: 0 # CPU", "  threads: 4000000 # CPU", r"machine\.threads: .* less than or equal to 1024"),
        ("  batch_size: 16", f"  batch_size: {10**400}", r"teacher\.detect\.batch_size: .*, got 1(0{199})\.\.\.$"),
    ],
)
def test_load_params__a_wrong_key_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    line = TEXT[: TEXT.index(old)].count("\n") + 1
    found = error_of(tmp_path, old, new)
    assert re.search(message, found), found
    named = int(re.search(r"params\.yaml:(\d+):", found)[1])  # type: ignore[index]
    section = re.match(r"\w+", message)[0]  # type: ignore[index]
    assert named in {line, line_of(section)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        *(("  micro-s: {", f"  {name}: {{", f"no student can be named {name}") for name in ("teacher", *TASKS)),
        ("\nteacher:", "\nteacher:\n  detekt: {}", "teacher.detekt: Input should be 'detect' or 'segment'"),
    ],
)
def test_load_params__rules_between_sections(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in error_of(tmp_path, old, new)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_load_params__a_seed_is_one_that_every_generator_takes(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(re.sub(r"seed: \d+", f"seed: {seed}", TEXT))
    with pytest.raises(PipelineError) as error:
        load_params(file)
    seeds = {
        "prepare",
        "teacher.detect",
        "teacher.segment",
        "student.detect",
        "student.segment",
        "prompt",
        "robustness",
    }
    assert set(re.findall(r"(\S+)\.seed: ", str(error.value))) == seeds


@pytest.mark.parametrize("lacking", [["teacher"], ["student"], ["distill"], ["teacher", "student", "distill"]])
def test_load_params__a_student_whose_task_has_no_recipe_names_what_is_lacking(
    tmp_path: Path, lacking: list[str]
) -> None:
    yaml, path = YAML(), tmp_path / "params.yaml"
    params = yaml.load(TEXT)
    for section in lacking:
        del params[section]["segment"]
    yaml.dump(params, path)
    listed = ", ".join(f"{section}.segment" for section in lacking)
    with pytest.raises(PipelineError) as error:
        load_params(path)
    assert str(error.value) == f"{path}: students.micro-s-sem is for task segment, which lacks {listed}"


def test_load_params__a_task_without_students_needs_no_recipe(tmp_path: Path) -> None:
    yaml, path = YAML(), tmp_path / "params.yaml"
    params = yaml.load(TEXT)
    for section, key in (("teacher", "segment"), ("student", "segment"), ("distill", "segment")):
        del params[section][key]
    del params["students"]["micro-s-sem"]
    yaml.dump(params, path)
    loaded = load_params(path)
    assert (loaded.tasks, loaded.students_of("detect"), loaded.students_of("segment")) == (["detect"], ["micro-s"], [])


def line_of(section: str) -> int:
    """Find the line of a section, which stands for a key that is missing in it or a rule about several keys."""
    return next(
        number
        for number, text in enumerate(TEXT.splitlines(), 1)
        if text.startswith(section.split(":", maxsplit=1)[0] + ":")
    )


def test_load_params__is_frozen() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.teacher["detect"].epochs = 1  # type: ignore[misc]


def test_load_params__missing_file_and_broken_yaml_are_clear(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="run from the repository's root"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(PipelineError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_load_params__a_teacher_without_epochs_is_a_trained_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("    epochs: 8", "    epochs: 0", 1))
    with pytest.raises(PipelineError, match=r"teacher\.detect: epochs 0 .* model should be a \.pt file, got micro-l"):
        load_params(path)
    path.write_text(path.read_text().replace("model: micro-l.yaml", "model: ../mine.pt"))
    assert load_params(path).teacher["detect"].epochs == 0
    path.write_text(re.sub(r"(\nstudent:.*\n  detect:\n)    epochs: 8", r"\1    epochs: 0", TEXT))
    with pytest.raises(PipelineError, match=r"student\.detect\.epochs: .* greater than or equal to 1"):
        load_params(path)


def test_reads_prompts__is_what_the_losses_do(params: Params) -> None:
    """The losses say it themselves, but only where torch is there."""
    recipe = params.distill.recipe("detect").model_copy(update={"options": {}})
    takes = {method for method, loss in LOSSES.items() if hasattr(loss, "load_prompts")}
    assert {method for method in LOSSES if reads_prompts(method, recipe)} == takes  # type: ignore[arg-type]
    for mask in get_args(Mask):
        chosen = recipe.model_copy(update={"options": {"freekd": {"mask": mask}}})
        assert reads_prompts("freekd", chosen) == ("prompt" in mask)
