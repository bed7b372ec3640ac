"""Small graphs over operators, types, ranks, opsets, Q/DQ and control flow, on which the lint is compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import onnx
from onnx import TensorProto, numpy_helper


class Case(NamedTuple):
    """A graph in ONNX text; `float[] y` is an output without a shape, `float y` a scalar."""

    inputs: str
    outputs: str
    body: str
    constants: str = ""
    opset: int = 17
    raw: bool = True  # weights of 4 bits as exporters store them


TYPES: Final = (
    "float", "float16", "bfloat16", "double", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "bool", "string",
)  # fmt: skip
RANKS: Final = {rank: ",".join(["2"] * rank) for rank in range(1, 10)}
UNARY: Final = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp",
    "Floor", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
    "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu", "Not", "Dropout", "BitwiseNot", "Flatten",
    "Transpose", "Clip", "Squeeze", "Size", "Shape", "IsNaN", "IsInf", "NonZero", "ArgMax", "ArgMin", "Gelu", "Swish",
    "EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Trilu", "Unique", "MeanVarianceNormalization",
    "Sum", "Mean", "Max", "Min", "Concat", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Det",
)  # fmt: skip
ATTRIBUTES: Final = {"Concat": "<axis=0>", "MeanVarianceNormalization": "<axes=[0]>"}
MADE: Final = {
    "Size": "int64", "Shape": "int64", "NonZero": "int64", "ArgMax": "int64", "ArgMin": "int64", "IsNaN": "bool",
    "IsInf": "bool", "Equal": "bool", "Greater": "bool", "GreaterOrEqual": "bool", "Less": "bool",
    "LessOrEqual": "bool",
}  # fmt: skip
SINCE: Final = {"Mish": 18, "Gelu": 20, "BitwiseNot": 18, "BitwiseAnd": 18, "Swish": 24, "IsInf": 20}
BINARY: Final = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "PRelu", "MatMul", "BitwiseAnd", "BitShift", "Gather", "Expand", "Reshape",
    "Tile", "GatherND", "GatherElements", "CumSum", "ReverseSequence",
)  # fmt: skip
BINARY_ATTRIBUTES: Final = {"BitShift": '<direction="LEFT">'}
REDUCE: Final = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


def unary_types() -> Iterator[tuple[str, Case]]:
    for op in UNARY:
        for kind in TYPES:
            made, opset = MADE.get(op, kind), SINCE.get(op, 17)
            body = f"y = {op} {ATTRIBUTES.get(op, '')} (x)"
            yield f"{op} {kind}", Case(f"{kind}[2,3] x", f"{made}[] y", body, "", opset)


def unary_ranks() -> Iterator[tuple[str, Case]]:
    for op in UNARY:
        for rank in range(10):
            shape = f"[{RANKS[rank]}]" if rank else ""
            kind = "bool" if op == "Not" else "float"
            body = f"y = {op} {ATTRIBUTES.get(op, '')} (x)"
            yield f"{op} {rank}-D", Case(f"{kind}{shape} x", f"{MADE.get(op, kind)}[] y", body, "", SINCE.get(op, 17))


def binary_types() -> Iterator[tuple[str, Case]]:
    for op in BINARY[:22]:
        for kind in TYPES:
            body = f"y = {op} {BINARY_ATTRIBUTES.get(op, '')} (x, z)"
            case = Case(f"{kind}[2,2] x, {kind}[2,2] z", f"{MADE.get(op, kind)}[] y", body, "", SINCE.get(op, 17))
            yield f"{op} {kind}", case


def binary_ranks() -> Iterator[tuple[str, Case]]:
    for op in BINARY[:20]:
        for left in (0, 1, 2, 3, 8, 9):
            for right in (0, 1, 2, 3, 8, 9):
                a = f"[{RANKS[left]}]" if left else ""
                b = f"[{RANKS[right]}]" if right else ""
                kind = "bool" if op in {"And", "Or", "Xor"} else "float"
                case = Case(f"{kind}{a} x, {kind}{b} z", f"{MADE.get(op, kind)}[] y", f"y = {op}(x, z)")
                yield f"{op} {left}-D {right}-D", case


def reductions() -> Iterator[tuple[str, Case]]:
    for op in REDUCE:
        for kind in TYPES:
            yield f"{op} {kind}", Case(f"{kind}[2,3] x", f"{kind}[] y", f"y = {op}(x)")
        for rank in range(10):
            shape = f"[{RANKS[rank]}]" if rank else ""
            yield f"{op} {rank}-D", Case(f"float{shape} x", "float[] y", f"y = {op}(x)")
        axes = "int64[1] a = {1}"
        yield f"{op} axes 18", Case("float[2,3] x", "float[] y", f"y = {op}(x, a)", axes, 18)
        yield f"{op} axes attribute", Case("float[2,3] x", "float[] y", f"y = {op}<axes=[1]>(x)", "", 11)
        yield f"{op} keepdims 0", Case("float[2,3] x", "float[] y", f"y = {op}<keepdims=0>(x)", "", 17)
        yield f"{op} noop", Case("float[2,3] x", "float[] y", f"y = {op}<noop_with_empty_axes=1>(x)", "", 18)
        yield f"{op} computed axes", Case("float[2,3] x, int64[1] a", "float[] y", f"y = {op}(x, a)", "", 18)
        yield f"{op} neg computed axes", Case("float[2,3] x", "float[] y", f"n = Neg(a) y = {op}(x, n)", axes, 18)
        yield f"{op} dynamic", Case("float[n,3,m] x", "float[] y", f"y = {op}(x, a)", axes, 18)


def opsets() -> Iterator[tuple[str, Case]]:
    for opset in range(6, 26):
        yield f"opset {opset}", Case("float[2,3] x", "float[2,3] y", "y = Sigmoid(x)", "", opset)


def table(rows: dict[str, tuple[str, ...] | tuple[str, str, str, str, int]]) -> Iterator[tuple[str, Case]]:
    for name, row in rows.items():
        yield name, Case(*row)  # type: ignore[arg-type]


HALF: Final = {"float16": 14336, "bfloat16": 16128}  # the bits of 0.5
IMAGE = "float[1,3,8,8] x"
ANY = "float[] y"
W = "float[4,3,3,3] w"
ZEROS = ", ".join(["0"] * 108)
WEIGHT = f"float[4,3,3,3] w = {{{ZEROS}}}"


def convolutions() -> Iterator[tuple[str, Case]]:
    for rank in range(2, 8):
        sides = ",".join(["8"] * (rank - 2))
        shape, kernel = f"1,3,{sides}".rstrip(","), f"4,3,{','.join(['1'] * (rank - 2))}".rstrip(",")
        weight = f"float[{kernel}] w = {{{', '.join(['0'] * 12)}}}"
        yield f"Conv {rank}-D", Case(f"float[{shape}] x", ANY, "y = Conv(x, w)", weight)
        tr = f"float[{kernel.replace('4,3', '3,4', 1)}] w = {{{', '.join(['0'] * 12)}}}"
        yield f"ConvTranspose {rank}-D", Case(f"float[{shape}] x", ANY, "y = ConvTranspose(x, w)", tr)
        twos = ",".join(["2"] * (rank - 2)) or "2"
        for op in ("MaxPool", "AveragePool", "LpPool"):
            yield f"{op} {rank}-D", Case(f"float[{shape}] x", ANY, f"y = {op} <kernel_shape=[{twos}]> (x)")
        yield (
            f"MaxPool dilated {rank}-D",
            Case(f"float[{shape}] x", ANY, f"y = MaxPool <kernel_shape=[{twos}], dilations=[{twos}]> (x)"),
        )
        for op in ("BatchNormalization", "InstanceNormalization"):
            more = ", b, b" if op == "BatchNormalization" else ""
            yield f"{op} {rank}-D", Case(f"float[{shape}] x", ANY, f"y = {op}(x, b, b{more})", "float[3] b = {1,1,1}")
        yield (
            f"GroupNormalization {rank}-D",
            Case(f"float[{shape}] x", ANY, "y = GroupNormalization<num_groups=3>(x, b, b)", "float[3] b = {1,1,1}", 21),
        )
        yield f"LRN {rank}-D", Case(f"float[{shape}] x", ANY, "y = LRN<size=3>(x)")
        yield (
            f"DepthToSpace {rank}-D",
            Case(f"float[{shape.replace('3', '4', 1)}] x", ANY, "y = DepthToSpace<blocksize=2>(x)"),
        )
        yield f"SpaceToDepth {rank}-D", Case(f"float[{shape}] x", ANY, "y = SpaceToDepth<blocksize=2>(x)")
        yield f"GlobalAveragePool {rank}-D", Case(f"float[{shape}] x", ANY, "y = GlobalAveragePool(x)")
        yield (
            f"LayerNormalization {rank}-D",
            Case(
                f"float[{shape}] x",
                ANY,
                "y = LayerNormalization<axis=1>(x, b, b)",
                f"float[{shape[2:]}] b = {{{', '.join(['1'] * 3 * 8 ** (rank - 2))}}}"
                if rank < 5
                else "float[1] b = {1}",
            ),
        )
    yield from table(
        {
            "Conv weights as input": (f"{IMAGE}, {W}", ANY, "y = Conv(x, w)"),
            "Conv weights of unknown shape": (f"{IMAGE}, float[a,b,c,d] w", ANY, "y = Conv(x, w)"),
            "Conv weights partly known": (f"{IMAGE}, float[a,3,3,3] w", ANY, "y = Conv(x, w)"),
            "Conv weights kernel unknown": (f"{IMAGE}, float[4,3,c,d] w", ANY, "y = Conv<kernel_shape=[3,3]>(x, w)"),
            "Conv weights kernel unknown 2": (f"{IMAGE}, float[4,3,c,d] w", ANY, "y = Conv(x, w)"),
            "Conv weights computed": (f"{IMAGE}, {W}", ANY, "v = Sigmoid(w) y = Conv(x, v)"),
            "Conv weights of unknown rank": (f"{IMAGE}, float[] w", ANY, "y = Conv(x, w)"),
            "Conv weights reshaped": (f"{IMAGE}, float[108] w, int64[4] s", ANY, "v = Reshape(w, s) y = Conv(x, v)"),
            "Conv weights constant expression": (IMAGE, ANY, "v = Sigmoid(w) y = Conv(x, v)", WEIGHT),
            "Conv bias as input": (f"{IMAGE}, float[4] b", ANY, "y = Conv(x, w, b)", WEIGHT),
            "Conv bias unknown": (f"{IMAGE}, float[n] b", ANY, "y = Conv(x, w, b)", WEIGHT),
            "Conv bias computed": (f"{IMAGE}, float[4] b", ANY, "c = Sigmoid(b) y = Conv(x, w, c)", WEIGHT),
            "Conv bias 2-D": (f"{IMAGE}, float[1,4] b", ANY, "y = Conv(x, w, b)", WEIGHT),
            "Conv bias wrong": (IMAGE, ANY, "y = Conv(x, w, b)", WEIGHT + ", float[3] b = {1,2,3}"),
            "Conv dynamic image": ("float[n,3,h,w1] x", ANY, "y = Conv<pads=[1,1,1,1]>(x, w)", WEIGHT),
            "Conv dynamic channels": ("float[1,c,8,8] x", ANY, "y = Conv(x, w)", WEIGHT),
            "Conv wrong channels": ("float[1,5,8,8] x", ANY, "y = Conv(x, w)", WEIGHT),
            "Conv group": ("float[1,6,8,8] x", ANY, "y = Conv<group=2>(x, w)", WEIGHT),
            "Conv dilations": (IMAGE, ANY, "y = Conv<dilations=[2,2]>(x, w)", WEIGHT),
            "Conv strides": (IMAGE, ANY, "y = Conv<strides=[2,1]>(x, w)", WEIGHT),
            "Conv same upper": (IMAGE, ANY, 'y = Conv<auto_pad="SAME_UPPER">(x, w)', WEIGHT),
            "Conv same lower": (IMAGE, ANY, 'y = Conv<auto_pad="SAME_LOWER">(x, w)', WEIGHT),
            "Conv same and pads": (IMAGE, ANY, 'y = Conv<auto_pad="SAME_UPPER", pads=[1,1,1,1]>(x, w)', WEIGHT),
            "Conv valid": (IMAGE, ANY, 'y = Conv<auto_pad="VALID">(x, w)', WEIGHT),
            "Conv asymmetric pads": (IMAGE, ANY, "y = Conv<pads=[0,1,2,1]>(x, w)", WEIGHT),
            "Conv negative pads": (IMAGE, ANY, "y = Conv<pads=[-1,-1,0,0]>(x, w)", WEIGHT),
            "Conv kernel_shape wrong": (IMAGE, ANY, "y = Conv<kernel_shape=[2,2]>(x, w)", WEIGHT),
            "Conv kernel too large": ("float[1,3,2,2] x", ANY, "y = Conv(x, w)", WEIGHT),
            "Conv of empty batch": ("float[0,3,8,8] x", ANY, "y = Conv(x, w)", WEIGHT),
            "ConvTranspose output_padding": (
                "float[1,4,8,8] x",
                ANY,
                "y = ConvTranspose<strides=[2,2], output_padding=[1,1]>(x, w)",
                WEIGHT,
            ),
            "ConvTranspose output_shape": (
                "float[1,4,8,8] x",
                ANY,
                "y = ConvTranspose<strides=[2,2], output_shape=[17,17]>(x, w)",
                WEIGHT,
            ),
            "ConvTranspose dilations": ("float[1,4,8,8] x", ANY, "y = ConvTranspose<dilations=[2,2]>(x, w)", WEIGHT),
            "ConvTranspose group": ("float[1,4,8,8] x", ANY, "y = ConvTranspose<group=2>(x, w)", WEIGHT),
            "ConvTranspose same": (
                "float[1,4,8,8] x",
                ANY,
                'y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)',
                WEIGHT,
            ),
            "ConvTranspose weights as input": (f"float[1,4,8,8] x, {W}", ANY, "y = ConvTranspose(x, w)"),
            "ConvTranspose weights unknown": ("float[1,4,8,8] x, float[a,b,c,d] w", ANY, "y = ConvTranspose(x, w)"),
            "ConvTranspose dynamic": ("float[n,4,h,w1] x", ANY, "y = ConvTranspose<strides=[2,2]>(x, w)", WEIGHT),
            "ConvTranspose bias": (
                "float[1,4,8,8] x",
                ANY,
                "y = ConvTranspose(x, w, b)",
                WEIGHT + ", float[3] b = {1,1,1}",
            ),
            "ConvTranspose negative pads": (
                "float[1,4,8,8] x",
                ANY,
                "y = ConvTranspose<pads=[-1,-1,0,0]>(x, w)",
                WEIGHT,
            ),
            "DeformConv": (f"{IMAGE}, float[1,18,6,6] o", ANY, "y = DeformConv(x, w, o)", WEIGHT, 19),
            "DeformConv mask": (
                f"{IMAGE}, float[1,18,6,6] o, float[1,9,6,6] m",
                ANY,
                "y = DeformConv(x, w, o, , m)",
                WEIGHT,
                19,
            ),
            "DeformConv uneven pads": (
                f"{IMAGE}, float[1,18,7,7] o",
                ANY,
                "y = DeformConv<pads=[0,0,1,1]>(x, w, o)",
                WEIGHT,
                19,
            ),
            "MaxPool ceil": (IMAGE, ANY, "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)"),
            "MaxPool storage order": (IMAGE, ANY, "y = MaxPool<kernel_shape=[3,3], storage_order=1>(x)"),
            "MaxPool indices": (IMAGE, ANY, "y, i = MaxPool<kernel_shape=[3,3]>(x)"),
            "MaxPool int8": ("int8[1,3,8,8] x", "int8[] y", "y = MaxPool<kernel_shape=[3,3]>(x)"),
            "MaxPool int32": ("int32[1,3,8,8] x", "int32[] y", "y = MaxPool<kernel_shape=[3,3]>(x)"),
            "AveragePool dilations": (IMAGE, ANY, "y = AveragePool<kernel_shape=[3,3], dilations=[2,2]>(x)", "", 19),
            "AveragePool count_include_pad": (
                IMAGE,
                ANY,
                "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
            ),
            "AveragePool ceil": (IMAGE, ANY, "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)"),
            "AveragePool same": (IMAGE, ANY, 'y = AveragePool<kernel_shape=[3,3], auto_pad="SAME_UPPER">(x)'),
            "LpPool p 3": (IMAGE, ANY, "y = LpPool<kernel_shape=[3,3], p=3>(x)"),
            "LpPool p 1": (IMAGE, ANY, "y = LpPool<kernel_shape=[3,3], p=1>(x)"),
            "LpNormalization p 3": (IMAGE, ANY, "y = LpNormalization<p=3>(x)"),
            "LpNormalization p 1": (IMAGE, ANY, "y = LpNormalization<p=1>(x)"),
            "GlobalLpPool p 3": (IMAGE, ANY, "y = GlobalLpPool<p=3>(x)"),
            "MaxUnpool": (f"{IMAGE}, int64[1,3,8,8] i", ANY, "y = MaxUnpool<kernel_shape=[1,1]>(x, i)"),
            "MaxRoiPool": (f"{IMAGE}, float[2,5] r", ANY, "y = MaxRoiPool<pooled_shape=[2,2]>(x, r)"),
            "RoiAlign": (
                f"{IMAGE}, float[2,4] r, int64[2] i",
                ANY,
                "y = RoiAlign<output_height=2, output_width=2>(x, r, i)",
            ),
            "RoiAlign max": (
                f"{IMAGE}, float[2,4] r, int64[2] i",
                ANY,
                'y = RoiAlign<output_height=2, output_width=2, mode="max">(x, r, i)',
            ),
            "RoiAlign float16": (
                "float16[1,3,8,8] x, float16[2,4] r, int64[2] i",
                "float16[] y",
                "y = RoiAlign<output_height=2, output_width=2>(x, r, i)",
            ),
            "RoiAlign bfloat16": (
                "bfloat16[1,3,8,8] x, bfloat16[2,4] r, int64[2] i",
                "bfloat16[] y",
                "y = RoiAlign<output_height=2, output_width=2>(x, r, i)",
                "",
                22,
            ),
            "BatchNormalization training": (
                IMAGE,
                ANY,
                "y, m, v = BatchNormalization<training_mode=1>(x, b, b, b, b)",
                "float[3] b = {1,1,1}",
            ),
            "BatchNormalization inputs": (f"{IMAGE}, float[3] b", ANY, "y = BatchNormalization(x, b, b, b, b)"),
            "InstanceNormalization inputs": (f"{IMAGE}, float[3] b", ANY, "y = InstanceNormalization(x, b, b)"),
            "LayerNormalization mean": ("float[2,3] x", ANY, "y, m = LayerNormalization(x, b)", "float[3] b = {1,1,1}"),
            "LayerNormalization axis 0": (
                "float[2,3] x",
                ANY,
                "y = LayerNormalization<axis=0>(x, b)",
                "float[2,3] b = {1,1,1,1,1,1}",
            ),
            "LayerNormalization inputs": ("float[2,3] x, float[3] b", ANY, "y = LayerNormalization(x, b)"),
            "LayerNormalization dynamic": ("float[n,3] x, float[3] b", ANY, "y = LayerNormalization(x, b)"),
            "RMSNormalization": ("float[2,3] x", ANY, "y = RMSNormalization(x, b)", "float[3] b = {1,1,1}", 23),
            "GroupNormalization 18": (
                IMAGE,
                ANY,
                "y = GroupNormalization<num_groups=3>(x, b, b)",
                "float[3] b = {1,1,1}",
                18,
            ),
            "Gemm": (
                "float[2,3] x",
                ANY,
                "y = Gemm(x, w, b)",
                "float[3,4] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[4] b = {0,0,0,0}",
            ),
            "Gemm alpha": (
                "float[2,3] x",
                ANY,
                "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)",
                "float[4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[4] b = {0,0,0,0}",
            ),
            "Gemm int32": ("int32[2,3] x, int32[3,2] w", "int32[] y", "y = Gemm(x, w)"),
            "Gemm 3-D": ("float[1,2,3] x, float[3,2] w", ANY, "y = Gemm(x, w)"),
            "Gemm bias scalar": ("float[2,3] x, float[3,2] w, float b", ANY, "y = Gemm(x, w, b)"),
            "Gemm bias 2-D": ("float[2,3] x, float[3,2] w, float[2,1] b", ANY, "y = Gemm(x, w, b)"),
            "Gemm inner unequal": ("float[2,3] x, float[4,2] w", ANY, "y = Gemm(x, w)"),
            "MatMul inner unequal": ("float[2,3] x, float[4,2] w", ANY, "y = MatMul(x, w)"),
            "MatMul batches": ("float[5,2,3] x, float[1,3,2] w", ANY, "y = MatMul(x, w)"),
            "MatMul batches unequal": ("float[5,2,3] x, float[4,3,2] w", ANY, "y = MatMul(x, w)"),
            "MatMul dynamic": ("float[n,3] x, float[3,m] w", ANY, "y = MatMul(x, w)"),
            "MatMul uneven types": ("float16[2,3] x, float[3,2] w", ANY, "y = MatMul(x, w)"),
            "Attention": (
                "float[1,2,4,8] q, float[1,2,4,8] k, float[1,2,4,8] v",
                ANY,
                "y = Attention(q, k, v)",
                "",
                23,
            ),
            "Attention 3-D": (
                "float[1,4,16] q, float[1,4,16] k, float[1,4,16] v",
                ANY,
                "y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v)",
                "",
                23,
            ),
            "Attention causal": (
                "float[1,2,4,8] q, float[1,2,4,8] k, float[1,2,4,8] v",
                ANY,
                "y = Attention<is_causal=1>(q, k, v)",
                "",
                23,
            ),
            "Attention float16": (
                "float16[1,2,4,8] q, float16[1,2,4,8] k, float16[1,2,4,8] v",
                "float16[] y",
                "y = Attention(q, k, v)",
                "",
                23,
            ),
            "Attention mask": (
                "float[1,2,4,8] q, float[1,2,4,8] k, float[1,2,4,8] v, float[4,4] m",
                ANY,
                "y = Attention(q, k, v, m)",
                "",
                23,
            ),
            "LSTM": (
                "float[2,1,3] x",
                ANY,
                "y = LSTM<hidden_size=1>(x, w, r)",
                "float[1,4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[1,4,1] r = {0,0,0,0}",
            ),
            "LSTM layout 1": (
                "float[1,2,3] x",
                ANY,
                "y = LSTM<hidden_size=1, layout=1>(x, w, r)",
                "float[1,4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[1,4,1] r = {0,0,0,0}",
            ),
            "LSTM input_forget": (
                "float[2,1,3] x",
                ANY,
                "y = LSTM<hidden_size=1, input_forget=1>(x, w, r)",
                "float[1,4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[1,4,1] r = {0,0,0,0}",
            ),
            "LSTM reverse": (
                "float[2,1,3] x",
                ANY,
                'y = LSTM<hidden_size=1, direction="reverse">(x, w, r)',
                "float[1,4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[1,4,1] r = {0,0,0,0}",
            ),
            "LSTM clip": (
                "float[2,1,3] x",
                ANY,
                "y = LSTM<hidden_size=1, clip=1.0>(x, w, r)",
                "float[1,4,3] w = {0,0,0,0,0,0,0,0,0,0,0,0}, float[1,4,1] r = {0,0,0,0}",
            ),
            "GRU": (
                "float[2,1,3] x",
                ANY,
                "y = GRU<hidden_size=1>(x, w, r)",
                "float[1,3,3] w = {0,0,0,0,0,0,0,0,0}, float[1,3,1] r = {0,0,0}",
            ),
            "GRU linear_before_reset": (
                "float[2,1,3] x",
                ANY,
                "y = GRU<hidden_size=1, linear_before_reset=1>(x, w, r)",
                "float[1,3,3] w = {0,0,0,0,0,0,0,0,0}, float[1,3,1] r = {0,0,0}",
            ),
            "GRU layout 1": (
                "float[1,2,3] x",
                ANY,
                "y = GRU<hidden_size=1, layout=1>(x, w, r)",
                "float[1,3,3] w = {0,0,0,0,0,0,0,0,0}, float[1,3,1] r = {0,0,0}",
            ),
            "RNN": (
                "float[2,1,3] x",
                ANY,
                "y = RNN<hidden_size=1>(x, w, r)",
                "float[1,1,3] w = {0,0,0}, float[1,1,1] r = {0}",
            ),
            "RNN relu": (
                "float[2,1,3] x",
                ANY,
                'y = RNN<hidden_size=1, activations=["Relu"]>(x, w, r)',
                "float[1,1,3] w = {0,0,0}, float[1,1,1] r = {0}",
            ),
            "LSTM weights input": (
                "float[2,1,3] x, float[1,4,3] w",
                ANY,
                "y = LSTM<hidden_size=1>(x, w, r)",
                "float[1,4,1] r = {0,0,0,0}",
            ),
            "Col2Im": ("float[1,5,5] x", ANY, "y = Col2Im(x, s, b)", "int64[2] s = {5,5}, int64[2] b = {1,5}", 18),
        }
    )


def shapes() -> Iterator[tuple[str, Case]]:
    yield from table({
        "Reshape constant": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int64[1] s = {6}"),
        "Reshape minus one": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int64[2] s = {3,-1}"),
        "Reshape zero": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int64[2] s = {0,-1}"),
        "Reshape allowzero": ("float[2,3] x", ANY, "y = Reshape<allowzero=1>(x, s)", "int64[2] s = {3,2}"),
        "Reshape wrong volume": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int64[1] s = {5}"),
        "Reshape to 9-D": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int64[9] s = {1,1,1,1,1,1,1,2,3}"),
        "Reshape to 9-D and back": ("float[2,3] x", "float[6] y", "a = Reshape(x, s) y = Reshape(a, t)", "int64[9] s = {1,1,1,1,1,1,1,2,3}, int64[1] t = {6}"),
        "Reshape to 8-D": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int64[8] s = {1,1,1,1,1,1,2,3}"),
        "Reduce axes cast": ("float[2,3] x", ANY, "b = Cast<to=7>(a) y = ReduceSum(x, b)", "int32[1] a = {0}"),
        "Reduce axes identity": ("float[2,3] x", ANY, "b = Identity(a) y = ReduceSum(x, b)", "int64[1] a = {0}"),
        "Reduce axes sliced": ("float[2,3] x", ANY, "b = Slice(a, o, t) y = ReduceSum(x, b)", "int64[2] a = {0,1}, int64[1] o = {0}, int64[1] t = {1}"),
        "Reduce axes concat": ("float[2,3] x", ANY, "b = Concat<axis=0>(a, a2) y = ReduceSum(x, b)", "int64[1] a = {0}, int64[1] a2 = {1}"),
        "Reduce axes unsqueezed": ("float[2,3] x", ANY, "b = Unsqueeze(a, a0) y = ReduceSum(x, b)", "int64 a = {1}, int64[1] a0 = {0}"),
        "Reduce axes reshaped": ("float[2,3] x", ANY, "b = Reshape(a, m) y = ReduceSum(x, b)", "int64 a = {1}, int64[1] m = {1}"),
        "Reduce axes add": ("float[2,3] x", ANY, "b = Add(a, a) y = ReduceSum(x, b)", "int64[1] a = {0}"),
        "Reduce axes Range": ("float[2,3] x", ANY, "b = Range(z, t, o) y = ReduceSum(x, b)", "int64 z = {0}, int64 t = {1}, int64 o = {1}"),
        "Reshape input shape unknown length": ("float[2,3] x, int64[n] s", ANY, "y = Reshape(x, s)"),
        "Reshape computed": ("float[n,3] x", ANY, "a = Shape(x) b = Mul(a, t) c = Div(b, t) y = Reshape(x, c)", "int64[1] t = {2}"),
        "Reshape by gathered shape": ("float[n,3,4] x", ANY, "a = Shape(x) b = Gather(a, i) c = Unsqueeze(b, z) d = Concat<axis=0>(c, m) y = Reshape(x, d)", "int64 i = {0}, int64[1] z = {0}, int64[1] m = {-1}"),
        "Reshape int32 shape": ("float[2,3] x", ANY, "y = Reshape(x, s)", "int32[1] s = {6}"),
        "Reshape by data": ("float[2,3] x, float[2] f", ANY, "s = Cast<to=7>(f) y = Reshape(x, s)"),
        "Flatten axis 0": ("float[2,3] x", ANY, "y = Flatten<axis=0>(x)"),
        "Flatten axis 2": ("float[2,3] x", ANY, "y = Flatten<axis=2>(x)"),
        "Flatten axis -1": ("float[2,3,4] x", ANY, "y = Flatten<axis=-1>(x)"),
        "Transpose 9-D middle": ("float[2,3] x", "float[3,2] y", "y = Transpose<perm=[1,0]>(x)"),
        "Squeeze axes": ("float[1,3,1] x", ANY, "y = Squeeze(x, a)", "int64[1] a = {0}"),
        "Squeeze none": ("float[1,3,1] x", ANY, "y = Squeeze(x)"),
        "Squeeze none dynamic": ("float[n,3,1] x", ANY, "y = Squeeze(x)"),
        "Squeeze dynamic axis": ("float[n,3,1] x", ANY, "y = Squeeze(x, a)", "int64[1] a = {0}"),
        "Squeeze wrong": ("float[2,3,1] x", ANY, "y = Squeeze(x, a)", "int64[1] a = {0}"),
        "Squeeze input axes": ("float[1,3,1] x, int64[1] a", ANY, "y = Squeeze(x, a)"),
        "Squeeze 11": ("float[1,3,1] x", ANY, "y = Squeeze<axes=[0]>(x)", "", 11),
        "Unsqueeze axes": ("float[3] x", ANY, "y = Unsqueeze(x, a)", "int64[2] a = {0,-1}"),
        "Unsqueeze duplicate": ("float[3] x", ANY, "y = Unsqueeze(x, a)", "int64[2] a = {0,0}"),
        "Unsqueeze input axes": ("float[3] x, int64[1] a", ANY, "y = Unsqueeze(x, a)"),
        "Unsqueeze to 9-D": ("float[1,1,1,1,1,1,1,3] x", ANY, "y = Unsqueeze(x, a)", "int64[1] a = {0}"),
        "Concat axis": ("float[2,3] x, float[2,4] z", ANY, "y = Concat<axis=1>(x, z)"),
        "Concat negative axis": ("float[2,3] x, float[2,4] z", ANY, "y = Concat<axis=-1>(x, z)"),
        "Concat unequal": ("float[2,3] x, float[3,4] z", ANY, "y = Concat<axis=1>(x, z)"),
        "Concat ranks": ("float[2,3] x, float[3] z", ANY, "y = Concat<axis=0>(x, z)"),
        "Concat scalar": ("float x, float z", ANY, "y = Concat<axis=0>(x, z)"),
        "Concat types": ("float[2] x, float16[2] z", ANY, "y = Concat<axis=0>(x, z)"),
        "Concat int32 int64": ("int32[2] x, int64[2] z", "int64[] y", "y = Concat<axis=0>(x, z)"),
        "Concat empty": ("float[2,3] x, float[0,3] z", ANY, "y = Concat<axis=0>(x, z)"),
        "Split even": ("float[4,2] x", ANY, "y, z = Split(x)"),
        "Split sizes": ("float[4,2] x", ANY, "y, z = Split(x, s)", "int64[2] s = {1,3}"),
        "Split wrong": ("float[4,2] x", ANY, "y, z = Split(x, s)", "int64[2] s = {1,2}"),
        "Split input sizes": ("float[4,2] x, int64[2] s", ANY, "y, z = Split(x, s)"),
        "Split num_outputs": ("float[5,2] x", ANY, "y, z = Split<num_outputs=2>(x)", "", 18),
        "Split dynamic": ("float[n,2] x", ANY, "y, z = Split(x)"),
        "Split 11": ("float[4,2] x", ANY, "y, z = Split<split=[1,3]>(x)", "", 11),
        "Slice": ("float[4,4] x", ANY, "y = Slice(x, s, e, a)", "int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {0}"),
        "Slice step": ("float[4,4] x", ANY, "y = Slice(x, s, e, a, t)", "int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {0}, int64[1] t = {-1}"),
        "Slice step zero": ("float[4,4] x", ANY, "y = Slice(x, s, e, a, t)", "int64[1] s = {0}, int64[1] e = {4}, int64[1] a = {0}, int64[1] t = {0}"),
        "Slice computed axes": ("float[4,4] x", ANY, "b = Neg(a) y = Slice(x, s, e, b)", "int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {1}"),
        "Slice computed axes of shape": ("float[n,4] x", ANY, "c = Shape(x) b = Sub(c, a) d = Slice(b, z, o) y = Slice(x, s, e, d)", "int64[1] s = {1}, int64[1] e = {3}, int64[2] a = {1,3}, int64[1] z = {1}, int64[1] o = {2}"),
        "Slice input starts": ("float[4,4] x, int64[1] s", ANY, "y = Slice(x, s, e, a)", "int64[1] a = {0}, int64[1] e = {3}"),
        "Slice input starts steps": ("float[4,4] x, int64[1] s, int64[1] t", ANY, "y = Slice(x, s, e, a, t)", "int64[1] a = {0}, int64[1] e = {3}"),
        "Slice starts of unknown length": ("float[4,4] x, int64[n] s", ANY, "y = Slice(x, s, s)"),
        "Slice int32": ("float[4,4] x", ANY, "y = Slice(x, s, e, a)", "int32[1] s = {1}, int32[1] e = {3}, int32[1] a = {0}"),
        "Slice 9": ("float[4,4] x", ANY, "y = Slice<starts=[1], ends=[3]>(x)", "", 9),
        "Slice to empty": ("float[4,4] x", ANY, "y = Slice(x, s, e, a)", "int64[1] s = {3}, int64[1] e = {3}, int64[1] a = {0}"),
        "Slice axis out of range": ("float[4,4] x", ANY, "y = Slice(x, s, e, a)", "int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {5}"),
        "Gather": ("float[4,4] x", ANY, "y = Gather(x, i)", "int64[2] i = {0,1}"),
        "Gather scalar": ("float[4,4] x", ANY, "y = Gather<axis=1>(x, i)", "int64 i = {-1}"),
        "Gather input": ("float[4,4] x, int64[2] i", ANY, "y = Gather(x, i)"),
        "Gather int32": ("float[4,4] x, int32[2] i", ANY, "y = Gather(x, i)"),
        "Gather float index": ("float[4,4] x, float[2] i", ANY, "y = Gather(x, i)"),
        "Gather out of range": ("float[4,4] x", ANY, "y = Gather(x, i)", "int64[2] i = {0,9}"),
        "Gather axis out of range": ("float[4,4] x", ANY, "y = Gather<axis=4>(x, i)", "int64[2] i = {0,1}"),
        "Gather of scalar": ("float x", ANY, "y = Gather(x, i)", "int64[2] i = {0,1}"),
        "Gather to 9-D": ("float[2,2,2,2,2] x, int64[2,2,2,2,2] i", ANY, "y = Gather(x, i)"),
        "GatherElements": ("float[4,4] x, int64[2,4] i", ANY, "y = GatherElements(x, i)"),
        "GatherElements ranks": ("float[4,4] x, int64[2] i", ANY, "y = GatherElements(x, i)"),
        "GatherND": ("float[4,4] x, int64[3,2] i", ANY, "y = GatherND(x, i)"),
        "GatherND batch": ("float[3,4,4] x, int64[3,2] i", ANY, "y = GatherND<batch_dims=1>(x, i)"),
        "GatherND dynamic": ("float[4,4] x, int64[3,k] i", ANY, "y = GatherND(x, i)"),
        "GatherND bool": ("bool[4,4] x, int64[3,2] i", "bool[] y", "y = GatherND(x, i)"),
        "ScatterND": ("float[4,4] x, int64[3,1] i, float[3,4] u", ANY, "y = ScatterND(x, i, u)"),
        "ScatterND add": ("float[4,4] x, int64[3,1] i, float[3,4] u", ANY, 'y = ScatterND<reduction="add">(x, i, u)'),
        "ScatterND bool": ("bool[4,4] x, int64[3,1] i, bool[3,4] u", "bool[] y", "y = ScatterND(x, i, u)"),
        "ScatterND int32": ("int32[4,4] x, int64[3,1] i, int32[3,4] u", "int32[] y", "y = ScatterND(x, i, u)"),
        "ScatterElements": ("float[4,4] x, int64[2,4] i, float[2,4] u", ANY, "y = ScatterElements(x, i, u)"),
        "ScatterElements add": ("float[4,4] x, int64[2,4] i, float[2,4] u", ANY, 'y = ScatterElements<reduction="add">(x, i, u)', "", 18),
        "ScatterElements max": ("float[4,4] x, int64[2,4] i, float[2,4] u", ANY, 'y = ScatterElements<reduction="max">(x, i, u)', "", 18),
        "ScatterElements bool": ("bool[4,4] x, int64[2,4] i, bool[2,4] u", "bool[] y", "y = ScatterElements(x, i, u)"),
        "ScatterElements ranks": ("float[4,4] x, int64[4] i, float[4] u", ANY, "y = ScatterElements(x, i, u)"),
        "Expand": ("float[1,3] x", ANY, "y = Expand(x, s)", "int64[2] s = {4,3}"),
        "Expand higher": ("float[3] x", ANY, "y = Expand(x, s)", "int64[3] s = {2,4,3}"),
        "Expand lower": ("float[2,3] x", ANY, "y = Expand(x, s)", "int64[1] s = {1}"),
        "Expand input": ("float[1,3] x, int64[2] s", ANY, "y = Expand(x, s)"),
        "Expand unknown length": ("float[1,3] x, int64[n] s", ANY, "y = Expand(x, s)"),
        "Expand scalar shape": ("float[1,3] x", ANY, "y = Expand(x, s)", "int64 s = {3}"),
        "Expand wrong": ("float[2,3] x", ANY, "y = Expand(x, s)", "int64[2] s = {4,3}"),
        "Expand to 9-D": ("float[3] x", ANY, "y = Expand(x, s)", "int64[9] s = {1,1,1,1,1,1,1,1,3}"),
        "Tile": ("float[2,3] x", ANY, "y = Tile(x, r)", "int64[2] r = {2,1}"),
        "Tile input": ("float[2,3] x, int64[2] r", ANY, "y = Tile(x, r)"),
        "Tile computed": ("float[n,3] x", ANY, "r = Shape(x) y = Tile(x, r)"),
        "Tile wrong length": ("float[2,3] x", ANY, "y = Tile(x, r)", "int64[1] r = {2}"),
        "Tile bool": ("bool[2,3] x", "bool[] y", "y = Tile(x, r)", "int64[2] r = {2,1}"),
        "Pad": ("float[2,3] x", ANY, "y = Pad(x, p)", "int64[4] p = {1,0,0,1}"),
        "Pad value": ("float[2,3] x", ANY, "y = Pad(x, p, v)", "int64[4] p = {1,0,0,1}, float v = {2}"),
        "Pad value input": ("float[2,3] x, float v", ANY, "y = Pad(x, p, v)", "int64[4] p = {1,0,0,1}"),
        "Pad input": ("float[2,3] x, int64[4] p", ANY, "y = Pad(x, p)"),
        "Pad unknown length": ("float[2,3] x, int64[n] p", ANY, "y = Pad(x, p)"),
        "Pad computed": ("float[n,3] x", ANY, "s = Shape(x) p = Concat<axis=0>(s, s) y = Pad(x, p)"),
        "Pad reflect": ("float[2,3] x", ANY, 'y = Pad<mode="reflect">(x, p)', "int64[4] p = {1,0,0,1}"),
        "Pad edge": ("float[2,3] x", ANY, 'y = Pad<mode="edge">(x, p)', "int64[4] p = {1,0,0,1}"),
        "Pad wrap": ("float[2,3] x", ANY, 'y = Pad<mode="wrap">(x, p)', "int64[4] p = {1,0,0,1}", 19),
        "Pad negative": ("float[2,3] x", ANY, "y = Pad(x, p)", "int64[4] p = {-1,0,0,1}"),
        "Pad axes": ("float[2,3] x", ANY, "y = Pad(x, p, , a)", "int64[2] p = {1,1}, int64[1] a = {1}", 18),
        "Pad wrong length": ("float[2,3] x", ANY, "y = Pad(x, p)", "int64[2] p = {1,1}"),
        "Pad bool": ("bool[2,3] x", "bool[] y", "y = Pad(x, p)", "int64[4] p = {1,0,0,1}"),
        "Pad int64": ("int64[2,3] x", "int64[] y", "y = Pad(x, p)", "int64[4] p = {1,0,0,1}"),
        "Pad 10": ("float[2,3] x", ANY, "y = Pad<pads=[1,0,0,1]>(x)", "", 10),
        "Where": ("bool[2,3] c, float[2,3] x, float z", ANY, "y = Where(c, x, z)"),
        "Where types": ("bool[2,3] c, float[2,3] x, float16 z", ANY, "y = Where(c, x, z)"),
        "Where int cond": ("int32[2,3] c, float[2,3] x, float z", ANY, "y = Where(c, x, z)"),
        "Where bool": ("bool[2,3] c, bool[2,3] x, bool[2,3] z", "bool[] y", "y = Where(c, x, z)"),
        "Where broadcast": ("bool[4,1,3] c, float[2,3] x, float[3] z", ANY, "y = Where(c, x, z)"),
        "Range": ("int64 n", "int64[] y", "y = Range(z, n, o)", "int64 z = {0}, int64 o = {1}"),
        "Range constant": ("float[4] x", ANY, "r = Range(z, n, o) y = Mul(x, r)", "float z = {0}, float n = {4}, float o = {1}"),
        "Range float input": ("float n", ANY, "y = Range(z, n, o)", "float z = {0}, float o = {1}"),
        "Range of shape": ("float[n,3] x", "int64[] y", "s = Shape(x) g = Gather(s, z) y = Range(z, g, o)", "int64 z = {0}, int64 o = {1}"),
        "Range step 0": ("int64 n", "int64[] y", "y = Range(z, n, z)", "int64 z = {0}"),
        "Range by data": ("float[3] x", "int64[] y", "s = ReduceSum<keepdims=0>(x) n = Cast<to=7>(s) y = Range(z, n, o)", "int64 z = {0}, int64 o = {1}"),
        "ConstantOfShape": ("float[2,3] x", ANY, "s = Shape(x) y = ConstantOfShape(s)"),
        "ConstantOfShape dynamic": ("float[n,3] x", ANY, "s = Shape(x) y = ConstantOfShape(s)"),
        "ConstantOfShape input": ("int64[2] s", ANY, "y = ConstantOfShape(s)"),
        "ConstantOfShape unknown length": ("int64[n] s", ANY, "y = ConstantOfShape(s)"),
        "ConstantOfShape by data": ("float[2] x", ANY, "s = Cast<to=7>(x) y = ConstantOfShape(s)"),
        "Shape of dynamic": ("float[n,3] x", "int64[2] y", "y = Shape(x)"),
        "Shape slice": ("float[n,3] x", "int64[1] y", "y = Shape<start=1>(x)"),
        "OneHot": ("int64[3] i", ANY, "y = OneHot(i, d, v)", "int64 d = {4}, float[2] v = {0,1}"),
        "OneHot depth input": ("int64[3] i, int64 d", ANY, "y = OneHot(i, d, v)", "float[2] v = {0,1}"),
        "OneHot float index": ("float[3] i", ANY, "y = OneHot(i, d, v)", "int64 d = {4}, float[2] v = {0,1}"),
        "OneHot axis": ("int64[3] i", ANY, "y = OneHot<axis=0>(i, d, v)", "int64[1] d = {4}, float[2] v = {0,1}"),
        "CumSum": ("float[4] x", ANY, "y = CumSum(x, a)", "int64 a = {0}"),
        "CumSum exclusive reverse": ("float[4] x", ANY, "y = CumSum<exclusive=1, reverse=1>(x, a)", "int32 a = {0}"),
        "CumSum axis input": ("float[4] x, int64 a", ANY, "y = CumSum(x, a)"),
        "CumSum int64": ("int64[4] x", "int64[] y", "y = CumSum(x, a)", "int64 a = {0}"),
        "CumSum int32": ("int32[4] x", "int32[] y", "y = CumSum(x, a)", "int64 a = {0}"),
        "CumSum dynamic": ("float[n] x", ANY, "y = CumSum(x, a)", "int64 a = {0}"),
        "Trilu k": ("float[3,3] x", ANY, "y = Trilu<upper=0>(x, k)", "int64 k = {1}"),
        "Trilu k input": ("float[3,3] x, int64 k", ANY, "y = Trilu(x, k)"),
        "EyeLike dynamic": ("float[n,3] x", ANY, "y = EyeLike(x)"),
        "EyeLike int64": ("float[2,3] x", "int64[] y", "y = EyeLike<dtype=7>(x)"),
        "ReverseSequence": ("float[4,2] x", ANY, "y = ReverseSequence<time_axis=0, batch_axis=1>(x, l)", "int64[2] l = {2,3}"),
        "ReverseSequence input": ("float[4,2] x, int64[2] l", ANY, "y = ReverseSequence(x, l)"),
        "Compress": ("float[4] x", ANY, "y = Compress(x, c)", "bool[4] c = {1,0,1,0}"),
        "CenterCropPad": ("float[4] x", ANY, "y = CenterCropPad(x, s)", "int64[1] s = {2}", 18),
        "TopK": ("float[9] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {3}"),
        "TopK axis 0": ("float[9,2] x", ANY, "y, i = TopK<axis=0, largest=0>(x, k)", "int64[1] k = {3}"),
        "TopK unsorted": ("float[9] x", ANY, "y, i = TopK<sorted=0>(x, k)", "int64[1] k = {3}"),
        "TopK k input": ("float[9] x, int64[1] k", ANY, "y, i = TopK(x, k)"),
        "TopK k computed": ("float[n,9] x", ANY, "s = Shape<end=1>(x) y, i = TopK(x, s)"),
        "TopK k by data": ("float[9] x", ANY, "f = ReduceSum<keepdims=1>(x) k = Cast<to=7>(f) y, i = TopK(x, k)"),
        "TopK int32": ("int32[9] x", "int32[] y", "y, i = TopK(x, k)", "int64[1] k = {3}"),
        "TopK int64": ("int64[9] x", "int64[] y", "y, i = TopK(x, k)", "int64[1] k = {3}"),
        "TopK k of all": ("float[9] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {9}"),
        "TopK k beyond": ("float[9] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {10}"),
        "TopK scalar k": ("float[9] x", ANY, "y, i = TopK(x, k)", "int64 k = {3}"),
        "TopK 3839": ("float[9000] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {3839}"),
        "TopK 3840": ("float[9000] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {3840}"),
        "TopK 3841": ("float[9000] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {3841}"),
        "TopK 3-D": ("float[2,3,9] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {3}"),
        "TopK 5-D": ("float[2,2,2,3,9] x", ANY, "y, i = TopK(x, k)", "int64[1] k = {3}"),
        "TopK 9": ("float[9] x", ANY, "y, i = TopK<k=3>(x)", "", 9),
        "TopK indices only": ("float[9] x", "int64[] i", "y, i = TopK(x, k)", "int64[1] k = {3}"),
        "NonMaxSuppression": ("float[1,6,4] b, float[1,2,6] s", "int64[] y", "y = NonMaxSuppression(b, s, m, t)", "int64 m = {3}, float t = {0.5}"),
        "NonMaxSuppression thresholds input": ("float[1,6,4] b, float[1,2,6] s, float t", "int64[] y", "y = NonMaxSuppression(b, s, m, t)", "int64 m = {3}"),
        "NonMaxSuppression max input": ("float[1,6,4] b, float[1,2,6] s, int64 m", "int64[] y", "y = NonMaxSuppression(b, s, m, t)", "float t = {0.5}"),
        "NonMaxSuppression float16": ("float16[1,6,4] b, float16[1,2,6] s", "int64[] y", "y = NonMaxSuppression(b, s, m, t)", "int64 m = {3}, float t = {0.5}"),
        "NonMaxSuppression bare": ("float[1,6,4] b, float[1,2,6] s", "int64[] y", "y = NonMaxSuppression(b, s)"),
        "NonMaxSuppression then Gather": ("float[1,6,4] b, float[1,2,6] s", ANY, "i = NonMaxSuppression(b, s, m, t) g = Gather<axis=1>(i, two) q = Squeeze(b, z) y = Gather(q, g)", "int64 m = {3}, float t = {0.5}, int64 two = {2}, int64[1] z = {0}"),
        "NonMaxSuppression dynamic": ("float[n,6,4] b, float[n,2,6] s", "int64[] y", "y = NonMaxSuppression(b, s, m, t)", "int64 m = {3}, float t = {0.5}"),
        "NonZero then Gather": ("float[4] x", ANY, "i = NonZero(x) y = Gather(x, i)"),
        "NonZero then Transpose GatherND": ("float[4,4] x", ANY, "i = NonZero(x) t = Transpose(i) y = GatherND(x, t)"),
        "Einsum": ("float[2,3] x, float[3,4] z", ANY, 'y = Einsum<equation="ij,jk->ik">(x, z)'),
        "Einsum capitals": ("float[2,3] x, float[3,4] z", ANY, 'y = Einsum<equation="IJ,JK->IK">(x, z)'),
        "Einsum implicit": ("float[2,3] x, float[3,4] z", ANY, 'y = Einsum<equation="ij,jk">(x, z)'),
        "Einsum ellipsis": ("float[5,2,3] x, float[5,3,4] z", ANY, 'y = Einsum<equation="...ij,...jk->...ik">(x, z)'),
        "Einsum diagonal": ("float[3,3] x", ANY, 'y = Einsum<equation="ii->i">(x)'),
        "Einsum trace": ("float[3,3] x", ANY, 'y = Einsum<equation="ii->">(x)'),
        "Einsum three": ("float[2,3] x, float[3,4] z, float[4,5] u", ANY, 'y = Einsum<equation="ij,jk,kl->il">(x, z, u)'),
        "Einsum one": ("float[2,3] x", ANY, 'y = Einsum<equation="ij->ji">(x)'),
        "Einsum int32": ("int32[2,3] x, int32[3,4] z", "int32[] y", 'y = Einsum<equation="ij,jk->ik">(x, z)'),
        "Einsum constant": ("float[2,3] x", ANY, 'y = Einsum<equation="ij,j->i">(x, c)', "float[3] c = {1,2,3}"),
        "Einsum unequal": ("float[2,3] x, float[4,4] z", ANY, 'y = Einsum<equation="ij,jk->ik">(x, z)'),
        "GridSample": (f"{IMAGE}, float[1,4,4,2] g", ANY, "y = GridSample(x, g)", "", 16),
        "GridSample bicubic": (f"{IMAGE}, float[1,4,4,2] g", ANY, 'y = GridSample<mode="bicubic">(x, g)', "", 16),
        "GridSample nearest": (f"{IMAGE}, float[1,4,4,2] g", ANY, 'y = GridSample<mode="nearest", padding_mode="border">(x, g)', "", 16),
        "GridSample reflection": (f"{IMAGE}, float[1,4,4,2] g", ANY, 'y = GridSample<padding_mode="reflection", align_corners=1>(x, g)', "", 16),
        "GridSample linear 20": (f"{IMAGE}, float[1,4,4,2] g", ANY, 'y = GridSample<mode="linear">(x, g)', "", 20),
        "GridSample cubic 20": (f"{IMAGE}, float[1,4,4,2] g", ANY, 'y = GridSample<mode="cubic">(x, g)', "", 20),
        "GridSample 5-D": ("float[1,1,2,2,2] x, float[1,2,2,2,3] g", ANY, "y = GridSample(x, g)", "", 20),
        "GridSample float16": ("float16[1,3,8,8] x, float16[1,4,4,2] g", "float16[] y", "y = GridSample(x, g)", "", 16),
        "GridSample mixed": ("float16[1,3,8,8] x, float[1,4,4,2] g", "float16[] y", "y = GridSample(x, g)", "", 16),
        "GridSample bfloat16": ("bfloat16[1,3,8,8] x, bfloat16[1,4,4,2] g", "bfloat16[] y", "y = GridSample(x, g)", "", 22),
        "GridSample dynamic": ("float[n,3,h,w] x, float[n,4,4,2] g", ANY, "y = GridSample(x, g)", "", 16),
        "AffineGrid": ("float[1,2,3] x", ANY, "y = AffineGrid(x, s)", "int64[4] s = {1,3,8,8}", 20),
        "Clip computed": ("float[4] x, float m", ANY, "y = Clip(x, m)"),
        "Clip both": ("float[4] x", ANY, "y = Clip(x, m, n)", "float m = {0}, float n = {6}"),
        "Clip max only": ("float[4] x", ANY, "y = Clip(x, , n)", "float n = {6}"),
        "Clip 6": ("float[4] x", ANY, "y = Clip<min=0.0, max=6.0>(x)", "", 9),
        "Clip type unlike": ("float16[4] x", "float16[] y", "y = Clip(x, m)", "float m = {0}"),
        "Clip int32": ("int32[4] x", "int32[] y", "y = Clip(x, m)", "int32 m = {0}"),
        "Clip input max int64": ("int64[4] x, int64 m", "int64[] y", "y = Clip(x, , m)"),
        "Mod fmod": ("float[4] x, float[4] z", ANY, "y = Mod<fmod=1>(x, z)"),
        "Mod fmod int": ("int32[4] x, int32[4] z", "int32[] y", "y = Mod<fmod=1>(x, z)"),
        "Dropout training": ("float[4] x", ANY, "y = Dropout(x, r, t)", "float r = {0.5}, bool t = {1}"),
        "Dropout training false": ("float[4] x", ANY, "y = Dropout(x, r, t)", "float r = {0.5}, bool t = {0}"),
        "Dropout training input": ("float[4] x, bool t", ANY, "y = Dropout(x, r, t)", "float r = {0.5}"),
        "Dropout mask": ("float[4] x", ANY, "y, m = Dropout(x)"),
        "PRelu slope": (IMAGE, ANY, "y = PRelu(x, s)", "float[3,1,1] s = {1,2,3}"),
        "PRelu input slope": (f"{IMAGE}, float[3,1,1] s", ANY, "y = PRelu(x, s)"),
        "Pow int exponent": ("float[4] x", ANY, "y = Pow(x, e)", "int64 e = {2}"),
        "Pow float exponent": ("float[4] x", ANY, "y = Pow(x, e)", "float e = {2}"),
        "Pow int base": ("int64[4] x", "int64[] y", "y = Pow(x, e)", "int64 e = {2}"),
        "Pow int base float exponent": ("int32[4] x", "int32[] y", "y = Pow(x, e)", "float e = {2}"),
        "Pow fp16 base float exponent": ("float16[4] x", "float16[] y", "y = Pow(x, e)", "float e = {2}"),
        "Pow input exponent int": ("float[4] x, int64 e", ANY, "y = Pow(x, e)"),
        "CastLike": ("float[4] x, int64 e", "int64[] y", "y = CastLike(x, e)"),
        "Softmax 11": ("float[2,3,4] x", ANY, "y = Softmax<axis=1>(x)", "", 11),
        "Softmax axis 0": ("float[2,3,4] x", ANY, "y = Softmax<axis=0>(x)"),
        "Softmax axis out": ("float[2,3,4] x", ANY, "y = Softmax<axis=3>(x)"),
        "Hardmax dynamic": ("float[n,k] x", ANY, "y = Hardmax(x)"),
        "ArgMax keepdims 0": ("float[n,3] x", "int64[] y", "y = ArgMax<axis=1, keepdims=0>(x)"),
        "ArgMax last index": ("float[2,3] x", "int64[] y", "y = ArgMax<axis=1, select_last_index=1>(x)"),
        "ArgMax axis 0": ("float[2,3] x", "int64[] y", "y = ArgMax<axis=0>(x)"),
        "IsInf detect": ("float[4] x", "bool[] y", "y = IsInf<detect_negative=0>(x)"),
        "Gelu tanh": ("float[4] x", ANY, 'y = Gelu<approximate="tanh">(x)', "", 20),
        "Shrink bias": ("float[4] x", ANY, "y = Shrink<bias=1.0>(x)"),
        "RandomNormal": ("float[4] x", ANY, "r = RandomNormal<shape=[4]>() y = Add(x, r)"),
        "RandomUniform seed": ("float[4] x", ANY, "r = RandomUniform<shape=[4], seed=1.0>() y = Add(x, r)"),
        "Multinomial": ("float[1,4] x", "int32[] y", "y = Multinomial(x)"),
        "HannWindow": ("float[9] x", ANY, "w = HannWindow(n) y = Mul(x, w)", "int64 n = {9}"),
        "HannWindow input": ("int64 n", ANY, "y = HannWindow(n)"),
        "STFT": ("float[1,16,1] x", ANY, "y = STFT(x, s, w)", "int64 s = {4}, float[8] w = {1,1,1,1,1,1,1,1}"),
        "DFT": ("float[1,16,1] x", ANY, "y = DFT(x)"),
        "QLinearMatMul": ("uint8[2,2] x", "uint8[] y", "y = QLinearMatMul(x, s, z, x, s, z, s, z)", "float s = {1}, uint8 z = {0}"),
        "ConvInteger": ("uint8[1,3,8,8] x, uint8[4,3,3,3] w", "int32[] y", "y = ConvInteger(x, w)"),
        "MatMulInteger": ("int8[2,2] x", "int32[] y", "y = MatMulInteger(x, x)"),
        "DynamicQuantizeLinear": ("float[2,2] x", "uint8[] y", "y, s, z = DynamicQuantizeLinear(x)"),
        "Constant float": ("float[4] x", ANY, "c = Constant<value_float=1.0>() y = Add(x, c)"),
        "Constant ints": ("float[4] x", ANY, "c = Constant<value_ints=[2,2]>() y = Reshape(x, c)"),
        "Constant string": ("float[4] x", ANY, 'c = Constant<value_string="a">() y = Relu(x)'),
        "Sequence": ("float[4] x", ANY, "s = SequenceConstruct(x, x) y = SequenceAt(s, i)", "int64 i = {0}"),
        "SplitToSequence": ("float[4] x", ANY, "s = SplitToSequence(x) y = SequenceAt(s, i)", "int64 i = {0}"),
        "Optional": ("float[4] x", ANY, "o = Optional(x) y = OptionalGetElement(o)"),
        "StringNormalizer": ("string[4] x", "string[] y", "y = StringNormalizer(x)"),
        "Upsample": (IMAGE, ANY, "y = Upsample(x, s)", "float[4] s = {1,1,2,2}", 9),
        "Upsample linear": (IMAGE, ANY, 'y = Upsample<mode="linear">(x, s)', "float[4] s = {1,1,2,2}", 9),
        "Scatter": ("float[4,4] x, int64[2,4] i, float[2,4] u", ANY, "y = Scatter(x, i, u)", "", 9),
        "TensorScatter": ("float[1,2,4,3] x, float[1,2,1,3] u", ANY, "y = TensorScatter(x, u)", "", 24),
        "RotaryEmbedding": ("float[1,2,4,8] x, int64[1,4] p", ANY, "y = RotaryEmbedding(x, c, c, p)", "float[4,4] c = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}", 23),
        "Div int": ("int64[4] x", "int64[] y", "y = Div(x, two)", "int64 two = {2}"),
        "Div by zero constant": ("int64[4] x", "int64[] y", "y = Div(x, two)", "int64 two = {0}"),
        "Add broadcast wrong": ("float[2,3] x, float[2] z", ANY, "y = Add(x, z)"),
        "Add broadcast dynamic": ("float[n,3] x, float[m,3] z", ANY, "y = Add(x, z)"),
        "Add empty": ("float[0,3] x", ANY, "y = Add(x, x)"),
        "Add int32 int64": ("int32[2] x, int64[2] z", "int64[] y", "y = Add(x, z)"),
        "Equal int32 int64": ("int32[2] x, int64[2] z", "bool[] y", "y = Equal(x, z)"),
        "Max three": ("float[2] x, float[2] z, float u", ANY, "y = Max(x, z, u)"),
        "Mean three": ("float[2] x, float[2] z, float u", ANY, "y = Mean(x, z, u)"),
        "Mean int": ("int32[2] x, int32[2] z", "int32[] y", "y = Mean(x, z)"),
    })  # fmt: skip


def shape_operands() -> Iterator[tuple[str, Case]]:
    """Shapes, sizes and axes that come from an input, from data, or from another tensor's shape."""
    users = {
        "Reshape": ("y = Reshape(x, s)", 2), "Expand": ("y = Expand(x, s)", 2), "Tile": ("y = Tile(x, s)", 2),
        "ConstantOfShape": ("y = ConstantOfShape(s)", 2), "Pad": ("y = Pad(x, s)", 4), "Split": ("y, v = Split(x, s)", 2),
        "Slice starts": ("y = Slice(x, s, e)", 2), "Slice ends": ("y = Slice(x, b, s)", 2), "Slice axes": ("y = Slice(x, b1, e1, s)", 1),
        "Slice steps": ("y = Slice(x, b, e, a, s)", 2), "TopK": ("y, v = TopK(x, s)", 1), "Unsqueeze": ("y = Unsqueeze(x, s)", 1),
        "Squeeze": ("y = Squeeze(x, s)", 1), "ReduceSum": ("y = ReduceSum(x, s)", 1), "Resize sizes": ('y = Resize<mode="nearest">(x, , , s)', 2),
        "Gather": ("y = Gather(x, s)", 2), "OneHot": ("y = OneHot(a, s, f2)", 1), "CumSum": ("y = CumSum(x, s)", 1),
    }  # fmt: skip
    more = (
        "int64[2] e = {2,2}, int64[2] b = {0,0}, int64[1] b1 = {0}, int64[1] e1 = {2}, int64[2] a = {0,1}, "
        "float[2] f2 = {0,1}, int64[1] one = {1}"
    )
    for name, (use, count) in users.items():
        picked = f"float[2,2] x, float[{count}] f", ANY, f"d, s = TopK(f, k) {use}", f"{more}, int64[1] k = {{{count}}}"
        yield f"{name} by indices", Case(*picked)
        yield f"{name} by Cast of int", Case(f"float[2,2] x, int32[{count}] f", ANY, f"s = Cast<to=7>(f) {use}", more)
        yield f"{name} by data really", Case(f"float[2,2] x, float[{count}] f", ANY, f"s = Cast<to=7>(f) {use}", more)
        yield f"{name} input", Case(f"float[2,2] x, int64[{count}] s", ANY, use, more)
        yield f"{name} int32 input", Case(f"float[2,2] x, int32[{count}] s", ANY, use, more)
        yield f"{name} of unknown length", Case("float[2,2] x, int64[k] s", ANY, use, more)
        yield (
            f"{name} from a shape",
            Case(
                f"float[2,2] x, float[n,{count}] f",
                ANY,
                f"t = Shape(f) u = Gather(t, one) v2 = Mul(u, one) s = Concat<axis=0>({', '.join(['v2'] * count)}) {use}",
                more,
            ),
        )
        yield (
            f"{name} from a free shape",
            Case(
                "float[2,2] x, float[n,2] f",
                ANY,
                f"t = Shape<end=1>(f) s = Concat<axis=0>({', '.join(['t'] * count)}) {use}",
                more,
            ),
        )
    yield from table({
        "Slice int32 with steps": ("float[4,4] x", ANY, "y = Slice(x, s, e, a, t)", "int32[1] s = {1}, int32[1] e = {3}, int32[1] a = {0}, int32[1] t = {1}"),
        "Slice int32 all sides": ("float[4,4] x", ANY, "y = Slice(x, s, e, a)", "int32[2] s = {1,1}, int32[2] e = {3,3}, int32[2] a = {0,1}"),
        "Slice int32 no axes": ("float[4,4] x", ANY, "y = Slice(x, s, e)", "int32[2] s = {1,1}, int32[2] e = {3,3}"),
        "Slice int64 no axes, fewer": ("float[4,4] x", ANY, "y = Slice(x, s, e)", "int64[1] s = {1}, int64[1] e = {3}"),
        "Slice int32 of 1-D": ("float[4] x", ANY, "y = Slice(x, s, e, a)", "int32[1] s = {1}, int32[1] e = {3}, int32[1] a = {0}"),
        "Softmax 1-D opset 11": ("float[4] x", ANY, "y = Softmax<axis=0>(x)", "", 11),
        "Softmax 1-D of free side": ("float[n] x", ANY, "y = Softmax<axis=0>(x)"),
        "output float16 said float": ("float16[2] x", "float[2] y", "y = Relu(x)"),
        "output bool said float": ("float[2] x", "float[2] y", "y = Greater(x, x)"),
        "output int32 said float": ("int32[2] x", "float[2] y", "y = Relu(x)"),
        "output int64 said float": ("int64[2] x", "float[2] y", "y = Relu(x)"),
        "output float said int64": ("float[2] x", "int64[2] y", "y = Relu(x)"),
        "output float said int32": ("float[2] x", "int32[2] y", "y = Relu(x)"),
        "output float said double": ("float[2] x", "double[2] y", "y = Relu(x)"),
        "output float said string": ("float[2] x", "string[2] y", "y = Relu(x)"),
        "output float said int16": ("float[2] x", "int16[2] y", "y = Relu(x)"),
        "output float said uint8": ("float[2] x", "uint8[2] y", "y = Relu(x)"),
        "output float said int8": ("float[2] x", "int8[2] y", "y = Relu(x)"),
        "MatMul 2-D 1-D": ("float[2,3] x, float[3] z", ANY, "y = MatMul(x, z)"),
        "MatMul 3-D 1-D": ("float[4,2,3] x, float[3] z", ANY, "y = MatMul(x, z)"),
        "MatMul 1-D 2-D": ("float[2] x, float[2,3] z", ANY, "y = MatMul(x, z)"),
        "MatMul 1-D 3-D unit": ("float[2] x, float[1,2,3] z", ANY, "y = MatMul(x, z)"),
        "MatMul 1-D 1-D": ("float[2] x, float[2] z", ANY, "y = MatMul(x, z)"),
        "PRelu slope rank higher unit": ("float[3] x", ANY, "y = PRelu(x, s)", "float[1,3] s = {1,2,3}"),
        "PRelu slope wrong": ("float[2,3] x", ANY, "y = PRelu(x, s)", "float[2] s = {1,2}"),
    })  # fmt: skip


