"""Which operators and types TensorRT's ONNX parser has, by version (`operators.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from onnx import NodeProto, TensorProto

from pipeline.lint.graph import Graph, name_of, schema_of, standard
from pipeline.lint.rule import Place, Rule, Target

Version = tuple[int, int]
RENAMED: Final = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "FLOAT8E4M3FN": "FP8", "FLOAT4E2M1": "FP4"}
NAMES: Final = {kind: RENAMED.get(name, name) for name, kind in TensorProto.DataType.items()}
CASTS: Final = {"Cast", "CastLike", "ConstantOfShape"}
OPERANDS: Final = {  # by position; what is not the operator's data
    "Where": (0, "BOOL"), "Gather": (1, "INT32 INT64"), "GatherElements": (1, "INT32 INT64"),
    "Expand": (1, "INT64"), "Pad": (1, "INT64"), "Split": (1, "INT64"), "Tile": (1, "INT64"),
    "GatherND": (1, "INT32 INT64"), "ScatterElements": (1, "INT32 INT64"), "ScatterND": (1, "INT32 INT64"),
}  # fmt: skip
DATA: Final = {"OneHot": 2, "Where": 1}  # which input holds the data, where it is not the first
WINDOWS: Final = {"BlackmanWindow", "HammingWindow", "HannWindow"}


class Table(NamedTuple):
    """What `operators.json` holds."""

    types: dict[str, set[str]]  # documented, by operator
    built: dict[str, set[str]]  # what was seen to build, by operator
    built_since: Version  # the first version which that says all of
    added: dict[str, Version]  # the first version with an operator, where 10.0 lacks it
    opsets: list[tuple[Version, int, int]]  # since which version, first and last; oldest version first


def parse_version(text: str) -> Version:
    """Read major and minor of `10.3` or `10.16.1.11`; ValueError for anything else."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def type_name(kind: int) -> str:
    """Name an ONNX element type as TensorRT does."""
    return NAMES.get(kind, f"type {kind}")


def supported_types(op_type: str, version: Version) -> set[str] | None:
    """Give the types that an operator takes as its data; None if the parser of this version lacks it.

    A version before those whose builds were seen takes what is documented and builds in the later one.
    """
    table = _table()
    documented = table.types.get(op_type)
    if documented is None or version < table.added.get(op_type, version):
        return None
    built = table.built.get(op_type, documented)
    return built if version >= table.built_since else documented & built


def opset_range(version: Version) -> tuple[int, int]:
    """Give the first and last opset that the parser of a version is known to take."""
    return [(first, last) for since, first, last in _table().opsets if since <= version][-1]


def data_types(node: NodeProto, graph: Graph) -> dict[str, set[int]]:
    """Collect the inputs' element types by the schema's type (`T`, `T1`), as far as they are known."""
    schema = schema_of(node, graph.opset)
    if schema is None or not schema.inputs:
        return {}
    found: dict[str, set[int]] = {}
    for number, name in enumerate(node.input):
        formal = schema.inputs[min(number, len(schema.inputs) - 1)]
        if formal.is_homogeneous and name in graph.types:
            found.setdefault(formal.type_str, set()).add(graph.types[name])
    return found


def check_opset(graph: Graph, target: Target) -> Iterator[Place]:
    """Find an opset outside what the version's parser is known to take."""
    first, last = opset_range(target.version)
    if not first <= graph.opset <= last:
        yield Place("the file", f"opset {graph.opset}; this version is known to take {first} to {last}")


def check_plugin(graph: Graph, _: Target) -> Iterator[Place]:
    """Find operators of a foreign domain: only a plugin could run them."""
    for node in graph.nodes:
        if not standard(node) and not _tensorrt(node):
            yield Place(name_of(node), f"{node.domain}.{node.op_type} is no ONNX operator")


def check_foreign_domain(graph: Graph, _: Target) -> Iterator[Place]:
    """Find operators of a foreign domain that TensorRT reads as ONNX's own."""
    for node in graph.foreign:
        yield Place(name_of(node), f"{node.domain}.{node.op_type}, which TensorRT reads as ONNX's {node.op_type}")


