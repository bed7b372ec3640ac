"""`python -m pipeline lint`: a table of 80 columns, one verdict, a status for CI."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.text import printable
from tests.lint.graphs import write

ROOT = Path(__file__).parents[2]
LAYER = "with_quite_a_long_name_such_as_an_exporter_makes_of_modules_within_modules"


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write(tmp_path, "float[batch,3,8,8] x", "float[batch,3,8,8] y", "y = Relu(x)")


@pytest.fixture
def unsound(tmp_path: Path) -> Path:
    body = f"[{LAYER}] p = Det(x) [b] q = Det(x) y = Add(p, q)"
    return write(tmp_path, "float[1,3,4,4] x", "float[1,3] y", body)


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["lint", *map(str, arguments)])
    return done.exit_code, done.output


def test_cli_lint__ready_with_warnings(sound: Path) -> None:
    status, text = run(sound)
    assert status == 0
    assert "READY for TensorRT 10.3 and 11.4: 0 errors, 1 warning" in text.splitlines()
    assert "--maxShapes=x:8x3x8x8" in text
    assert "predicts parsing, not building" in text


def test_cli_lint__not_ready_in_80_columns(unsound: Path) -> None:
    status, text = run(unsound)
    assert status == 1
    assert "NOT READY for TensorRT 10.3 and 11.4: 1 error, 0 warnings" in text.splitlines()
    assert "2 x TensorRT has no Det" in text
    assert "and 1 more" in text
    assert LAYER in "".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 80


def test_cli_lint__says_which_version_takes_it(tmp_path: Path) -> None:
    file = write(tmp_path, "float[4] x", "float[4] y", "y = Relu(x)", "", 21)
    status, text = run(file)
    assert status == 1
    assert "NOT READY for TensorRT 10.3, ready for 11.4: 1 error, 0 warnings" in text.splitlines()
    assert run(file, "--tensorrt", "11.4") == (0, run(file, "--tensorrt", "11.4")[1])
    assert run(file, "--tensorrt", "10.16", "--tensorrt", "10.3")[0] == 1


def test_cli_lint__brackets_in_names_are_no_markup(tmp_path: Path) -> None:
    import onnx

    file = write(tmp_path, "float[1,3,4,4] x", "float[1,3] y", "y = Det(x)")
    model = onnx.load(file)
    model.graph.node[0].name = "layers[red]/a"
    onnx.save(model, file)
    assert "at layers[red]/a" in run(file)[1]


@pytest.mark.parametrize(
    "name", ["[/x]", "[/]", "[bold]x", "\\[x", "a\x1b[31mb", "a\nREADY", "a\u202eb", "a\rb", "\x07"]
)
@pytest.mark.parametrize("field", ["node", "domain", "input"])
def test_cli_lint__names_are_shown_as_they_are_and_steer_nothing(name: str, field: str, tmp_path: Path) -> None:
    import onnx

    file = write(tmp_path, "float[batch,3,4,4] x", "float[batch,3] y", "y = Det(x)")
    model = onnx.load(file)
    node = model.graph.node[0]
    if field == "input":
        node.input[0] = model.graph.input[0].name = name
    else:
        setattr(node, {"node": "name", "domain": "domain"}[field], name)
    onnx.save(model, file)
    status, text = run(file)
    assert status == 1
    assert printable(name) in text
    assert not set("\x1b\u202e\r\x07") & set(text)
    assert json.loads(run(file, "--json")[1])["findings"]


def own_int8(folder: Path, zero: int, producer: str) -> Path:
    """Write a file as this pipeline exports INT8 for ONNX Runtime and OpenVINO."""
    import onnx

    body = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    file = write(folder, "float[1,3,8,8] x", "float[1,3,8,8] y", body, f"float s = {{0.5}}, uint8 z = {{{zero}}}")
    model = onnx.load(file)
    model.producer_name = producer
    model.metadata_props.add(key="precision", value='"int8"')
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("zero", [0, 128])
def test_cli_lint__our_int8_names_the_file_for_tensorrt_once(zero: int, tmp_path: Path) -> None:
    text = " ".join(run(own_int8(tmp_path, zero, "freekd-pipeline"))[1].split())
    assert text.count("int8-tensorrt.onnx") == 1
    assert "This file is for ONNX Runtime and OpenVINO" in text
    assert "int8-tensorrt" not in run(own_int8(tmp_path, zero, "another"))[1]


def test_cli_lint__json_for_ci(unsound: Path) -> None:
    status, text = run(unsound, "--json")
    report = json.loads(text)
    assert status == 1
    assert report["ready"] is False
    assert report["tensorrt"] == ["10.3", "11.4"]
    (finding,) = report["findings"]
    assert (finding["rule"], finding["severity"], finding["where"]) == ("operator", "error", [LAYER, "b"])


def test_cli_lint__dla_on_request(sound: Path) -> None:
    assert "dla-shape" in run(sound, "--dla")[1]
    assert "dla-shape" not in run(sound)[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "expected an ONNX file, found nothing there"),
        (b"", "expected an ONNX file with a graph, got a file without nodes"),
        (b"PK\x03\x04 no protobuf", "expected an ONNX file, got something else"),
    ],
)
def test_cli_lint__what_is_no_onnx_is_one_message(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    done = CliRunner().invoke(app, ["lint", str(tmp_path / "a.onnx")])
    assert done.exit_code not in {0, None}
    assert says in str(done.exception)
    assert str(tmp_path / "a.onnx") in str(done.exception)


@pytest.mark.parametrize("version", ["9.3", "11.5", "ten", "10"])
def test_cli_lint__versions_out_of_range(version: str, sound: Path) -> None:
    done = CliRunner().invoke(app, ["lint", str(sound), "--tensorrt", version])
    assert f"--tensorrt: expected a version from 10.3 to 11.4, got '{version}'" in str(done.exception)


def test_cli_lint__never_imports_torch(sound: Path) -> None:
    code = (
        "import sys\nfrom pipeline.cli import app\ntry: app()\nfinally: "
        "print(sorted({'torch', 'ultralytics', 'tensorrt'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "lint", sound], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
