"""Ranks that TensorRT's layers take, and where shapes, sizes and axes may come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from onnx import NodeProto, TensorProto

from pipeline.lint.graph import Graph, Shape, attribute, name_of, standard
from pipeline.lint.rule import Place, Rule, Target

MAX_RANK: Final = 8
RANKS: Final[dict[str, tuple[int, int]]] = {  # of the first input: least and most
    "AveragePool": (3, 5), "Conv": (3, 5), "ConvTranspose": (3, 5), "DepthToSpace": (4, 4), "EyeLike": (2, 2),
    "GlobalAveragePool": (3, 8), "GlobalLpPool": (3, 8), "GlobalMaxPool": (3, 8), "GridSample": (4, 4),
    "GroupNormalization": (3, 8), "InstanceNormalization": (3, 8), "LRN": (4, 8),
    "LpNormalization": (1, 8), "LpPool": (4, 5), "MaxPool": (3, 5),
    "RandomNormalLike": (1, 8), "RandomUniformLike": (1, 8), "Resize": (1, 8), "ArgMax": (2, 8), "ArgMin": (2, 8),
    "Hardmax": (2, 8), "LogSoftmax": (2, 8), "Softmax": (2, 8),
}  # fmt: skip
FLATTENING: Final = {"Hardmax": 13, "LogSoftmax": 13, "Softmax": 13}  # before these opsets they make a matrix first
SHAPES: Final[dict[str, tuple[int, ...]]] = {  # inputs that say a shape, sizes, positions or a count
    "ConstantOfShape": (0,), "Expand": (1,), "Pad": (1, 3), "Range": (0, 1, 2), "Reshape": (1,), "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4), "Split": (1,), "Tile": (1,), "TopK": (1,), "Upsample": (1,),
}  # fmt: skip
LENGTHS: Final[dict[str, tuple[int, ...]]] = {  # those among them whose length must be known
    "ConstantOfShape": (0,), "Expand": (1,), "Pad": (1,), "Reshape": (1,), "Resize": (2, 3), "Slice": (1, 2, 3, 4),
    "TopK": (1,),
}  # fmt: skip
INDICES: Final = {"ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "TopK"}  # of integers that may be a shape
VECTORS: Final = {"Expand": 1, "Reshape": 1, "ConstantOfShape": 0}  # operands that must have one dimension
SAME_RANK: Final = {"GatherElements": 2, "ScatterElements": 3, "Scatter": 3}  # how many first inputs
INNERMOST: Final = {"cubic": 2, "linear": 3, "bilinear": 3}  # dimensions that may change, counted from the last


def _standard(graph: Graph) -> Iterator[NodeProto]:
    return (node for node in graph.nodes if standard(node))


def check_max_rank(graph: Graph, _: Target) -> Iterator[Place]:
    """Find tensors of more dimensions than TensorRT has."""
    for name, shape in graph.shapes.items():
        if len(shape) > MAX_RANK:
            yield Place(name, f"a tensor of {len(shape)} dimensions; TensorRT takes at most {MAX_RANK}")


def check_dimensions(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs of a rank that their operator does not take."""
    for node in _standard(graph):
        shape = graph.shapes.get(node.input[0]) if node.input else None
        if shape is None or len(shape) > MAX_RANK or graph.opset < FLATTENING.get(node.op_type, 0):
            continue
        least, most = (1, MAX_RANK) if node.op_type.startswith("Reduce") else RANKS.get(node.op_type, (0, MAX_RANK))
        if not least <= len(shape) <= most:
            takes = f"{least}" if least == most else f"{least} to {most}"
            yield Place(name_of(node), f"{node.op_type} of {len(shape)} dimensions; TensorRT takes {takes}")


def check_ranks_agree(graph: Graph, _: Target) -> Iterator[Place]:
    """Find inputs that must have the same number of dimensions and do not."""
    for node in _standard(graph):
        names = node.input[: SAME_RANK.get(node.op_type, 0)]
        ranks = {len(graph.shapes[name]) for name in names if name in graph.shapes}
        if len(ranks) > 1:
            listed = " and ".join(str(rank) for rank in sorted(ranks))
            yield Place(name_of(node), f"{node.op_type} of {listed} dimensions")


