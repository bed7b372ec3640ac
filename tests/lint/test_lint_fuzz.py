"""Damaged files end in a report or in one PipelineError, never in a traceback."""

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from pipeline.errors import PipelineError
from pipeline.lint import lint
from pipeline.lint.report import show
from pipeline.text import PlainConsole
from tests.lint.corpus import corpus, save

SEEDS = (
    "Conv weights as input", "Conv int8 bias int32", "Resize cubic sizes computed", "If input ranks", "Loop scan",
    "Scan", "NonMaxSuppression then Gather", "Reshape by gathered shape", "blocked int4 weights", "Slice step",
    "Einsum", "LSTM", "TopK k computed", "Pad axes", "QDQ per channel, dynamic batch", "Attention mask",
    "EyeLike int64", "Constant ints", "SequenceMap", "GridSample linear 20", "Split sizes", "OneHot",
)  # fmt: skip
NAMES = ("", "x", "y", "[/x]", "[red]", "\x1b[31m", "a\nb", "\u202e", "\0", "x" * 5000, "../w", "ai.onnx", "é")
NUMBERS = (0, 1, -1, 2, 3, 7, 9, 16, 17, 23, 255, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
REALS = (0.0, -1.0, float("nan"), float("inf"), 1e38)
STRINGS = {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
FLOATS = {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}


def messages(message: Message) -> Iterator[Message]:
    """Yield a message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if isinstance(value, (list, tuple)) or hasattr(value, "add") else [value]:
                yield from messages(inner)


def value_for(field: Any, generator: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return generator.choice(NAMES)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return generator.choice([b"", b"nearest", b"cubic", b"SAME_UPPER", b"\xff\xfe", b"ij,jk->ik", bytes(64)])
    return generator.choice(REALS if field.type in FLOATS else NUMBERS)


def mutate_field(model: onnx.ModelProto, generator: random.Random) -> None:
    """Change, clear, double or drop one field anywhere."""
    message = generator.choice(list(messages(model)))
    field = generator.choice(message.DESCRIPTOR.fields)
    value = getattr(message, field.name)
    try:
        if hasattr(value, "extend"):
            action = generator.choice(["drop", "double", "change"])
            if action == "double" and value:
                value.extend([generator.choice(list(value))])
            elif action == "drop" and value:
                del value[generator.randrange(len(value))]
            elif field.type != FieldDescriptor.TYPE_MESSAGE:
                value.append(value_for(field, generator))
        elif field.type == FieldDescriptor.TYPE_MESSAGE or generator.random() < 0.2:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, value_for(field, generator))
    except ValueError:  # an enum without that number
        message.ClearField(field.name)


def mutate_bytes(content: bytes, generator: random.Random) -> bytes:
    """Flip, cut, insert or double bytes."""
    data = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 8])):
        place = generator.randrange(len(data))
        action = generator.randrange(5)
        if action == 0:
            data[place] = generator.randrange(256)
        elif action == 1:
            data[place] ^= 1 << generator.randrange(8)
        elif action == 2:
            del data[place : place + generator.choice([1, 4, 64])]
        elif action == 3:
            data[place:place] = bytes(generator.randrange(256) for _ in range(4))
        else:
            data[place:place] = data[place : place + 16]
        if not data:
            return b"\0"
    return bytes(data)


def mutated(content: bytes, generator: random.Random) -> bytes:
    if generator.random() < 0.4:
        return mutate_bytes(content, generator)
    model = onnx.ModelProto.FromString(content)
    for _ in range(generator.choice([1, 1, 2, 4])):
        mutate_field(model, generator)
    return model.SerializeToString()


def shown(path: Path, console: PlainConsole, dla: bool) -> bool:
    """Lint a file and print the report in both forms; False if it is refused with one message."""
    try:
        report = lint(path, dla=dla)
    except PipelineError:
        return False
    report.model_dump_json()
    show(report, console)
    return True


@pytest.mark.parametrize(
    ("count", "seed"), [(200, 0), pytest.param(2000, 1, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_lint__damaged_files_never_end_in_a_traceback(count: int, seed: int, tmp_path: Path) -> None:
    generator, contents = random.Random(seed), []
    cases = {name.split(": ")[1]: case for name, case in corpus().items()}
    for name in SEEDS:
        save(cases[name], tmp_path / "seed.onnx")
        contents.append((tmp_path / "seed.onnx").read_bytes())
    console = PlainConsole(file=io.StringIO(), width=80)
    path = tmp_path / "mutated.onnx"
    reports = 0
    for number in range(count):
        try:
            path.write_bytes(mutated(contents[number % len(contents)], generator))
        except DecodeError:
            continue
        reports += shown(path, console, dla=number % 3 == 0)
    assert reports > count / 3
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    assert "\u202e" not in text