def typed() -> Iterator[tuple[str, Case]]:
    """Operators of several inputs on every type."""
    ops = {
        "Conv": ("{T}[1,2,4,4] x, {T}[2,2,1,1] w", "y = Conv(x, w)"), "ConvTranspose": ("{T}[1,2,4,4] x, {T}[2,2,1,1] w", "y = ConvTranspose(x, w)"),
        "MaxPool": ("{T}[1,2,4,4] x", "y = MaxPool<kernel_shape=[2,2]>(x)"), "AveragePool": ("{T}[1,2,4,4] x", "y = AveragePool<kernel_shape=[2,2]>(x)"),
        "LpPool": ("{T}[1,2,4,4] x", "y = LpPool<kernel_shape=[2,2]>(x)"), "GlobalAveragePool": ("{T}[1,2,4,4] x", "y = GlobalAveragePool(x)"),
        "GlobalMaxPool": ("{T}[1,2,4,4] x", "y = GlobalMaxPool(x)"), "GlobalLpPool": ("{T}[1,2,4,4] x", "y = GlobalLpPool(x)"),
        "BatchNormalization": ("{T}[1,2,4,4] x, {T}[2] b", "y = BatchNormalization(x, b, b, b, b)"), "InstanceNormalization": ("{T}[1,2,4,4] x, {T}[2] b", "y = InstanceNormalization(x, b, b)"),
        "LayerNormalization": ("{T}[2,4] x, {T}[4] b", "y = LayerNormalization(x, b, b)"), "GroupNormalization": ("{T}[1,2,4,4] x, {T}[2] b", "y = GroupNormalization<num_groups=2>(x, b, b)"),
        "RMSNormalization": ("{T}[2,4] x, {T}[4] b", "y = RMSNormalization(x, b)"), "LRN": ("{T}[1,2,4,4] x", "y = LRN<size=3>(x)"),
        "Gemm": ("{T}[2,2] x", "y = Gemm(x, x)"), "Einsum": ("{T}[2,2] x", 'y = Einsum<equation="ij,jk->ik">(x, x)'), "DepthToSpace": ("{T}[1,4,4,4] x", "y = DepthToSpace<blocksize=2>(x)"),
        "SpaceToDepth": ("{T}[1,2,4,4] x", "y = SpaceToDepth<blocksize=2>(x)"), "TopK": ("{T}[2,4] x", "y, i = TopK(x, k)"), "OneHot": ("int64[3] i, {T}[2] v", "y = OneHot(i, k, v)"),
        "CumSum": ("{T}[2,4] x", "y = CumSum(x, z)"), "Pad": ("{T}[2,4] x", "y = Pad(x, p)"), "Pad edge": ("{T}[2,4] x", 'y = Pad<mode="edge">(x, p)'), "Pad reflect": ("{T}[2,4] x", 'y = Pad<mode="reflect">(x, p)'),
        "ScatterND": ("{T}[4,4] x, int64[3,1] i, {T}[3,4] u", "y = ScatterND(x, i, u)"), "ScatterElements": ("{T}[4,4] x, int64[2,4] i, {T}[2,4] u", "y = ScatterElements(x, i, u)"),
        "Gather": ("{T}[4,4] x, int64[2] i", "y = Gather(x, i)"), "GatherElements": ("{T}[4,4] x, int64[2,4] i", "y = GatherElements(x, i)"), "GatherND": ("{T}[4,4] x, int64[3,2] i", "y = GatherND(x, i)"),
        "Slice": ("{T}[4,4] x", "y = Slice(x, s, e)"), "Split": ("{T}[4,4] x", "y, v = Split(x)"), "Where": ("bool[4] c, {T}[4] x, {T}[4] u", "y = Where(c, x, u)"), "Expand": ("{T}[1,4] x", "y = Expand(x, e)"),
        "Tile": ("{T}[1,4] x", "y = Tile(x, e)"), "Reshape": ("{T}[2,4] x", "y = Reshape(x, e2)"), "Unsqueeze": ("{T}[2,4] x", "y = Unsqueeze(x, z1)"), "Concat": ("{T}[2,4] x", "y = Concat<axis=0>(x, x)"),
        "Clip bounds": ("{T}[4] x, {T} m", "y = Clip(x, m)"), "GridSample": ("{T}[1,2,4,4] x, {T}[1,4,4,2] g", "y = GridSample(x, g)"), "ReverseSequence": ("{T}[4,2] x, int64[2] l", "y = ReverseSequence(x, l)"),
        "If": ("bool c, {T}[4] x", "y = If(c)<then_branch = t () => ({T}[4] a) {{ a = Identity(x) }}, else_branch = e () => ({T}[4] b) {{ b = Identity(x) }}>"),
        "Loop": ("{T}[4] x, bool c", "y = Loop(k0, c, x)<body = b (int64 i, bool q, {T}[4] v) => (bool q2, {T}[4] w) {{ q2 = Identity(q) w = Identity(v) }}>"),
        "Scan": ("{T}[3,4] x", "y = Scan<num_scan_inputs=1, body = b ({T}[4] v) => ({T}[4] w) {{ w = Identity(v) }}>(x)"),
        "LSTM": ("{T}[2,1,3] x, {T}[1,4,3] w, {T}[1,4,1] r", "y = LSTM<hidden_size=1>(x, w, r)"), "GRU": ("{T}[2,1,3] x, {T}[1,3,3] w, {T}[1,3,1] r", "y = GRU<hidden_size=1>(x, w, r)"), "RNN": ("{T}[2,1,3] x, {T}[1,1,3] w, {T}[1,1,1] r", "y = RNN<hidden_size=1>(x, w, r)"),
        "Range": ("{T} n, {T} d, {T} st", "y = Range(st, n, d)"), "PRelu": ("{T}[2] x, {T}[2] s2", "y = PRelu(x, s2)"), "Trilu": ("{T}[3,3] x", "y = Trilu(x)"),
        "Attention": ("{T}[1,2,4,8] q, {T}[1,2,4,8] kk, {T}[1,2,4,8] v", "y = Attention(q, kk, v)"), "Swish": ("{T}[4] x", "y = Swish(x)"), "Upsample": ("{T}[1,2,4,4] x", "y = Upsample(x, up)"),
    }  # fmt: skip
    opsets = {
        "Conv": 22,
        "GroupNormalization": 21,
        "RMSNormalization": 23,
        "Attention": 23,
        "Swish": 24,
        "GridSample": 22,
        "Upsample": 9,
    }
    more = (
        "int64[1] k = {2}, int64 k0 = {2}, int64 z = {0}, int64[4] p = {1,0,0,1}, int64[2] s = {0,0}, int64[2] e = {2,4}, "
        "int64[2] e2 = {4,2}, int64[1] z1 = {0}, float[4] up = {1,1,2,2}"
    )
    for name, (inputs, body) in ops.items():
        for kind in TYPES[:8] + ("int32", "int64", "bool"):
            if kind not in {"int16", "uint16"}:
                given = inputs.format(T=kind)
                yield (
                    f"{name} of {kind}",
                    Case(
                        given, f"{kind}[] y", body.format(T=kind) if "{{" in body else body, more, opsets.get(name, 17)
                    ),
                )