def check_tensorrt_plugin(graph: Graph, _: Target) -> Iterator[Place]:
    """Find operators that TensorRT itself may bring."""
    for node in graph.nodes:
        if _tensorrt(node):
            yield Place(name_of(node), f"{node.op_type} is an operator of TensorRT's own")


def _tensorrt(node: NodeProto) -> bool:
    return node.op_type.startswith("TRT_") or node.op_type.endswith("_TRT")


def check_operator(graph: Graph, target: Target) -> Iterator[Place]:
    """Find standard operators that the parser lacks."""
    for node in graph.nodes:
        if standard(node) and not _tensorrt(node) and supported_types(node.op_type, target.version) is None:
            added = _table().added.get(node.op_type)
            since = f" before {added[0]}.{added[1]}" if added else ""
            yield Place(name_of(node), f"TensorRT has no {node.op_type}{since}")


def check_operator_type(graph: Graph, target: Target) -> Iterator[Place]:
    """Find operators on a type that they do not take. Q/DQ have rules of their own; DOUBLE is cast down to FP32."""
    for node in graph.nodes:
        supported = supported_types(node.op_type, target.version) if standard(node) else None
        if supported is None or node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        for kind in sorted(_data(node, graph)):
            if type_name(TensorProto.FLOAT if kind == TensorProto.DOUBLE else kind) not in supported:
                yield Place(name_of(node), f"{node.op_type} of {type_name(kind)}; it takes {_listed(supported)}")


def check_operand_type(graph: Graph, _: Target) -> Iterator[Place]:
    """Find conditions and indices of a type that they may not have."""
    for node in graph.nodes:
        position, names = OPERANDS.get(node.op_type, (0, "")) if standard(node) else (0, "")
        kind = graph.types.get(node.input[position]) if names and position < len(node.input) else None
        if kind is None or type_name(kind) in names.split():
            continue
        if names != "INT64" or node.input[position] not in graph.constants:  # a constant is converted
            yield Place(name_of(node), f"{node.op_type} whose input {position} is {type_name(kind)}, not {names}")


def _data(node: NodeProto, graph: Graph) -> set[int]:
    """Collect the types that the operator table speaks of: the first input's, or what a node makes, or both."""
    made = {graph.types[name] for name in node.output if name in graph.types}
    if node.op_type in DATA:
        names = node.input[DATA[node.op_type] : DATA[node.op_type] + 1]
        return {graph.types[name] for name in names if name in graph.types}
    if not node.input or node.op_type in WINDOWS:
        return made
    taken = next(iter(data_types(node, graph).values()), set())
    return taken | made if node.op_type in CASTS else taken


def _listed(types: set[str]) -> str:
    return ", ".join(name for name in sorted(types, key=lambda name: (name.startswith("I"), name)))


@cache
def _table() -> Table:
    table: dict[str, Any] = json.loads(Path(__file__).with_name("operators.json").read_text())
    types, built = (
        {op: set(names.split()) for names, ops in part["types"].items() for op in ops}
        for part in (table, table["built"])
    )
    added = {op: parse_version(version) for op, version in table["added"].items()}
    opsets = [(parse_version(entry["since"]), entry["first"], entry["last"]) for entry in table["opsets"]]
    return Table(types, built, parse_version(table["built"]["since"]), added, opsets)


RULES: Final[dict[str, Rule]] = {
    "opset": Rule("error", check_opset, "export with another opset (params.yaml: export.opset)"),
    "operator": Rule("error", check_operator, "export the model without it, or write a TensorRT plugin of that name"),
    "operator-type": Rule("error", check_operator_type, "cast its input, or export the model without it"),
    "operand-type": Rule("error", check_operand_type, "cast it"),
    "plugin": Rule("error", check_plugin, "export to standard operators, or load a plugin of that name"),
    "foreign-domain": Rule("warning", check_foreign_domain, "see that both mean the same, or export to ONNX's own"),
    "tensorrt-plugin": Rule("warning", check_tensorrt_plugin, "see that libnvinfer_plugin of this version has it"),
}
