"""The page names every model, says what is missing, and fetches nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.data.prepared import open_dataset
from pipeline.records import (
    Accuracy,
    Blocks,
    DeviceInfo,
    DeviceRecord,
    DeviceTiming,
    Latency,
    Load,
    WarmUp,
    read_record,
    write_record,
)
from pipeline.report.history import History, read_history
from pipeline.report.html import DASH, TIMES, params_yaml, render_html
from pipeline.report.pictures import Picture
from pipeline.report.results import NOISE
from pipeline.tasks import Task, main_score
from tests.report import made_up
from tests.report.conftest import DETECT, SEGMENT
from tests.report.made_up import device

VOID = {"meta", "img", "br", "link", "input", "hr"}


class _Page(HTMLParser):
    """Collect text and attributes, and check that tags nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.sources, self.targets, self.ids = "", list[str](), list[str](), set[str]()
        self._open = list[str]()
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.sources += [values["src"]] if "src" in values else []
        self.targets += [values["href"]] if "href" in values else []
        self.ids |= {values["id"]} if "id" in values else set()
        assert tag not in {"script", "link"}
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def _render(run: Any, history: History | None = None) -> str:
    pictures: dict[Task, list[Picture]] = {task: [] for task in run.params.tasks}
    dataset = open_dataset(run.dataset)
    return render_html(run.read(), dataset, run.params, pictures=pictures, history=history or History(), commit=None)


def _text(source: str) -> str:
    return " ".join(_Page(source).text.split())


def _section(source: str, task: str) -> str:
    """Cut out what the page says of one task."""
    start = source.index(f'<h2 id="{task}"')
    return _text(source[start : source.index("<h2", start + 1)])


def test_html__fetches_nothing(built: Any) -> None:
    source = (built.out / "report.html").read_text()
    page = _Page(source)
    assert not re.search(r"https?://|@import|url\(", source)
    assert len(page.sources) == 14
    assert all(uri.startswith("data:image/png;base64,") for uri in page.sources)
    assert all(target.startswith("#") and target[1:] in page.ids for target in page.targets)


def test_html__names_every_model_runtime_and_reason(built: Any) -> None:
    text = _text((built.out / "report.html").read_text())
    for name in ("teacher", "nano control", "nano distilled", "pico control", "nano-sem distilled", "onnxruntime-fp32"):
        assert name in text
    assert "no NVIDIA device on this machine" in text  # why TensorRT was skipped
    assert "Imaginary CPU 3.0 GHz" in text
    assert "CC0-1.0" in text
    assert f"both in torch, from one seed each: a gain within about ±{NOISE['detect']} AP50-95 is noise" in text
    assert f"9.26{TIMES}" in text  # 21.3 ms of the teacher over 2.30 ms
    assert "+0.053" in text
    assert "passed (≤ 0.002)" in text
    assert "overlap_weight: 1.0" in text
    assert "Outside a git checkout" in text


@pytest.mark.parametrize(("above_teacher", "doubted"), [(0.02, True), (-0.02, False)])
@pytest.mark.parametrize(("role", "named"), [("control", "the control's"), ("distilled", "the distilled student's")])
def test_html__says_that_the_teacher_is_not_better_than_a_student(
    make_run: Callable[..., Any], role: str, named: str, above_teacher: float, doubted: bool
) -> None:
    run = make_run()
    teacher = read_record(run.results / "detect/teacher/accuracy-torch.json", Accuracy)
    path = run.results / f"detect/nano/{role}/accuracy-torch.json"
    student = read_record(path, Accuracy)
    scores = student.scores | {"map50_95": teacher.main + above_teacher}
    write_record(path, student.model_copy(update={"scores": scores}))
    said = f"nano: the teacher's AP50-95 is 0.612, not above {named} 0.632: train the teacher longer"
    assert (said in _text(_render(run))) == doubted


@pytest.mark.parametrize(("classes", "words"), [(["circle"], "1 class,"), (["circle", "star"], "2 classes,")])
def test_html__counts_the_classes(
    make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, classes: list[str], words: str
) -> None:
    monkeypatch.setattr(made_up, "CLASSES", classes)
    monkeypatch.setitem(made_up.TASK_CLASSES, "detect", classes)
    assert f"{words} measured on" in _text(_render(make_run()))


def test_html__says_that_the_control_was_switched_off(make_run: Callable[..., Any]) -> None:
    text = _text(_render(make_run(control=False)))
    assert "nano: the control was switched off (control.enabled is false in params.yaml)" in text
    assert "control switched off: gain unknown" in text


