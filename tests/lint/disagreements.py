"""Where the lint and TensorRT-RTX differ on purpose, with the reason. Everything else that differs is a fault."""

from typing import Final

# The lint refuses, TensorRT-RTX builds. By the lint's rule and a part of what it found.
STRICTER: Final[dict[tuple[str, str], str]] = {
    (
        "opset",
        "",
    ): "outside the opsets that onnx-tensorrt documents (docs/operators.md); later semantics are not looked at",
    ("weight-axis", ""): "NVIDIA documents weights per output channel alone; RTX chooses its kernel on the device",
    (
        "activation-per-channel",
        "",
    ): "NVIDIA documents activations per tensor alone; RTX chooses its kernel on the device",
    ("scale", "is not constant"): "IQuantizeLayer and IDequantizeLayer document scales that are build-time constants",
    ("input-rank", ""): "the parser reads an input without a shape as a scalar: it builds, and is another model",
    ("attribute", "LSTM with layout"): "the parser does not read the attribute: it builds, and is another model",
    ("attribute", "GRU with layout"): "the parser does not read the attribute: it builds, and is another model",
    ("dimensions", "GridSample of 5"): "onnx-tensorrt documents 4 dimensions (docs/operators.md)",
    ("invalid", ""): "no valid ONNX: shapes or counts contradict each other, and RTX does not notice",
    ("constant-input", ""): "onnx-tensorrt documents a constant; RTX also folds known sides of a partly free shape",
    ("external-data", "no counts of bytes"): "RTX reads an offset that is no number as 0: other weights than meant",
    (
        "operator-type",
        "UINT8",
    ): "onnx-tensorrt documents UINT8 for inputs, outputs and Cast; an operator of one input does nothing",
    ("operator-type", "Clip of INT8"): "taken without bounds alone, where it does nothing",
    ("operator-type", "Dropout of"): "no valid ONNX, and no operation",
}

# The lint accepts, TensorRT-RTX refuses. By a part of what TensorRT-RTX says.
LAXER: Final[dict[str, str]] = {
    "Plugin not found": "RTX has no plugin library; TensorRT brings DeformConv and EfficientNMS as plugins",
    "plugin was not found": "RTX has no plugin library; TensorRT brings ROIAlign as a plugin",
    "NonZero plugin creator": "RTX has no plugin library; onnx-tensorrt documents NonZero",
    "Unsupported reduction type": "RTX has no plugin library; TensorRT brings reductions of ScatterElements as one",
    "has no runners that implement it": "RTX has no kernel for NonMaxSuppression, which onnx-tensorrt documents",
    "INMSLayer": "RTX has no kernel for NonMaxSuppression, which onnx-tensorrt documents",
    "Attention operation was not supported by a dedicated kernel": "its sizes decide which GPUs have a kernel",
    "deconv": "RTX has no BF16 kernel for ConvTranspose, which onnx-tensorrt documents: building",
    "IRecurrenceLayer must have inputs with same shape": "ONNX's inference does not follow a rank through a Loop",
}


def explained(built: bool, errors: list[tuple[str, str]], said: str) -> bool:
    """Say whether a disagreement is listed: every error of the lint, or what TensorRT-RTX said."""
    if built:
        return all(any(rule == name and part in found for name, part in STRICTER) for rule, found in errors)
    return any(part in said for part in LAXER)
