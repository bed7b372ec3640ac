"""Check this bundle on this device: the files are whole, and each model answers as it did where the bundle was made.

    python3 check.py

Needs Python 3.10, numpy, pillow, and onnxruntime or tensorrt, whichever is here. TensorRT takes engines/*.plan (made by
`sh build_engine.sh`) and the CUDA runtime library.

The sample images are letterboxed already, so no resizing library plays a part. Each model's answers are compared with
those of fp32 in ONNX Runtime (samples/expected.npz); limits are in samples/tolerances.json, per precision:

    scores   relative L2 error of a detector's scores
    boxes    share of the boxes above the score threshold, of both sides, that the other side lacks (class, IoU 0.7)
    box_px   mean distance of their corners, in pixels
    logits   relative L2 error of a segmenter's logits
    pixels   share of the pixels whose class differs

Exit status: 0 all models that could run are within their limits, 1 one is not, 2 a damaged bundle or nothing to run.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

try:
    import numpy as np
    from PIL import Image
except ImportError as error:
    sys.exit(f"check.py: {error}: install numpy, pillow and onnxruntime")

Outputs = dict[str, Any]  # output name -> array with the samples in front
ORT_CANNOT = {"int8-tensorrt"}  # ONNX Runtime's optimiser computes it wrongly
MATCH_IOU = 0.7
CUDART = ("libcudart.so", "libcudart.so.12", "libcudart.so.13")


def damage(root: Path) -> str | None:
    """Compare every file with manifest.json; say what is wrong with the first that differs."""
    try:
        listed = json.loads((root / "manifest.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"manifest.json cannot be read: {error}"
    for name, facts in listed.items():
        path = root / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or path.is_symlink():
            return f"{name}: leads out of the bundle"
        if not path.is_file():
            return f"{name}: missing"
        content = path.read_bytes()
        if len(content) != facts["bytes"]:
            return f"{name}: not the file that was shipped ({len(content)} bytes, expected {facts['bytes']})"
        if hashlib.sha256(content).hexdigest() != facts["sha256"]:
            return f"{name}: not the file that was shipped (another SHA-256)"
    return None


def load_samples(folder: Path) -> Any:
    """Read the letterboxed images: (K, 3, S, S) float32 RGB in [0, 1]."""
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def run_onnxruntime(model: Path, images: Any) -> Outputs:
    """Run an ONNX file on the CPU, image by image."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    options.intra_op_num_threads = int(asked) if asked.isdecimal() else 0  # 0: ONNX Runtime's own choice
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    answers = [session.run(names, {session.get_inputs()[0].name: image[None]}) for image in images]
    return {name: np.concatenate([answer[place] for answer in answers]) for place, name in enumerate(names)}


