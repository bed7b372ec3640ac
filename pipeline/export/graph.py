"""ONNX graphs: which layer a node is, what the file says about itself, and writing it atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import ModelProto

from pipeline.files import write_bytes

PRODUCER: Final = "freekd-pipeline"


def module_path(node: str) -> str:
    """Turn a node's name into the path of its module: `/model.22/cv3.0/cv3.0.2/Conv` into `model.22.cv3.0.2`.

    Torch names a node by the modules that were entered, each with its path from the parent that is no list: `cv3.0.2`
    stands behind `cv3.0`. A module that only wraps another of the same name counts once.
    """
    path: list[str] = []
    for name in node.strip("/").split("/")[:-1]:
        if path and (name == path[-1] or name.startswith(f"{path[-1]}.")):
            path.pop()
        path.append(name)
    return ".".join(path)


def nodes_of(graph: ModelProto, layers: Iterable[str]) -> list[str]:
    """List the names of the nodes of some modules, or of modules inside them."""
    inside = tuple(f"{layer}." for layer in layers)
    return [node.name for node in graph.graph.node if f"{module_path(node.name)}.".startswith(inside)]


def nodes_behind(graph: ModelProto, names: Iterable[str]) -> list[str]:
    """List the names of the nodes that some nodes' outputs lead to; the graph is in topological order."""
    start, reached = set(names), set[str]()
    found = []
    for node in graph.graph.node:
        behind = not reached.isdisjoint(node.input)
        if behind:
            found.append(node.name)
        if behind or node.name in start:
            reached.update(node.output)
    return found


def properties_of(graph: ModelProto) -> dict[str, Any]:
    """Read what `save_graph` wrote: one JSON value per key."""
    return {entry.key: json.loads(entry.value) for entry in graph.metadata_props}


def save_graph(graph: ModelProto, out: Path, properties: dict[str, Any]) -> None:
    """Check a graph and write it: the same bytes for the same graph.

    Args:
        graph: In topological order; changed in place: unused opsets dropped, shapes inferred anew.
        out: The file; written atomically.
        properties: For the metadata, one JSON value per key.

    Raises:
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError: if the graph is invalid, a bug.

    """
    used = {node.domain for node in graph.graph.node}
    for entry in [entry for entry in graph.opset_import if entry.domain not in used]:
        graph.opset_import.remove(entry)
    graph.ir_version = onnx.helper.find_min_ir_version_for(graph.opset_import)  # what older runtimes can read
    graph.producer_name, graph.producer_version = PRODUCER, ""
    del graph.metadata_props[:]
    for key, value in properties.items():
        graph.metadata_props.add(key=key, value=json.dumps(value))
    del graph.graph.value_info[:]  # shapes of tensors that a tool removed; inferred anew
    graph = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    onnx.checker.check_model(graph, full_check=True)
    write_bytes(out, graph.SerializeToString(deterministic=True))
