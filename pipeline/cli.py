"""What is not a stage: look at results, check data, ship a model to a device and run it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from pipeline.errors import PipelineError
from pipeline.text import LAYOUT, PlainConsole, printable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Beside the chain that `dvc repro` runs.",
)
Arguments = ParamSpec("Arguments")


def command(function: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Register a command whose user errors, and whatever the file system refuses, end in one message and status 1."""

    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except PipelineError as error:
            raise SystemExit(f"\nERROR {printable(error, keep=LAYOUT)}") from None
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            raise SystemExit(130) from None
        except BrokenPipeError:  # as of `| head`; what is still to be flushed at the end goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        except OSError as error:
            place = "" if error.filename is None else f"{error.filename}: "
            raise SystemExit(f"\nERROR {printable(f'{place}{error.strerror or error}')}") from None

    return app.command()(run)


@command
def show(
    metrics: Annotated[Path, typer.Argument(help="The report stage's metrics")] = Path("reports/metrics.json"),
) -> None:
    """Print accuracy, latency and size of this run as a table."""
    from pipeline.report.build import show as show_metrics

    show_metrics(metrics)


@command
def check_data() -> None:
    """Read the dataset that params.yaml names: list its defects, count its labels, check models; write nothing."""
    from pipeline.data.prepare import check_data as check
    from pipeline.params_file import load_params
    from pipeline.preflight import model_problems, task_problems

    params = load_params()
    check(params.prepare, Path("dataset"))
    if left_over := task_problems(params):
        print("\n".join(["Before `dvc repro`:", *left_over]), file=sys.stderr)
    if problems := model_problems(params):
        raise PipelineError("\n".join(problems))


@command
def export_pt(
    checkpoint: Annotated[Path, typer.Argument(help="For example artifacts/micro-n/distilled")],
    out: Annotated[Path, typer.Argument(help="The .pt file to write")],
) -> None:
    """Turn a checkpoint into a `.pt` that stock `yolo predict model=...` runs."""
    from pipeline.export.ultralytics import export_ultralytics

    export_ultralytics(checkpoint, out)


@command
def lint(
    model: Annotated[Path, typer.Argument(help="The .onnx file")],
    tensorrt: Annotated[
        list[str] | None, typer.Option(help="Version to check for, repeatable; without it 10.3 and 11.4")
    ] = None,
    dla: Annotated[bool, typer.Option("--dla", help="Say as well what a DLA leaves to the GPU")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for CI")] = False,
) -> None:
    """Say whether TensorRT would take an ONNX file; status 1 if not. Needs no TensorRT."""
    from pipeline.lint.check import ENDS
    from pipeline.lint.check import lint as check
    from pipeline.lint.report import show as show_report

    report = check(model, tensorrt or ENDS, dla)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        show_report(report, PlainConsole())
    if not report.ready:
        raise typer.Exit(1)


@command
def compare_latency(
    a: Annotated[Path, typer.Argument(help="A record in results/latency, of this commit or another")],
    b: Annotated[Path, typer.Argument(help="Another one of the same device")],
) -> None:
    """Print how many times as long a takes as b, with its spread, or what forbids to compare them."""
    from pipeline.evaluation.latency_comparison import comparison_table
    from pipeline.records import Latency, read_record

    PlainConsole().print(comparison_table(read_record(a, Latency), read_record(b, Latency)))


@command
def bundle(
    student: Annotated[str, typer.Argument(help="A name under `students` in params.yaml")],
    out: Annotated[Path, typer.Option(help="The .zip file to write")],
) -> None:
    """Pack a student for a device: models, scripts, samples with expected answers, a model card."""
    from pipeline.bundle.write import write_bundle
    from pipeline.data.prepared import open_dataset
    from pipeline.params_file import load_params

    students = load_params().students
    if student not in students:
        raise PipelineError(f"params.yaml has no student {student}; it has {', '.join(students)}")
    export = Path("artifacts") / students[student].task / student / "export"
    if not (export / "fp32.onnx").is_file():
        raise PipelineError(f"{export / 'fp32.onnx'} not found: run `dvc repro export` to make it")
    manifest = write_bundle(out, export=export, results=Path("results"), dataset=open_dataset(Path("dataset")))
    print(printable(f"{out}: {len(manifest.files)} files, {out.stat().st_size / 1e6:.2f} MB"))


@command
def unpack(
    file: Annotated[Path, typer.Argument(metavar="BUNDLE.zip", help="What `bundle` wrote")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder")],
) -> None:
    """Check every path, size and hash of a bundle, then unpack it."""
    from pipeline.bundle.unpack import unpack as unpack_bundle

    manifest = unpack_bundle(file, folder)
    about = f"{manifest.task} student {manifest.student}, {len(manifest.files)} files, all as they were shipped"
    print(printable(f"{folder}: {about}"))


@command
def import_records(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An unpacked bundle, back from a device")],
) -> None:
    """Bring a device's measurements back into results/devices/."""
    from pipeline.bundle.device_records import import_records as bring_back

    for imported in bring_back(folder, Path("results")):
        print(printable(f"{imported.path}: {imported.change}"))


@command
def predict(
    model: Annotated[Path, typer.Argument(help="A bundle (.zip or unpacked) or an .onnx file")],
    images: Annotated[list[str], typer.Argument(help="Images, videos, folders of them, or patterns in quotes")],
    out: Annotated[Path | None, typer.Option(help="Folder for drawings; existing files are never overwritten")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line")] = False,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Boxes score above it")] = 0.25,
) -> None:
    """Run an exported model on images: boxes, or a class map. Needs no torch.

    IMAGES are

    - files: JPEG, PNG, BMP, WebP or TIFF

    - videos that OpenCV reads: each frame is an image named clip.mp4#0

    - folders: the images and videos in them, without subfolders

    - patterns in quotes, such as 'shots/*.jpg' or 'shots/**/*.png'

    Each image gives one line: what was found, in pixels of the image.
    With --json an object with "image" and "boxes"; or, of a segmenter,
    "classes" with the share of the pixels that each class has.

    With --out, street.jpg gives street.jpg.predicted.png with what was
    found drawn in, and of a segmenter street.jpg.classes.png, whose
    pixels are class ids. A file that exists is never overwritten.

    What cannot be read is reported on stderr (with --json as an object
    with "image" and "error"), the rest is run, and the status is 1.
    """
    import sys

    from pipeline.predict_files import predict_files

    failed = False
    for line in predict_files(model, images, out=out, as_json=json, threshold=threshold):
        print(line.text, file=sys.stderr if line.failed and not json else sys.stdout, flush=True)
        failed = failed or line.failed
    if failed:
        raise typer.Exit(1)


__all__ = ["app"]