def check_shape_operand(graph: Graph, _: Target) -> Iterator[Place]:
    """Find shapes of unknown length, and shapes, sizes, axes and counts that are computed from the data."""
    computed, indices = data(graph, {"Shape", "Size"}), data(graph, {"Shape", "Size", *INDICES})
    for node in _standard(graph):
        for position, name in enumerate(node.input):
            what = f"{node.op_type} whose input {position}"
            shape = graph.shapes.get(name)
            if position in SHAPES.get(node.op_type, ()) and name in (computed if node.op_type == "Resize" else indices):
                yield Place(name_of(node), f"{what} is computed from the data")
            elif shape is None or name in graph.constants:
                pass
            elif position in LENGTHS.get(node.op_type, ()) and not all(isinstance(side, int) for side in shape):
                yield Place(name_of(node), f"{what} has no fixed length")
            elif VECTORS.get(node.op_type) == position and len(shape) != 1:
                yield Place(name_of(node), f"{what} has {len(shape)} dimensions, not 1")
        yield from _scalar_shape(graph, node)
        yield from _slice_length(graph, node)
        kinds = {graph.types[name] for name in (_input(node, 1), _input(node, 4)) if name in graph.types}
        if node.op_type == "Slice" and len(kinds) > 1:
            yield Place(name_of(node), "Slice whose starts and steps are of different types")


def _scalar_shape(graph: Graph, node: NodeProto) -> Iterator[Place]:
    if node.op_type == "Expand" and len(node.input) > 1 and node.input[1] in graph.constants:
        rank = len(graph.shapes.get(node.input[1], (1,)))
        if rank != 1:
            yield Place(name_of(node), f"Expand whose input 1 has {rank} dimensions, not 1")


def _slice_length(graph: Graph, node: NodeProto) -> Iterator[Place]:
    """Compare the starts of a Slice without axes, or of 32 bits and without steps, with the rank of its data."""
    if node.op_type != "Slice" or graph.opset < 10 or len(node.input) < 3:
        return
    shape, starts = graph.shapes.get(node.input[0]), graph.shapes.get(node.input[1], ())
    if shape is None or len(starts) != 1 or not isinstance(starts[0], int) or starts[0] == len(shape):
        return
    if not _input(node, 3):
        yield Place(name_of(node), f"Slice without axes that has {starts[0]} starts for {len(shape)} dimensions")
    elif graph.types.get(node.input[1]) == TensorProto.INT32 and not _input(node, 4):
        yield Place(name_of(node), "Slice of INT32 starts without steps")


def data(graph: Graph, ends: set[str]) -> set[str]:
    """Collect the tensors that are computed from an input of floating point, but not by the operators `ends`."""
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    found = {entry.name for entry in graph.inputs if graph.types.get(entry.name) in floats}
    for node in graph.nodes:
        if node.op_type not in ends and found.intersection(node.input):
            found.update(name for name in node.output if name)
    return found


def check_resize(graph: Graph, _: Target) -> Iterator[Place]:
    """Find interpolation over more dimensions than TensorRT has it for."""
    for node in _standard(graph):
        mode = attribute(node, "mode", "nearest")
        if node.op_type not in {"Resize", "Upsample"} or mode not in INNERMOST:
            continue
        factors = _factors(graph, node)
        outer = factors[: max(len(factors) - INNERMOST[mode], 0)]
        if any(factor != 1 for factor in outer):
            yield Place(
                name_of(node),
                f"{mode} {node.op_type} of dimension {next(n for n, factor in enumerate(outer) if factor != 1)}; "
                f"TensorRT takes the last {INNERMOST[mode]}",
            )


def _factors(graph: Graph, node: NodeProto) -> list[float]:
    """Give the scale of every dimension, as far as constants say it."""
    shape: Shape | None = graph.shapes.get(node.input[0])
    if shape is None:
        return []
    axes = [axis % max(len(shape), 1) for axis in attribute(node, "axes", list(range(len(shape))))]
    scales = graph.value(_input(node, 1 if node.op_type == "Upsample" or graph.opset < 11 else 2))
    sizes = graph.value(_input(node, 3))
    factors = [1.0] * len(shape)
    if scales is not None and len(axes) < len(shape):
        return []  # the parser does not look
    if scales is not None and scales.size == len(axes):
        for axis, scale in zip(axes, scales.ravel().tolist(), strict=True):
            factors[axis] = scale
    elif sizes is not None and sizes.size == len(axes):
        for axis, size in zip(axes, sizes.ravel().tolist(), strict=True):
            factors[axis] = 1.0 if size == shape[axis] or not isinstance(shape[axis], int) else 2.0
    return factors


def _input(node: NodeProto, position: int) -> str:
    return node.input[position] if position < len(node.input) else ""