def casts() -> Iterator[tuple[str, Case]]:
    numbers = {"float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
               "float16": 10, "double": 11, "uint32": 12, "uint64": 13, "bfloat16": 16, "float8e4m3fn": 17,
               "float8e5m2": 19, "uint4": 21, "int4": 22}  # fmt: skip
    for source in ("float", "float16", "bfloat16", "int32", "int64", "bool", "uint8", "int8", "double"):
        for name, number in numbers.items():
            opset = 21 if number > 16 else 17
            yield (
                f"Cast {source} {name} out",
                Case(f"{source}[4] x", f"{name}[] y", f"y = Cast<to={number}>(x)", "", opset),
            )
            yield (
                f"Cast {source} {name} inside",
                Case(f"{source}[4] x", "float[] y", f"a = Cast<to={number}>(x) y = Cast<to=1>(a)", "", opset),
            )
    for name, number in numbers.items():
        if name != "string":
            opset = 21 if number > 16 else 17
            yield (
                f"initializer {name}",
                Case("float[4] x", "float[] y", "a = Cast<to=1>(c) y = Add(x, a)", f"{name}[4] c = {{0,1,0,1}}", opset),
            )
            yield (
                f"passed through {name}",
                Case(f"{name}[4] x, float[4] z", f"{name}[] y, float[] u", "y = Identity(x) u = Relu(z)", "", opset),
            )
            yield f"unused input {name}", Case(f"{name}[4] x, float[4] z", "float[] u", "u = Relu(z)", "", opset)
            yield (
                f"unused initializer {name}",
                Case("float[4] z", "float[] u", "u = Relu(z)", f"{name}[4] c = {{0,1,0,1}}", opset),
            )
            yield (
                f"reshape {name}",
                Case(f"{name}[4] x", f"{name}[] y", "y = Reshape(x, s)", "int64[2] s = {2,2}", opset),
            )
            yield (
                f"constant out {name}",
                Case("float[4] x", f"{name}[4] c, float[] y", "y = Relu(x)", f"{name}[4] c = {{0,1,0,1}}", opset),
            )