def run_tensorrt(plan: Path, images: Any) -> Outputs:
    """Run an engine, image by image; device memory comes from the CUDA runtime library."""
    import tensorrt as trt  # type: ignore[import-not-found]

    cuda = _cuda()
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise RuntimeError(f"TensorRT {trt.__version__} cannot read it: build it on this device")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    source = next(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
    context.set_input_shape(source, (1, *images.shape[1:]))
    shapes = {name: tuple(context.get_tensor_shape(name)) for name in names}
    host = {name: np.empty(shapes[name], trt.nptype(engine.get_tensor_dtype(name))) for name in names}
    memory = {name: ctypes.c_void_p() for name in names}
    answers = []
    try:
        for name in names:
            _must(cuda.cudaMalloc(ctypes.byref(memory[name]), ctypes.c_size_t(host[name].nbytes)), "cudaMalloc")
            context.set_tensor_address(name, memory[name].value)
        for image in images:
            host[source][:] = image
            _copy(cuda, memory[source], _address(host[source]), host[source].nbytes, 1)
            if not context.execute_async_v3(0):
                raise RuntimeError("execute_async_v3 failed")
            _must(cuda.cudaDeviceSynchronize(), "cudaDeviceSynchronize")
            answer = {name: array.copy() for name, array in host.items() if name != source}
            for name, array in answer.items():
                _copy(cuda, _address(array), memory[name], array.nbytes, 2)
            answers.append(answer)
    finally:
        for pointer in memory.values():
            cuda.cudaFree(pointer)
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _cuda() -> Any:
    for name in CUDART:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise RuntimeError(f"the CUDA runtime library is not on LD_LIBRARY_PATH ({', '.join(CUDART)})")


def _address(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _copy(cuda: Any, to: ctypes.c_void_p, start: ctypes.c_void_p, size: int, kind: int) -> None:
    _must(cuda.cudaMemcpy(to, start, ctypes.c_size_t(size), kind), "cudaMemcpy")


def _must(status: int, call: str) -> None:
    if status != 0:
        raise RuntimeError(f"{call} failed with CUDA error {status}")


def differences(expected: Outputs, got: Outputs, decoding: dict[str, Any]) -> dict[str, float]:
    """Measure answers against the expected ones; 0 is equal, and the docstring above says what each number is.

    Args:
        expected: Of the samples, `output0` of a detector or `class_map` and `logits` of a segmenter.
        got: The same from another file or runtime.
        decoding: preprocessing.json's section of that name.

    Raises:
        ValueError: if an output is missing, has another shape, or holds NaN or infinity.

    """
    for name, array in expected.items():
        shape = got[name].shape if name in got else "none"
        if shape != array.shape or not np.isfinite(got[name]).all():
            raise ValueError(f"{name}: expected finite values of shape {array.shape}, got shape {shape}")
    if "logits" in expected:
        different = expected["class_map"] != got["class_map"]
        return {"logits": _relative(expected["logits"], got["logits"]), "pixels": float(different.mean())}
    a, b = expected["output0"].astype(np.float64), got["output0"].astype(np.float64)
    scores = [output[..., 4] if decoding["end2end"] else output[:, 4:] for output in (a, b)]
    lacking, total, distances = 0, 0, [0.0]
    for first, second in zip(a, b, strict=True):
        found = [decode(rows, decoding) for rows in (first, second)]
        for one, other in (found, found[::-1]):
            sure = one[one[:, 4] > decoding["score_threshold"]]
            overlap = _iou(sure, other) * (sure[:, None, 5] == other[None, :, 5])  # (n, m)
            matched = overlap.max(axis=1, initial=0) >= MATCH_IOU
            partners = overlap.argmax(axis=1)[matched] if len(other) else []
            distances += list(np.abs(sure[matched, :4] - other[partners, :4]).mean(axis=1))
            lacking, total = lacking + int((~matched).sum()), total + len(sure)
    return {"scores": _relative(*scores), "boxes": lacking / max(total, 1), "box_px": float(np.mean(distances))}


def decode(rows: Any, decoding: dict[str, Any]) -> Any:
    """Turn one image's output into boxes (n, 6): xyxy in input pixels, score, class; best first.

    Down to half of the threshold, so that a score that crosses it is no missing box.
    """
    floor = decoding["score_threshold"] / 2
    if decoding["end2end"]:  # (D, 6), ready
        return rows[rows[:, 4] > floor]
    anchor, label = np.nonzero(floor < rows[4:].T)  # (4 + classes, A)
    score = rows[4 + label, anchor]
    centre, half = rows[:2, anchor].T, rows[2:4, anchor].T / 2
    boxes = np.column_stack([centre - half, centre + half, score, label])[np.argsort(-score, kind="stable")]
    keep = np.zeros(len(boxes), dtype=bool)
    for index, box in enumerate(boxes):  # NMS within a class
        rivals = boxes[keep & (boxes[:, 5] == box[5])]
        keep[index] = not (_iou(box[None], rivals) > decoding["nms_iou"]).any()
        if keep.sum() == decoding["max_detections"]:
            break
    return boxes[keep]


def _iou(first: Any, second: Any) -> Any:
    sides = np.minimum(first[:, None, 2:4], second[None, :, 2:4]) - np.maximum(first[:, None, :2], second[None, :, :2])
    overlap = sides.clip(min=0).prod(axis=2)  # (n, m)
    one, other = ((boxes[:, 2:4] - boxes[:, :2]).prod(axis=1) for boxes in (first, second))
    return overlap / np.maximum(one[:, None] + other[None] - overlap, 1e-9)


def _relative(expected: Any, got: Any) -> float:
    norm = float(np.linalg.norm(expected.ravel()))
    return float(np.linalg.norm((got - expected).ravel())) / max(norm, 1e-12)


def runtimes(root: Path) -> list[tuple[str, Callable[[Path, Any], Outputs], list[Path]]]:
    """List what this device has: the runtime's name, how to run a file, and its files."""
    known = (("onnxruntime", run_onnxruntime, "models/*.onnx"), ("tensorrt", run_tensorrt, "engines/*.plan"))
    return [(name, run, sorted(root.glob(pattern))) for name, run, pattern in known if find_spec(name)]


def main() -> int:
    """Print a row per model and runtime; return the exit status."""
    if len(sys.argv) > 1:
        print(__doc__)
        return 0 if sys.argv[1] in {"-h", "--help"} else 2
    root = Path(__file__).resolve().parent
    if problem := damage(root):
        print(f"check.py: damaged bundle: {problem}", file=sys.stderr)
        return 2
    decoding = json.loads((root / "preprocessing.json").read_text(encoding="utf-8"))["decoding"]
    tolerances = json.loads((root / "samples/tolerances.json").read_text(encoding="utf-8"))
    expected, images = dict(np.load(root / "samples/expected.npz")), load_samples(root / "samples")
    ran, failed = 0, 0
    for runtime, run, files in runtimes(root):
        for file in files:
            row = f"{runtime:<12} {file.name:<16}"
            if file.stem not in tolerances or (runtime == "onnxruntime" and file.stem in ORT_CANNOT):
                print(f"{row} skipped: {'for TensorRT only' if file.stem in ORT_CANNOT else 'not of this bundle'}")
                continue
            ran += 1
            try:
                errors = differences(expected, run(file, images), decoding)
            except Exception as error:  # whatever a runtime raises is this row's verdict
                failed += 1
                print(f"{row} FAIL     {error}")
                continue
            limits = {name: tolerances[file.stem][name]["limit"] for name in errors}
            good = all(error <= limits[name] for name, error in errors.items())
            failed += not good
            numbers = "  ".join(f"{name} {error:.2g} (limit {limits[name]:.2g})" for name, error in errors.items())
            print(f"{row} {'ok' if good else 'FAIL':<8} {numbers}")
    if not ran:
        print("check.py: nothing to run: install onnxruntime, or tensorrt and build the engines", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