def check_broadcast(graph: Graph, _: Target) -> Iterator[Place]:
    """Find shapes that ONNX broadcasts and TensorRT does not."""
    for node in _standard(graph):
        shapes = [graph.shapes.get(name) for name in node.input[:2]]
        if len(shapes) < 2 or shapes[0] is None or shapes[1] is None:
            continue
        first, second = shapes[0], shapes[1]
        if node.op_type == "PRelu" and not _fits(second, first):
            yield Place(name_of(node), "PRelu whose slope has more or other elements than its input")
        if node.op_type == "MatMul" and len(first) == 1 and any(side != 1 for side in second[:-2]):
            yield Place(name_of(node), f"MatMul of a vector and {len(second)} dimensions")


def _fits(small: Shape, large: Shape) -> bool:
    padded = (1,) * max(len(small) - len(large), 0) + large
    pairs = zip(reversed(small), reversed(padded), strict=False)
    return all(side == 1 or not (isinstance(side, int) and isinstance(of, int)) or side == of for side, of in pairs)


def check_static(graph: Graph, _: Target) -> Iterator[Place]:
    """Find operators that want sizes which are known."""
    for node in _standard(graph):
        shape = graph.shapes.get(node.input[0], ()) if node.input else ()
        sides = shape if node.op_type == "EyeLike" else ()
        if node.op_type == "GatherND" and len(node.input) > 1:
            sides = graph.shapes.get(node.input[1], ())[-1:]
        if node.op_type == "Hardmax" and shape:
            sides = shape[1:] if graph.opset < 13 else (shape[attribute(node, "axis", -1) % len(shape)],)
        if not all(isinstance(side, int) for side in sides):
            yield Place(name_of(node), f"{node.op_type} over sides that are free")


def check_einsum(graph: Graph, _: Target) -> Iterator[Place]:
    """Find equations that TensorRT does not read, and labels with several sizes."""
    for node in _standard(graph):
        equation = attribute(node, "equation", "") if node.op_type == "Einsum" else ""
        if strange := sorted(set(equation) - set("abcdefghijklmnopqrstuvwxyz->., ")):
            yield Place(name_of(node), f"Einsum with {''.join(strange)} in its equation; TensorRT takes a to z")
            continue
        sizes: dict[str, set[int]] = {}
        for term, name in zip(equation.split("->")[0].split(","), node.input, strict=False):
            shape = graph.shapes.get(name, ())
            if "." not in term and len(term.strip()) == len(shape):
                for label, side in zip(term.strip(), shape, strict=True):
                    if isinstance(side, int) and side != 1:
                        sizes.setdefault(label, set()).add(side)
        for label, found in sizes.items():
            if len(found) > 1:
                yield Place(name_of(node), f"Einsum whose label {label} has the sizes {sorted(found)}")


def check_volume(graph: Graph, _: Target) -> Iterator[Place]:
    """Find Reshapes to another number of elements."""
    for node in _standard(graph):
        shapes = [graph.shapes.get(name) for name in (*node.input[:1], *node.output[:1])]
        if node.op_type == "Reshape" and len(shapes) == 2 and shapes[0] is not None and shapes[1] is not None:
            known = all(isinstance(side, int) for shape in shapes for side in shape or ())
            if known and volume(shapes[0]) != volume(shapes[1]):
                yield Place(name_of(node), f"Reshape of {volume(shapes[0])} elements to {volume(shapes[1])}")


def volume(shape: Shape) -> int:
    """Multiply the sides that are known."""
    return int(np.prod([side for side in shape if isinstance(side, int)]))


RULES: Final[dict[str, Rule]] = {
    "max-rank": Rule("error", check_max_rank, f"reshape to at most {MAX_RANK} dimensions"),
    "dimensions": Rule("error", check_dimensions, "reshape its input"),
    "ranks": Rule("error", check_ranks_agree, "reshape its inputs to the same number of dimensions"),
    "shape-operand": Rule("error", check_shape_operand, "export with static shapes, or fold constants (onnxslim)"),
    "resize": Rule("error", check_resize, "resize the last dimensions alone; transpose before and after"),
    "broadcast": Rule("error", check_broadcast, "reshape its inputs so that they fit"),
    "volume": Rule("error", check_volume, "make the file anew"),
    "static": Rule("error", check_static, "export with static shapes"),
    "einsum": Rule("error", check_einsum, "export it as MatMul, or with lower-case labels"),
}