def resizes() -> Iterator[tuple[str, Case]]:
    scales = {"1": "2", "2": "1,2", "3": "1,2,2", "3f": "1,1,2", "4": "1,1,2,2", "4c": "1,2,2,2", "4n": "2,2,2,2", "4o": "1,2,1,1",
              "4u": "1,1,1,2", "4one": "1,1,1,1", "5": "1,1,2,2,2", "5two": "1,1,1,2,2", "5four": "1,2,2,2,2", "6": "1,1,1,1,2,2",
              "4front": "2,2,1,1", "4mid": "1,2,2,1", "5lead": "1,2,2,2,1"}  # fmt: skip
    for mode in ("nearest", "linear", "cubic"):
        for name, values in scales.items():
            rank = int(name[0])
            shape = ",".join(["4"] * rank)
            yield (
                f"Resize {mode} {name}",
                Case(f"float[{shape}] x", ANY, f'y = Resize<mode="{mode}">(x, , s)', f"float[{rank}] s = {{{values}}}"),
            )
        yield (
            f"Resize {mode} sizes",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}">(x, , , t)', "int64[4] t = {1,3,16,16}"),
        )
        yield f"Resize {mode} sizes input", Case(f"{IMAGE}, int64[4] t", ANY, f'y = Resize<mode="{mode}">(x, , , t)')
        yield f"Resize {mode} scales input", Case(f"{IMAGE}, float[4] s", ANY, f'y = Resize<mode="{mode}">(x, , s)')
        yield (
            f"Resize {mode} sizes computed",
            Case(
                "float[1,3,h,w] x",
                ANY,
                f's = Shape(x) t = Mul(s, two) y = Resize<mode="{mode}">(x, , , t)',
                "int64[4] two = {1,1,2,2}",
            ),
        )
        yield (
            f"Resize {mode} sizes concat",
            Case(
                "float[n,3,h,w] x",
                ANY,
                f's = Shape<end=2>(x) t = Concat<axis=0>(s, o) y = Resize<mode="{mode}">(x, , , t)',
                "int64[2] o = {16,16}",
            ),
        )
        yield (
            f"Resize {mode} dynamic",
            Case("float[n,3,h,w] x", ANY, f'y = Resize<mode="{mode}">(x, , s)', "float[4] s = {1,1,2,2}"),
        )
        yield (
            f"Resize {mode} axes",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}", axes=[2,3]>(x, , s)', "float[2] s = {2,2}", 18),
        )
        yield (
            f"Resize {mode} axes sizes",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}", axes=[2,3]>(x, , , t)', "int64[2] t = {16,16}", 18),
        )
        yield (
            f"Resize {mode} axes channel",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}", axes=[1]>(x, , s)', "float[1] s = {2}", 18),
        )
        yield (
            f"Resize {mode} down",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}">(x, , s)', "float[4] s = {1,1,0.5,0.5}"),
        )
        yield (
            f"Resize {mode} antialias",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}", antialias=1>(x, , s)', "float[4] s = {1,1,0.5,0.5}", 18),
        )
        yield (
            f"Resize {mode} exclude_outside",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}", exclude_outside=1>(x, , s)', "float[4] s = {1,1,2,2}"),
        )
        yield (
            f"Resize {mode} not_larger",
            Case(
                IMAGE,
                ANY,
                f'y = Resize<mode="{mode}", keep_aspect_ratio_policy="not_larger">(x, , , t)',
                "int64[4] t = {1,3,16,16}",
                18,
            ),
        )
        yield f"Resize {mode} 10", Case(IMAGE, ANY, f'y = Resize<mode="{mode}">(x, s)', "float[4] s = {1,1,2,2}", 10)
        yield (
            f"Resize {mode} 11",
            Case(IMAGE, ANY, f'y = Resize<mode="{mode}">(x, r, s)', "float[0] r = {}, float[4] s = {1,1,2,2}", 11),
        )
        for kind in ("float16", "bfloat16", "int32", "int64", "int8", "uint8", "bool"):
            yield (
                f"Resize {mode} {kind}",
                Case(
                    f"{kind}[1,3,8,8] x", f"{kind}[] y", f'y = Resize<mode="{mode}">(x, , s)', "float[4] s = {1,1,2,2}"
                ),
            )
        for transform in (
            "half_pixel",
            "pytorch_half_pixel",
            "tf_half_pixel_for_nn",
            "asymmetric",
            "align_corners",
            "tf_crop_and_resize",
            "half_pixel_symmetric",
        ):
            opset = 19 if transform == "half_pixel_symmetric" else 11 if transform == "tf_half_pixel_for_nn" else 17
            roi = "r" if transform == "tf_crop_and_resize" else "r" if opset == 11 else ""
            box = ", float[8] r = {0,0,0,0,1,1,1,1}"
            yield (
                f"Resize {mode} {transform}",
                Case(
                    IMAGE,
                    ANY,
                    f'y = Resize<mode="{mode}", coordinate_transformation_mode="{transform}">(x, {roi}, s)',
                    "float[4] s = {1,1,2,2}" + (box if roi else ""),
                    opset,
                ),
            )
    for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for transform in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            yield (
                f"Resize nearest {nearest} {transform}",
                Case(
                    IMAGE,
                    ANY,
                    f'y = Resize<mode="nearest", nearest_mode="{nearest}", coordinate_transformation_mode="{transform}">(x, , s)',
                    "float[4] s = {1,1,2,2}",
                ),
            )
    for a in ("-0.5", "-0.75", "0.0"):
        yield (
            f"Resize cubic coefficient {a}",
            Case(IMAGE, ANY, f'y = Resize<mode="cubic", cubic_coeff_a={a}>(x, , s)', "float[4] s = {1,1,2,2}"),
        )


