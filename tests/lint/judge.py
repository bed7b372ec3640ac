"""Parse and build ONNX files with NVIDIA's TensorRT-RTX: `python judge.py FILE...` prints one JSON line per file.

It stands alone, so that a crash of the native library ends this process and nothing else.
"""

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx_bindings as trt

SIDES = (1, 2, 3)  # min, opt, max of a free side, and the values of a shape given as an input


class Silent(trt.ILogger):
    """Keeps the errors instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def judge(path: str, logger: Silent) -> dict[str, Any]:
    """Say whether a file parses, and whether it builds."""
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        said = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        return {"stage": "parse", "said": " | ".join(said)}
    config = builder.create_builder_config()
    if free(network):
        config.add_optimization_profile(profile_of(builder, network))
    built = builder.build_serialized_network(network, config)
    return {"stage": "built", "said": ""} if built else {"stage": "build", "said": " | ".join(logger.errors)}


def free(network: trt.INetworkDefinition) -> bool:
    """Say whether an input has a free side or is a shape."""
    entries = [network.get_input(number) for number in range(network.num_inputs)]
    return any(entry.is_shape_tensor or any(side < 0 for side in entry.shape) for entry in entries)


def profile_of(builder: trt.Builder, network: trt.INetworkDefinition) -> trt.IOptimizationProfile:
    """Give every free side the same sizes."""
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        entry = network.get_input(number)
        if entry.is_shape_tensor:
            count = entry.shape[0] if len(entry.shape) else 1
            profile.set_shape_input(entry.name, *([side] * count for side in SIDES))
        elif any(side < 0 for side in entry.shape):
            profile.set_shape(entry.name, *([side if old < 0 else old for old in entry.shape] for side in SIDES))
    return profile


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        try:
            verdict = judge(argument, Silent())
        except Exception as error:  # a refusal in another form
            verdict = {"stage": "raised", "said": str(error)}
        print(json.dumps({"file": Path(argument).name, **verdict}), flush=True)