@pytest.mark.parametrize("task", [DETECT, SEGMENT])
@pytest.mark.parametrize(
    ("gain_over_noise", "words"),
    [(-2.0, "worse than the control, beyond"), (0.5, "within the noise"), (2.0, "beyond the noise")],
)
def test_html__verdict_on_the_gain(
    make_run: Callable[..., Any], task: dict[Task, tuple[str, ...]], gain_over_noise: float, words: str
) -> None:
    run = make_run(tasks=task)
    ((name, (student,)),) = task.items()
    folder = run.results / name / student
    control = read_record(folder / "control/accuracy-torch.json", Accuracy)
    scores = control.scores | {main_score(name): control.main + gain_over_noise * NOISE[name]}
    path = folder / "distilled/accuracy-torch.json"
    write_record(path, read_record(path, Accuracy).model_copy(update={"scores": scores}))
    assert words in _render(run)


def test_html__no_speed_up_over_another_device(make_run: Callable[..., Any]) -> None:
    run = make_run()
    path = run.results / "latency/detect/nano.json"
    latency = read_record(path, Latency)
    other = latency.device.model_copy(update={"fingerprint": "gpu-x", "gpu": "Imaginary GPU"})
    write_record(path, latency.model_copy(update={"device": DeviceInfo(**other.model_dump())}))
    text = _text(_render(run))
    assert f"9.26{TIMES}" not in text
    assert "not comparable with the teacher" in text
    assert "Latencies come from 2 devices" in text


UNSTEADY: list[dict[str, Any]] = [
    {"warmup": WarmUp(seconds=5.0, stable=False)},
    {"blocks": Blocks(count=9, min_ms=5.0, max_ms=75.0)},
    {"runs": 3, "asked_runs": 100},
]


def make_unsteady(run: Any, name: str, place: int, update: dict[str, Any]) -> None:
    """Make one runtime's median of a model's record doubtful."""
    path = run.results / f"latency/detect/{name}.json"
    latency = read_record(path, Latency)
    rows = list(latency.runtimes)
    rows[place] = rows[place].model_copy(update=update)
    write_record(path, latency.model_copy(update={"runtimes": rows}))


def test_html__an_unsteady_median_in_torch_beside_a_steady_one_elsewhere(make_run: Callable[..., Any]) -> None:
    run = make_run()
    make_unsteady(run, "nano", 0, UNSTEADY[0])
    assert f"9.26{TIMES} as fast as the teacher in torch; unstable with both in torch" in _text(_render(run))


@pytest.mark.parametrize("update", UNSTEADY)
def test_html__no_ratio_of_an_unsteady_median_and_the_doubt_beside_it(
    make_run: Callable[..., Any], update: dict[str, Any]
) -> None:
    run = make_run()
    assert f"9.26{TIMES} as fast as the teacher in torch; 4.17{TIMES} with both in torch" in _text(_render(run))
    make_unsteady(run, "nano", 1, update)
    text = _text(_render(run))
    assert f"9.26{TIMES}" not in text
    assert f"4.17{TIMES} as fast as the teacher, both in torch" in text  # what is steady is shown
    assert "2.30 unstable" in text
    make_unsteady(run, "nano", 0, update)
    text = _text(_render(run))
    assert "median latency unstable: measure again" in text
    assert f"4.17{TIMES}" not in text


@pytest.mark.parametrize("update", UNSTEADY)
def test_html__no_ratio_over_a_teacher_that_was_unsteady(make_run: Callable[..., Any], update: dict[str, Any]) -> None:
    run = make_run()
    make_unsteady(run, "teacher", 0, update)
    text = _text(_render(run))
    assert "not comparable with the teacher" in text
    assert "21.3 unstable" in text


def test_html__latency_with_its_spread_batches_and_conditions(built: Any) -> None:
    text = _text((built.out / "report.html").read_text())
    assert f"detect teacher torch 2 1 412 1.70 17.0 2.56 21.3 24.5 {DASH} 20.9-21.9 22.2 ± 2.56 45.1 0.8 s" in text
    assert f"detect teacher torch 4 59.6 68.6 {DASH} 57.5-61.8 67.1 0.8 s" in text
    assert text.count("clock of cpu 3000 MHz 3000 MHz") == 1
    assert "Phases by the device" not in text
    assert "Doubtful" not in text


def test_html__latency_that_is_doubtful_says_why(make_run: Callable[..., Any]) -> None:
    run = make_run()
    for name in ("teacher", "nano"):
        path = run.results / f"latency/detect/{name}.json"
        latency = read_record(path, Latency)
        row = latency.runtimes[0].model_copy(
            update={"warmup": WarmUp(seconds=5.0, stable=False), "compute": latency.runtimes[0].infer}
        )
        busy = {"load": Load(average=1.8, cpus=2), "runtimes": [row, *latency.runtimes[1:]]}
        write_record(path, latency.model_copy(update=busy))
    text = _text(_render(run))
    assert text.count("the machine was busy before the start: load average 1.8 on 2 CPUs") == 1
    assert "nano was not stable after the warm-up in torch" in text
    assert "22.2 ± 2.56 45.1 unstable" in text
    assert f"detect teacher torch compute 17.0 19.6 {DASH}" in text