def quantization() -> Iterator[tuple[str, Case]]:
    qdq = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    relu = "a = Relu(x) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Sigmoid(d)"
    half = "float s = {0.5}"
    for kind, opset in {
        "int8": 17,
        "uint8": 17,
        "int16": 21,
        "uint16": 21,
        "int4": 21,
        "uint4": 21,
        "float8e4m3fn": 19,
        "float8e5m2": 19,
        "float8e4m3fnuz": 19,
        "float4e2m1": 23,
    }.items():
        for value in ("0", "1"):
            yield f"QDQ {kind} zero {value}", Case(IMAGE, ANY, qdq, f"{half}, {kind} z = {{{value}}}", opset)
        yield f"QDQ inside {kind}", Case(IMAGE, ANY, relu, f"{half}, {kind} z = {{0}}", opset)
        yield (
            f"Q only {kind}",
            Case(IMAGE, f"{kind}[] y", "y = QuantizeLinear(x, s, z)", f"{half}, {kind} z = {{0}}", opset),
        )
        yield (
            f"DQ only {kind}",
            Case(f"{kind}[1,3,8,8] x", ANY, "y = DequantizeLinear(x, s, z)", f"{half}, {kind} z = {{0}}", opset),
        )
        yield (
            f"DQ only, no zero point {kind}",
            Case(f"{kind}[1,3,8,8] x", ANY, "y = DequantizeLinear(x, s)", half, opset),
        )
        yield (
            f"DQ weights {kind}",
            Case(
                IMAGE,
                ANY,
                "f = DequantizeLinear(w, s, z) y = Conv(x, f)",
                f"{kind}[2,3,1,2] w = {{1,0,1,0,1,0,1,0,1,0,1,0}}, {half}, {kind} z = {{0}}",
                opset,
            ),
        )
        for real, bits in HALF.items():
            yield (
                f"QDQ {kind} of {real}",
                Case(
                    f"{real}[1,3,8,8] x", f"{real}[] y", qdq, f"{real} s = {{{bits}}}, {kind} z = {{0}}", max(opset, 19)
                ),
            )
    for axis in (-4, -3, -1, 0, 1, 2, 3, 4):
        for op in ("Conv", "ConvTranspose"):
            yield (
                f"DQ {op} weights axis {axis}",
                Case(
                    "float[1,2,8,8] x",
                    ANY,
                    f"f = DequantizeLinear<axis={axis}>(w, s, z) y = {op}(x, f)",
                    f"int8[2,2,2,2] w = {{{','.join('1' * 16)}}}, float[2] s = {{0.5,0.5}}, int8[2] z = {{0,0}}",
                ),
            )
            yield (
                f"QDQ {op} float weights axis {axis}",
                Case(
                    "float[1,2,8,8] x",
                    ANY,
                    f"q = QuantizeLinear<axis={axis}>(w, s, z) f = DequantizeLinear<axis={axis}>(q, s, z) y = {op}(x, f)",
                    f"float[2,2,2,2] w = {{{','.join('1' * 16)}}}, float[2] s = {{0.5,0.5}}, int8[2] z = {{0,0}}",
                ),
            )
    for axis in (0, 1, -1, -2):
        ones = "1,1,1,1,1,1,1,1,1"
        yield (
            f"DQ MatMul weights axis {axis}",
            Case(
                "float[2,3] x",
                ANY,
                f"f = DequantizeLinear<axis={axis}>(w, s, z) y = MatMul(x, f)",
                f"int8[3,3] w = {{{ones}}}, float[3] s = {{1,1,1}}, int8[3] z = {{0,0,0}}",
            ),
        )
        for trans in (0, 1):
            yield (
                f"DQ Gemm {trans} weights axis {axis}",
                Case(
                    "float[2,3] x",
                    ANY,
                    f"f = DequantizeLinear<axis={axis}>(w, s, z) y = Gemm<transB={trans}>(x, f)",
                    f"int8[3,3] w = {{{ones}}}, float[3] s = {{1,1,1}}, int8[3] z = {{0,0,0}}",
                ),
            )
        yield (
            f"DQ weights then Transpose axis {axis}",
            Case(
                "float[2,3] x",
                ANY,
                f"f = DequantizeLinear<axis={axis}>(w, s, z) t = Transpose(f) y = MatMul(x, t)",
                f"int8[3,3] w = {{{ones}}}, float[3] s = {{1,1,1}}, int8[3] z = {{0,0,0}}",
            ),
        )
        yield (
            f"DQ weights Add axis {axis}",
            Case(
                "float[3,3] x",
                ANY,
                f"f = DequantizeLinear<axis={axis}>(w, s, z) y = Add(x, f)",
                f"int8[3,3] w = {{{ones}}}, float[3] s = {{1,1,1}}, int8[3] z = {{0,0,0}}",
            ),
        )
    three = "float[3] s = {0.5,0.5,0.5}, int8[3] z = {0,0,0}"
    for axis in (-3, 0, 1, 2, 3):
        yield (
            f"QDQ activation axis {axis}",
            Case(
                "float[3,3,3,3] x",
                ANY,
                f"q = QuantizeLinear<axis={axis}>(x, s, z) y = DequantizeLinear<axis={axis}>(q, s, z)",
                three,
            ),
        )
    cw = f"int8[4,3,3,3] w = {{{ZEROS}}}, float[4] ws = {{1,1,1,1}}, int8[4] wz = {{0,0,0,0}}, float s = {{0.5}}, int8 z = {{0}}"
    conv = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) f = DequantizeLinear<axis=0>(w, ws, wz)"
    yield from table({
        "QDQ per channel, wrong count": ("float[1,4,3,3] x", ANY, "q = QuantizeLinear<axis=1>(x, s, z) y = DequantizeLinear<axis=1>(q, s, z)", three),
        "QDQ per channel, dynamic batch": ("float[n,3,3,3] x", ANY, "q = QuantizeLinear<axis=1>(x, s, z) y = DequantizeLinear<axis=1>(q, s, z)", three),
        "QDQ per channel, dynamic axis": ("float[1,c,3,3] x", ANY, "q = QuantizeLinear<axis=1>(x, s, z) y = DequantizeLinear<axis=1>(q, s, z)", three),
        "QDQ one scale as 1-D": (IMAGE, ANY, qdq, "float[1] s = {0.5}, int8[1] z = {0}"),
        "QDQ scale 1-D, zero point scalar": (IMAGE, ANY, qdq, "float[1] s = {0.5}, int8 z = {0}"),
        "QDQ scale scalar, zero point of 3": (IMAGE, ANY, qdq, "float s = {0.5}, int8[3] z = {0,0,0}"),
        "QDQ no zero point": (IMAGE, ANY, "q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", half),
        "QDQ empty zero point": (IMAGE, ANY, "q = QuantizeLinear(x, s, ) y = DequantizeLinear(q, s, )", half),
        "QDQ no zero point, output_dtype int8": (IMAGE, ANY, "q = QuantizeLinear<output_dtype=3>(x, s) y = DequantizeLinear(q, s)", half, 21),
        "QDQ no zero point, output_dtype uint8": (IMAGE, ANY, "q = QuantizeLinear<output_dtype=2>(x, s) y = DequantizeLinear(q, s)", half, 21),
        "QDQ no zero point, output_dtype fp8": (IMAGE, ANY, "q = QuantizeLinear<output_dtype=17>(x, s) y = DequantizeLinear(q, s)", half, 21),
        "Q without zero point alone": (IMAGE, "uint8[] y", "y = QuantizeLinear(x, s)", half),
        "Q with, DQ without zero point": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s)", half + ", int8 z = {0}"),
        "QDQ scale input": (f"{IMAGE}, float s", ANY, qdq, "int8 z = {0}"),
        "QDQ scale input dynamic": (f"{IMAGE}, float[n] s", ANY, qdq, "int8 z = {0}"),
        "DQ scale input": ("int8[1,3,8,8] x, float s", ANY, "y = DequantizeLinear(x, s, z)", "int8 z = {0}"),
        "QDQ scale computed of data": (IMAGE, ANY, "m = ReduceMax<keepdims=0>(x) q = QuantizeLinear(x, m, z) y = DequantizeLinear(q, m, z)", "int8 z = {0}"),
        "QDQ scale computed of constants": (IMAGE, ANY, "s = Mul(a, a) " + qdq, "float a = {0.5}, int8 z = {0}"),
        "QDQ scale cast": (IMAGE, ANY, "s = Cast<to=1>(a) " + qdq, "float16 a = {14336}, int8 z = {0}"),
        "QDQ scale by Identity": (IMAGE, ANY, "s = Identity(a) " + qdq, "float a = {0.5}, int8 z = {0}"),
        "QDQ scale zero": (IMAGE, ANY, qdq, "float s = {0}, int8 z = {0}"),
        "QDQ scale negative": (IMAGE, ANY, qdq, "float s = {-1}, int8 z = {0}"),
        "QDQ scale computed zero": (IMAGE, ANY, "s = Sub(a, a) " + qdq, "float a = {0.5}, int8 z = {0}"),
        "QDQ scale tiny": (IMAGE, ANY, qdq, "float s = {1e-30}, int8 z = {0}"),
        "QDQ zero point input": (f"{IMAGE}, int8 z", ANY, qdq, half),
        "QDQ zero point computed": (IMAGE, ANY, "z = Cast<to=3>(a) " + qdq, half + ", float a = {0}"),
        "QDQ zero point of Constant": (IMAGE, ANY, "z = Constant<value=int8 {0}>() " + qdq, half),
        "QDQ zero point Constant 3": (IMAGE, ANY, "z = Constant<value=int8 {3}>() " + qdq, half),
        "QDQ twice": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) r = QuantizeLinear(d, s, z) y = DequantizeLinear(r, s, z)", half + ", int8 z = {0}"),
        "QDQ different scales": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, t, z)", half + ", float t = {0.25}, int8 z = {0}"),
        "Q Relu DQ": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) r = Relu(q) y = DequantizeLinear(r, s, z)", half + ", int8 z = {0}"),
        "Q Reshape DQ": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) r = Reshape(q, h) y = DequantizeLinear(r, s, z)", half + ", int8 z = {0}, int64[1] h = {192}"),
        "Q Transpose DQ": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) r = Transpose(q) y = DequantizeLinear(r, s, z)", half + ", int8 z = {0}"),
        "Q MaxPool DQ": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) r = MaxPool<kernel_shape=[2,2]>(q) y = DequantizeLinear(r, s, z)", half + ", int8 z = {0}"),
        "Q Concat DQ": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) r = Concat<axis=1>(q, q) y = DequantizeLinear(r, s, z)", half + ", int8 z = {0}"),
        "Q DQ to two": (IMAGE, "float[] y, float[] v", "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(q, s, z) y = Relu(d) v = Sigmoid(e)", half + ", int8 z = {0}"),
        "Q DQ, Q as output": (IMAGE, "float[] y, int8[] q", "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", half + ", int8 z = {0}"),
        "Conv int8": (IMAGE, ANY, conv + " y = Conv(d, f)", cw),
        "Conv int8 bias float": (IMAGE, ANY, conv + " y = Conv(d, f, b)", cw + ", float[4] b = {1,1,1,1}"),
        "Conv int8 bias int32": (IMAGE, ANY, conv + " b = DequantizeLinear(bq, bs) y = Conv(d, f, b)", cw + ", int32[4] bq = {1,1,1,1}, float bs = {0.5}"),
        "Conv int8 bias int32 zero point": (IMAGE, ANY, conv + " b = DequantizeLinear(bq, bs, bz) y = Conv(d, f, b)", cw + ", int32[4] bq = {1,1,1,1}, float bs = {0.5}, int32 bz = {0}"),
        "Conv int8 output quantized": (IMAGE, ANY, conv + " c = Conv(d, f) p = QuantizeLinear(c, s, z) y = DequantizeLinear(p, s, z)", cw),
        "Conv int8 without weights' zero point": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) f = DequantizeLinear<axis=0>(w, ws) y = Conv(d, f)", cw),
        "Conv weights only": (IMAGE, ANY, "f = DequantizeLinear<axis=0>(w, ws, wz) y = Conv(x, f)", cw),
        "Conv activations only": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Conv(d, v)", f"{half}, int8 z = {{0}}, float[4,3,3,3] v = {{{ZEROS}}}"),
        "Conv weights quantised by Q at run time": (f"{IMAGE}, {W}", ANY, "wq = QuantizeLinear(w, s, z) f = DequantizeLinear(wq, s, z) y = Conv(x, f)", half + ", int8 z = {0}"),
        "residual": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) a = Relu(d) b = QuantizeLinear(a, s, z) c = DequantizeLinear(b, s, z) y = Add(c, d)", half + ", int8 z = {0}"),
        "QDQ 0-D": ("float x", ANY, qdq, half + ", int8 z = {0}"),
        "QDQ 1-D": ("float[3] x", ANY, qdq, half + ", int8 z = {0}"),
        "QDQ 8-D": ("float[2,2,2,2,2,2,2,2] x", ANY, qdq, half + ", int8 z = {0}"),
        "QDQ of int32": ("int32[3] x", ANY, qdq, half + ", int8 z = {0}"),
        "QDQ of double": ("double[3] x", ANY, qdq, half + ", int8 z = {0}"),
        "QDQ fp16 data, float scale": ("float16[3] x", ANY, qdq, half + ", int8 z = {0}", 23),
        "QDQ float data, fp16 scale": ("float[3] x", ANY, qdq, "float16 s = {14336}, int8 z = {0}", 23),
        "DQ output_dtype fp16": ("int8[3] x", "float16[] y", "y = DequantizeLinear<output_dtype=10>(x, s, z)", half + ", int8 z = {0}", 23),
        "blocked int4 weights": ("float[2,4] x", ANY, "f = DequantizeLinear<axis=0, block_size=2>(w, s, z) y = MatMul(x, f)", "int4[4,2] w = {1,1,1,1,1,1,1,1}, float[2,2] s = {1,1,1,1}, int4[2,2] z = {0,0,0,0}", 21),
        "blocked int4 weights, no zero point": ("float[2,4] x", ANY, "f = DequantizeLinear<axis=0, block_size=2>(w, s) y = MatMul(x, f)", "int4[4,2] w = {1,1,1,1,1,1,1,1}, float[2,2] s = {1,1,1,1}", 21),
        "blocked int8 weights": ("float[2,4] x", ANY, "f = DequantizeLinear<axis=0, block_size=2>(w, s) y = MatMul(x, f)", "int8[4,2] w = {1,1,1,1,1,1,1,1}, float[2,2] s = {1,1,1,1}", 21),
        "blocked fp8 weights": ("float[2,4] x", ANY, "f = DequantizeLinear<axis=0, block_size=2>(w, s) y = MatMul(x, f)", "float8e4m3fn[4,2] w = {1,1,1,1,1,1,1,1}, float[2,2] s = {1,1,1,1}", 21),
        "blocked int4 activations": ("float[4,4] x", ANY, "q = QuantizeLinear<axis=1, block_size=2, output_dtype=22>(x, s) y = DequantizeLinear<axis=1, block_size=2>(q, s)", "float[4,2] s = {1,1,1,1,1,1,1,1}", 21),
        "int4 per tensor": ("float[2,4] x", ANY, "f = DequantizeLinear(w, s) y = MatMul(x, f)", "int4[4,2] w = {1,1,1,1,1,1,1,1}, float s = {1}", 21),
        "int4 not raw": ("float[2,4] x", ANY, "f = DequantizeLinear(w, s) y = MatMul(x, f)", "int4[4,2] w = {1,1,1,1,1,1,1,1}, float s = {1}", 21, False),
        "int4 odd side": ("float[2,2] x", ANY, "f = DequantizeLinear(w, s) y = MatMul(x, f)", "int4[2,3] w = {1,1,1,1,1,1}, float s = {1}", 21),
        "int4 per channel": ("float[2,4] x", ANY, "f = DequantizeLinear<axis=1>(w, s) y = MatMul(x, f)", "int4[4,2] w = {1,1,1,1,1,1,1,1}, float[2] s = {1,1}", 21),
        "int32 DQ alone": ("int32[4] x", ANY, "y = DequantizeLinear(x, s)", half),
        "fp8 Conv": (IMAGE, ANY, "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) f = DequantizeLinear(w, s, z) y = Conv(d, f)", f"float8e4m3fn[4,3,3,3] w = {{{ZEROS}}}, {half}, float8e4m3fn z = {{0}}", 19),
        "fp8 MatMul": ("float[4,16] x", ANY, "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) f = DequantizeLinear(w, s, z) y = MatMul(d, f)", f"float8e4m3fn[16,1] w = {{{','.join('0' * 16)}}}, {half}, float8e4m3fn z = {{0}}", 19),
        "scale of 4 weights, given 3": (IMAGE, ANY, "f = DequantizeLinear<axis=0>(w, ws, wz) y = Conv(x, f)", f"int8[4,3,3,3] w = {{{ZEROS}}}, float[3] ws = {{1,1,1}}, int8[3] wz = {{0,0,0}}"),
        "Q opset 10": (IMAGE, ANY, qdq, half + ", int8 z = {0}", 10),
        "Q opset 13": (IMAGE, ANY, qdq, half + ", int8 z = {0}", 13),
        "com.microsoft Q": (IMAGE, ANY, "q = com.microsoft.QuantizeLinear(x, s, z) y = com.microsoft.DequantizeLinear(q, s, z)", half + ", int8 z = {0}"),
        "com.microsoft Gelu": (IMAGE, ANY, "y = com.microsoft.Gelu(x)"),
        "mine Relu": (IMAGE, ANY, "y = mine.Relu(x)"),
        "mine Wave": (IMAGE, ANY, "y = mine.Wave(x)"),
        "trt EfficientNMS": ("float[1,9,4] b, float[1,9,2] s", "int32[] n", "n, a, c, d = trt.EfficientNMS_TRT(b, s)"),
        "unknown op of no domain": (IMAGE, ANY, "y = EfficientNMS_TRT(x)"),
        "unknown op": (IMAGE, ANY, "y = Wave(x)"),
    })  # fmt: skip


