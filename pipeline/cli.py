"""What is not a stage: look at results, check data, turn a checkpoint into other tools' files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, ParamSpec

import typer

from pipeline.errors import PipelineError
from pipeline.params import load_params

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Beside the chain that `dvc repro` runs.",
)
Arguments = ParamSpec("Arguments")


def command(function: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Register a command whose user errors end in one message and status 1."""

    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except PipelineError as error:
            raise SystemExit(f"\nERROR {error}") from None

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
    """Read the dataset that params.yaml names and list its defects; write nothing."""
    from pipeline.data.prepare import prepare_dataset

    with TemporaryDirectory() as folder:
        prepare_dataset(load_params().prepare, Path(folder) / "dataset")


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
    from rich.console import Console

    from pipeline.lint.check import ENDS
    from pipeline.lint.check import lint as check
    from pipeline.lint.report import show as show_report

    report = check(model, tensorrt or ENDS, dla)
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        show_report(report, Console())
    if not report.ready:
        raise typer.Exit(1)


@command
def compare_latency(
    a: Annotated[Path, typer.Argument(help="A record in results/latency, of this commit or another")],
    b: Annotated[Path, typer.Argument(help="Another one of the same device")],
) -> None:
    """Print how many times as long a takes as b, with its spread, or what forbids to compare them."""
    from rich.console import Console

    from pipeline.evaluation.latency_comparison import comparison_table
    from pipeline.records import Latency, read_record

    Console().print(comparison_table(read_record(a, Latency), read_record(b, Latency)))


__all__ = ["app"]