def test_html__latency_of_a_commit_that_measured_less(make_run: Callable[..., Any]) -> None:
    run = make_run()
    for path in (run.results / "latency/detect").glob("*.json"):
        record = json.loads(path.read_text())
        for key in ("load", "before", "after"):
            del record[key]
        for row in record["runtimes"]:
            for key in ("warmup", "blocks", "batches", "host_to_device", "compute", "device_to_host"):
                del row[key]
        path.write_text(json.dumps(record))
    text = _text(_render(run))
    assert f"detect teacher torch 2 1 412 1.70 17.0 2.56 21.3 24.5 {DASH} {DASH} 22.2 ± 2.56 45.1 {DASH}" in text
    assert f"9.26{TIMES}" in text


def test_html__earlier_commits_and_what_of_them_compares(
    make_run: Callable[..., Any], commit: Callable[[str], str]
) -> None:
    make_run(fingerprint="cpu-b", level=0.55).write_numbers()
    before = commit("Measured elsewhere")
    run = make_run()
    text = _text(_render(run, read_history(run.out, 5, *run.write_numbers())))
    row = text[text.index(before) :]
    assert "Measured elsewhere nano 0.550 0.390 0.443 +0.053" in row
    assert "accuracy (other device)" in row


def test_html__escapes_what_a_dataset_brings(make_run: Callable[..., Any]) -> None:
    run = make_run()
    path = run.dataset / "dataset.json"
    path.write_text(path.read_text().replace('"star"', '"<script>alert(1)</script>"'))
    source = _render(run)
    assert "<script>" not in source
    assert "&lt;script&gt;" in source


def test_params_yaml__is_what_was_given(built: Any) -> None:
    assert YAML(typ="safe").load(params_yaml(built.params)) == built.params.model_dump(mode="json")


def test_html__segmentation_is_told_in_its_own_words(built: Any) -> None:
    source = (built.out / "report.html").read_text()
    detect, segment = _section(source, "detect"), _section(source, "segment")
    for words in ("AP50-95", "AP small", "Boxes matched", "Worst box", "Objects, train", "to boxes"):
        assert words in detect
        assert words not in segment
    for words in ("mIoU", "boundary F", "Pixels equal", "IoU", "Pixels, train", "to the class map"):
        assert words in segment
    assert not re.search(r"\bAP", segment)
    captions = re.findall(r'alt="([^"]*)"', source[source.index('<h2 id="segment"') :])
    assert len(captions) == 6
    assert not any(re.search(r"\bAP|boxes", caption) for caption in captions)


@pytest.mark.parametrize(("tasks", "absent"), [(DETECT, ("mIoU", "Semantic")), (SEGMENT, ("AP50-95 in", "Detection"))])
def test_html__a_task_without_students_is_left_out(
    make_run: Callable[..., Any], tasks: dict[Task, tuple[str, ...]], absent: tuple[str, ...]
) -> None:
    text = _text(_render(make_run(tasks=tasks)))
    assert not any(word in text for word in absent)


def test_html__classes_with_objects_or_shares_of_pixels(built: Any) -> None:
    source = (built.out / "report.html").read_text()
    assert "circle 3 3 3" in _section(source, "detect")
    assert "circle 33.3 % 33.3 % 33.3 %" in _section(source, "segment")  # a quarter of the masks has no label


@pytest.mark.parametrize(
    ("corrupted", "words"),
    [
        ("measured", "Severity 1 Severity 3 Severity 5 teacher torch 100 0.612 0.387 63 %"),
        ("skipped", "Not measured: robustness.corruptions is empty in params.yaml."),
        ("absent", "Corrupted images Not measured. "),
    ],
)
def test_html__robustness_or_why_not(make_run: Callable[..., Any], corrupted: str, words: str) -> None:
    assert words in _text(_render(make_run(tasks=SEGMENT, corrupted=corrupted)))


def test_html__what_devices_measured_and_of_which_checkpoint(make_run: Callable[..., Any]) -> None:
    run = make_run(tasks=DETECT)
    model = read_record(run.results / "detect/nano/distilled/accuracy-torch.json", Accuracy).model
    for fingerprint, digest in (("aaa", model.digest), ("bbb", "another")):
        write_record(
            run.results / f"devices/{fingerprint}/detect-nano.json",
            DeviceRecord(
                format=1, task="detect", student="nano", checkpoint_digest=digest, image_size_px=128, commit="c0ffee",
                threads=2, device=device(fingerprint), state={"power mode": "15W"},
                timings=[
                    DeviceTiming(
                        runtime="tensorrt", runtime_version="10.3.0", precision="int8", batch_size=1, runs=100,
                        mean_ms=1.5, p50_ms=1.41, p90_ms=1.6, p99_ms=1.9, compute_p50_ms=1.23,
                    )
                ],
            ),
        )  # fmt: skip
    text = _text(_render(run))
    assert text.count(f"tensorrt 10.3.0, 2 threads int8 1 1.41 1.60 {DASH} 1.23 power mode 15W") == 2
    assert text.count("an earlier checkpoint, commit c0ffee") == 1