def branch(
    then: str, other: str, kinds: tuple[str, str] = ("float", "float"), shapes: tuple[str, str] = ("[4]", "[4]")
) -> str:
    return (
        f"then_branch = t () => ({kinds[0]}{shapes[0]} a) {{ {then} }}, "
        f"else_branch = e () => ({kinds[1]}{shapes[1]} b) {{ {other} }}"
    )


def control_flow() -> Iterator[tuple[str, Case]]:
    for place, (inputs, constants) in {
        "constant": ("", "bool c = {1}, "),
        "input": ("bool c, ", ""),
        "1-D": ("bool[1] c, ", ""),
    }.items():
        base = f"{inputs}float[4] x"
        extra = constants + "int64[2] s = {2,2}, int64[1] h = {0}, int64[1] g = {2}, int64[1] z = {0}"
        yield f"If {place} same", Case(base, ANY, f"y = If(c)<{branch('a = Relu(x)', 'b = Abs(x)')}>", extra)
        yield (
            f"If {place} same names",
            Case(
                base,
                ANY,
                f"y = If(c)<{branch('a = Relu(x)', 'b = Abs(x)').replace('float[4] b', 'float[4] a').replace('b =', 'a =')}>",
                extra,
            ),
        )
        yield (
            f"If {place} ranks",
            Case(base, ANY, f"y = If(c)<{branch('a = Reshape(x, s)', 'b = Abs(x)', shapes=('[2,2]', '[4]'))}>", extra),
        )
        yield (
            f"If {place} ranks unsaid",
            Case(base, ANY, f"y = If(c)<{branch('a = Reshape(x, s)', 'b = Abs(x)', shapes=('[]', '[]'))}>", extra),
        )
        yield (
            f"If {place} shapes",
            Case(base, ANY, f"y = If(c)<{branch('a = Slice(x, h, g)', 'b = Abs(x)', shapes=('[2]', '[4]'))}>", extra),
        )
        yield (
            f"If {place} types",
            Case(base, ANY, f"y = If(c)<{branch('a = Cast<to=10>(x)', 'b = Abs(x)', ('float16', 'float'))}>", extra),
        )
        yield f"If {place} passes", Case(base, ANY, f"y = If(c)<{branch('a = Identity(x)', 'b = Identity(x)')}>", extra)
        yield (
            f"If {place} constant branches",
            Case(
                base,
                ANY,
                f"k = If(c)<{branch('a = Constant<value_floats=[1.0,2.0,3.0,4.0]>()', 'b = Constant<value_floats=[0.0,2.0,3.0,4.0]>()')}> y = Add(x, k)",
                extra,
            ),
        )
        yield (
            f"If {place} squeeze of exporters",
            Case(
                f"{inputs}float[1,4] x",
                ANY,
                f"y = If(c)<{branch('a = Squeeze(x, z)', 'b = Identity(x)', shapes=('[4]', '[1,4]'))}>",
                extra,
            ),
        )
        yield (
            f"If {place} det inside",
            Case(f"{inputs}float[4,2,2] x", ANY, f"y = If(c)<{branch('a = Det(x)', 'b = Det(x)')}>", extra),
        )
        yield (
            f"If {place} two outputs",
            Case(
                base,
                "float[] y, float[] v",
                "y, v = If(c)<then_branch = t () => (float[4] a, float[4] d) { a = Relu(x) d = Abs(x) }, else_branch = e () => (float[4] b, float[4] k) { b = Abs(x) k = Relu(x) }>",
                extra,
            ),
        )
        yield (
            f"If {place} uneven outputs",
            Case(
                base,
                "float[] y, float[] v",
                "y, v = If(c)<then_branch = t () => (float[4] a, float[4] d) { a = Relu(x) d = Abs(x) }, else_branch = e () => (float[4] b) { b = Abs(x) }>",
                extra,
            ),
        )
        yield (
            f"If {place} nested",
            Case(
                base,
                ANY,
                f"y = If(c)<then_branch = t () => (float[4] a) {{ a = If(c)<{branch('m = Relu(x)', 'n = Neg(x)').replace('float[4] a', 'float[4] m').replace('float[4] b', 'float[4] n')}> }}, else_branch = e () => (float[4] b) {{ b = Abs(x) }}>",
                extra,
            ),
        )
        yield (
            f"If {place} Conv inside",
            Case(
                f"{inputs}float[1,3,8,8] x",
                ANY,
                f"y = If(c)<{branch('a = Conv(x, w)', 'b = Conv(x, w)', shapes=('[1,4,6,6]', '[1,4,6,6]'))}>",
                extra + f", {WEIGHT}",
            ),
        )
        yield (
            f"If {place} QDQ inside",
            Case(
                f"{inputs}float[4] x",
                ANY,
                f"y = If(c)<{branch('q = QuantizeLinear(x, sc, zp) a = DequantizeLinear(q, sc, zp)', 'b = Relu(x)')}>",
                extra + ", float sc = {0.5}, int8 zp = {0}",
            ),
        )
    yield (
        "If condition of data",
        Case(
            "float[4] x",
            ANY,
            f"m = ReduceMax<keepdims=0>(x) c = Greater(m, k) y = If(c)<{branch('a = Relu(x)', 'b = Abs(x)')}>",
            "float k = {0}",
        ),
    )
    yield "If condition of int", Case("float[4] x, int32 c", ANY, f"y = If(c)<{branch('a = Relu(x)', 'b = Abs(x)')}>")
    yield (
        "If condition of shape",
        Case(
            "float[n] x",
            ANY,
            f"m = Shape(x) o = Squeeze(m) c = Greater(o, k) y = If(c)<{branch('a = Relu(x)', 'b = Abs(x)', shapes=('[n]', '[n]'))}>",
            "int64 k = {2}",
        ),
    )
    yield (
        "If condition folded",
        Case(
            "float[1,4] x",
            ANY,
            f"m = Shape(x) o = Gather(m, z) c = Equal(o, k) y = If(c)<{branch('a = Squeeze(x, zz)', 'b = Identity(x)', shapes=('[4]', '[1,4]'))}>",
            "int64 k = {1}, int64 z = {0}, int64[1] zz = {0}",
        ),
    )
    loop = "body = b (int64 i, bool k, float[4] v) => (bool k2, float[4] w{scan}) {{ k2 = Identity(k) w = Relu(v) {more} }}"
    yield from table({
        "Loop trip constant": ("float[4] x", ANY, f"y = Loop(n, c, x)<{loop.format(scan='', more='')}>", "int64 n = {3}, bool c = {1}"),
        "Loop trip input": ("float[4] x, int64 n", ANY, f"y = Loop(n, c, x)<{loop.format(scan='', more='')}>", "bool c = {1}"),
        "Loop no trip": ("float[4] x, bool c", ANY, f"y = Loop(, c, x)<{loop.format(scan='', more='')}>"),
        "Loop no condition": ("float[4] x", ANY, f"y = Loop(n, , x)<{loop.format(scan='', more='')}>", "int64 n = {3}"),
        "Loop scan": ("float[4] x", "float[] y, float[] z", f"y, z = Loop(n, c, x)<{loop.format(scan=', float[4] s', more='s = Abs(v)')}>", "int64 n = {3}, bool c = {1}"),
        "Loop scan trip input": ("float[4] x, int64 n", "float[] y, float[] z", f"y, z = Loop(n, c, x)<{loop.format(scan=', float[4] s', more='s = Abs(v)')}>", "bool c = {1}"),
        "Loop while scan": ("float[4] x, bool c", "float[] y, float[] z", f"y, z = Loop(, c, x)<{loop.format(scan=', float[4] s', more='s = Abs(v)')}>"),
        "Loop growing": ("float[4] x", "float[] y", "y = Loop(n, c, x)<body = b (int64 i, bool k, float[m] v) => (bool k2, float[p] w) { k2 = Identity(k) w = Concat<axis=0>(v, v) }>", "int64 n = {3}, bool c = {1}"),
        "Loop of changing rank": ("float[4] x", "float[] y", "y = Loop(n, c, x)<body = b (int64 i, bool k, float[] v) => (bool k2, float[] w) { k2 = Identity(k) w = Unsqueeze(v, z) }>", "int64 n = {3}, bool c = {1}, int64[1] z = {0}"),
        "Loop of changing type": ("float[4] x", "float[] y", "y = Loop(n, c, x)<body = b (int64 i, bool k, float[4] v) => (bool k2, float16[4] w) { k2 = Identity(k) w = Cast<to=10>(v) }>", "int64 n = {3}, bool c = {1}"),
        "Loop counter used": ("float[4] x", ANY, "y = Loop(n, c, x)<body = b (int64 i, bool k, float[4] v) => (bool k2, float[4] w) { k2 = Identity(k) f = Cast<to=1>(i) w = Add(v, f) }>", "int64 n = {3}, bool c = {1}"),
        "Loop Det inside": ("float[2,2] x", ANY, "y = Loop(n, c, x)<body = b (int64 i, bool k, float[2,2] v) => (bool k2, float[2,2] w) { k2 = Identity(k) d = Det(v) w = Mul(v, d) }>", "int64 n = {3}, bool c = {1}"),
        "Loop int state": ("int64[4] x", "int64[] y", "y = Loop(n, c, x)<body = b (int64 i, bool k, int64[4] v) => (bool k2, int64[4] w) { k2 = Identity(k) w = Add(v, v) }>", "int64 n = {3}, bool c = {1}"),
        "Scan": ("float[3,4] x", ANY, "a, y = Scan<num_scan_inputs=1, body = b (float[4] v, float[4] u) => (float[4] w, float[4] s) { w = Add(v, u) s = Identity(w) }>(q, x)", "float[4] q = {0,0,0,0}"),
        "Scan reversed": ("float[3,4] x", ANY, "a, y = Scan<num_scan_inputs=1, scan_input_directions=[1], body = b (float[4] v, float[4] u) => (float[4] w, float[4] s) { w = Add(v, u) s = Identity(w) }>(q, x)", "float[4] q = {0,0,0,0}"),
        "Scan dynamic": ("float[n,4] x", ANY, "a, y = Scan<num_scan_inputs=1, body = b (float[4] v, float[4] u) => (float[4] w, float[4] s) { w = Add(v, u) s = Identity(w) }>(q, x)", "float[4] q = {0,0,0,0}"),
        "Scan state only": ("float[3,4] x", ANY, "y = Scan<num_scan_inputs=1, body = b (float[4] v, float[4] u) => (float[4] w) { w = Add(v, u) }>(q, x)", "float[4] q = {0,0,0,0}"),
        "Scan int": ("int64[3,4] x", "int64[] y", "y = Scan<num_scan_inputs=1, body = b (int64[4] v, int64[4] u) => (int64[4] w) { w = Add(v, u) }>(q, x)", "int64[4] q = {0,0,0,0}"),
        "SequenceMap": ("float[4] x", ANY, "s = SequenceConstruct(x, x) m = SequenceMap(s)<body = b (float[4] v) => (float[4] w) { w = Relu(v) }> y = SequenceAt(m, i)", "int64 i = {0}"),
    })  # fmt: skip


def dynamics() -> Iterator[tuple[str, Case]]:
    yield from table({
        "input without a shape": ("float[] x", ANY, "y = Relu(x)"),
        "unused input without a shape": ("float[] x, float[4] z", ANY, "y = Relu(z)"),
        "anonymous sides": ("float[?,3,?,?] x", ANY, "y = Relu(x)"),
        "all dynamic": ("float[a,b,c,d] x", ANY, "y = Relu(x)"),
        "dynamic softmax": ("float[a,b] x", ANY, "y = Softmax(x)"),
        "dynamic 9-D": ("float[a,b,c,d,e,f,g,h,i] x", ANY, "y = Relu(x)"),
        "output named otherwise": ("float[n,3] x", "float[m,3] y", "y = Relu(x)"),
        "output of wrong shape": ("float[2,3] x", "float[2,4] y", "y = Relu(x)"),
        "output of wrong rank": ("float[2,3] x", "float[6] y", "y = Relu(x)"),
        "output of wrong type": ("float[2,3] x", "float16[2,3] y", "y = Relu(x)"),
        "output int32 said int64": ("int32[2,3] x", "int64[2,3] y", "y = Relu(x)"),
        "output int64 said int32": ("int64[2,3] x", "int32[2,3] y", "y = Relu(x)"),
        "output said uint8": ("float[2,3] x", "uint8[2,3] y", "y = Cast<to=2>(x)"),
        "output said bool, is float": ("float[2,3] x", "bool[2,3] y", "y = Relu(x)"),
        "input as output": ("float[2,3] x", "float[2,3] x", "y = Relu(x)"),
        "input as output alone": ("float[2,3] x", "float[2,3] x, float[2,3] y", "y = Relu(x)"),
        "constant as output": ("float[2,3] x", "float[1] c, float[2,3] y", "y = Relu(x)", "float[1] c = {1}"),
        "constant expression as output": ("float[2,3] x", "float[1] d, float[2,3] y", "y = Relu(x) d = Neg(c)", "float[1] c = {1}"),
        "output not made": ("float[2,3] x", "float[2,3] v", "y = Relu(x)"),
        "output twice": ("float[2,3] x", "float[2,3] y, float[2,3] y", "y = Relu(x)"),
        "no inputs": ("", "float[1] y", "y = Relu(c)", "float[1] c = {1}"),
        "no outputs": ("float[2,3] x", "", "y = Relu(x)"),
        "missing input": ("float[2,3] x", "float[2,3] y", "y = Add(x, nobody)"),
        "missing input unused node": ("float[2,3] x", "float[2,3] y", "y = Relu(x) v = Relu(nobody)"),
        "dead node": ("float[2,3] x", "float[2,3] y", "y = Relu(x) v = Det(x)"),
        "two makers": ("float[2,3] x", "float[2,3] y", "y = Relu(x) y = Abs(x)"),
        "unsorted": ("float[2,3] x", "float[2,3] y", "y = Relu(a) a = Abs(x)"),
        "cycle": ("float[2,3] x", "float[2,3] y", "y = Add(x, a) a = Abs(y)"),
        "empty input tensor": ("float[0] x", ANY, "y = Relu(x)"),
        "empty constant": ("float[2] x", ANY, "y = Concat<axis=0>(x, c)", "float[0] c = {}"),
        "zero-D": ("float x", "float y", "y = Relu(x)"),
        "shape input float": ("float[2,3] x, float[2] s", ANY, "y = Resize<mode=\"nearest\">(x, , s)"),
        "unused initializer": ("float[2,3] x", ANY, "y = Relu(x)", "float[1] c = {1}"),
        "9-D constant": ("float[2] x", ANY, "s = Squeeze(c) y = Add(x, s)", "float[1,1,1,1,1,1,1,1,1] c = {1}"),
        "9-D constant reshaped": ("float[2] x", ANY, "s = Reshape(c, t) y = Add(x, s)", "float[1,1,1,1,1,1,1,1,1] c = {1}, int64[1] t = {1}"),
        "9-D unused constant": ("float[2] x", ANY, "y = Relu(x)", "float[1,1,1,1,1,1,1,1,1] c = {1}"),
        "9-D dead node": ("float[2] x", ANY, "y = Relu(x) v = Reshape(x, t)", "int64[9] t = {1,1,1,1,1,1,1,1,2}"),
        "broadcast to 9-D": ("float[2,2,2,2,2,2,2,2] x", ANY, "u = Unsqueeze(x, a) y = Add(u, x)", "int64[1] a = {0}"),
        "unknown attribute": ("float[2,3] x", ANY, "y = Relu<foo=1>(x)"),
        "attribute of wrong type": ("float[2,3] x", ANY, "y = Softmax<axis=1.5>(x)"),
        "missing attribute": ("float[2,3] x, float[2,3] z", ANY, "y = Concat(x, z)"),
        "Cast without to": ("float[2,3] x", ANY, "y = Cast(x)"),
        "too many inputs": ("float[2,3] x", ANY, "y = Relu(x, x)"),
        "too few inputs": ("float[2,3] x", ANY, "y = Add(x)"),
        "too many outputs": ("float[2,3] x", ANY, "y, z = Relu(x)"),
        "older attribute in newer opset": ("float[2,3] x", ANY, "y = Squeeze<axes=[0]>(x)", "", 17),
        "Unsqueeze attribute in opset 13": ("float[2,3] x", ANY, "y = Unsqueeze<axes=[0]>(x)", "", 13),
        "ReduceSum attribute in opset 13": ("float[2,3] x", ANY, "y = ReduceSum<axes=[0]>(x)", "", 13),
        "ReduceMean attribute in opset 18": ("float[2,3] x", ANY, "y = ReduceMean<axes=[0]>(x)", "", 18),
        "Clip attribute in opset 11": ("float[2,3] x", ANY, "y = Clip<min=0.0>(x)", "", 11),
        "Slice attribute in opset 11": ("float[4,4] x", ANY, "y = Slice<starts=[1], ends=[3]>(x)", "", 11),
        "Pad attribute in opset 13": ("float[2,3] x", ANY, "y = Pad<pads=[1,0,0,1]>(x)", "", 13),
        "Relu int32 in opset 13": ("int32[2,3] x", "int32[] y", "y = Relu(x)", "", 13),
        "Gelu in opset 17": ("float[2,3] x", ANY, "y = Gelu(x)", "", 17),
        "LayerNormalization in opset 16": ("float[2,3] x", ANY, "y = LayerNormalization(x, b)", "float[3] b = {1,1,1}", 16),
        "Mish in opset 17": ("float[2,3] x", ANY, "y = Mish(x)", "", 17),
        "GridSample in opset 15": (f"{IMAGE}, float[1,4,4,2] g", ANY, "y = GridSample(x, g)", "", 15),
        "Upsample in opset 11": (IMAGE, ANY, "y = Upsample(x, s)", "float[4] s = {1,1,2,2}", 11),
        "Scatter in opset 13": ("float[4,4] x, int64[2,4] i, float[2,4] u", ANY, "y = Scatter(x, i, u)", "", 13),
    })  # fmt: skip


FAMILIES: Final = (
    unary_types, unary_ranks, binary_types, binary_ranks, reductions, opsets, convolutions, shapes, shape_operands, typed, casts, resizes,
    quantization, control_flow, dynamics,
)  # fmt: skip


def save(case: Case, path: Path) -> None:
    """Write a graph as a file."""
    domains = '"trt" : 1, "mine" : 1, "com.microsoft" : 1'
    head = f'<ir_version: 10, opset_import: ["" : {case.opset}, {domains}]> g ({case.inputs}) => ({case.outputs})'
    model = onnx.parser.parse_model(f"{head} <{case.constants}> {{ {case.body} }}")
    for tensor in model.graph.initializer:
        if case.raw and tensor.int32_data and tensor.data_type in {TensorProto.INT4, TensorProto.FLOAT4E2M1}:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path)


def corpus() -> dict[str, Case]:
    """Give every graph by its name."""
    return {f"{family.__name__}: {name}": case for family in FAMILIES for name, case in family()}
