"""A student as one zip archive for a device: models, how to feed and read them, scripts, samples, measurements."""

from __future__ import annotations

import io
import json
import shlex
import stat
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError

from pipeline.backends import Backend, load, read_properties
from pipeline.bundle.card import model_card
from pipeline.bundle.manifest import NAME, Manifest, facts_of
from pipeline.bundle.measurements import measurements_of
from pipeline.bundle.samples import LIMITS, sample_files
from pipeline.data.prepared import PreparedDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.accuracy import require_same_classes
from pipeline.export.onnx import INPUT
from pipeline.files import write_bytes
from pipeline.predict import MAX_DETECTIONS, NMS_IOU, SCORE_THRESHOLD
from pipeline.preprocess import DESCRIPTION
from pipeline.records import Digest, FileName, Line

FILES: Final = Path(__file__).parent / "files"
SCRIPTS: Final = ("build_engine.sh", "benchmark.sh", "trtexec.sh", "check.py", "benchmark.py")
LICENCE: Final = Path(__file__).parents[2] / "LICENSE"
SAMPLES: Final = 4
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can say: equal inputs give equal bytes


@dataclass(frozen=True)
class Identity:
    """What all ONNX files of a bundle agree on, under the keys of their metadata."""

    name: FileName  # of the student
    checkpoint_digest: Digest
    licence: Line


def write_bundle(out: Path, *, export: Path, results: Path, dataset: PreparedDataset) -> Manifest:
    """Write a bundle; equal inputs, at the same commit, give equal bytes.

    Args:
        out: The zip file, whose name ends in `.zip`; written whole or not at all.
        export: Folder with `fp32.onnx` and whichever of `fp16.onnx`, `int8.onnx`, `int8-tensorrt.onnx` there are.
        results: Folder with the records; what is missing there, the card calls not measured.
        dataset: Its first test images become the samples.

    Raises:
        PipelineError: if `out` has another ending, there is no export, its files are not of one checkpoint, or one of
            them cannot be run.

    """
    if out.suffix != ".zip":
        raise PipelineError(f"{out}: expected a name that ends in .zip, by which predict knows a bundle")
    models = {name: export / f"{name}.onnx" for name in LIMITS if (export / f"{name}.onnx").is_file()}
    if "fp32" not in models:
        raise PipelineError(f"{export / 'fp32.onnx'} not found: run `dvc repro export` to make it")
    identity = _identity(models)
    reference = load(models["fp32"], threads=1)
    require_same_classes(reference, dataset)
    preprocessing = _preprocessing(reference)
    commit = _commit()
    files = {f"models/{name}.onnx": path.read_bytes() for name, path in models.items()}
    files |= {name: (FILES / name).read_bytes() for name in SCRIPTS}
    files |= sample_files(models, dataset.images("test")[:SAMPLES], preprocessing["decoding"])
    measurements = measurements_of(results, reference.metadata.task, identity.name, identity.checkpoint_digest)
    files |= {f"measurements/{name}.json": content for name, content in measurements.items()}
    files |= {
        "labels.txt": "".join(f"{name}\n" for name in reference.metadata.classes).encode(),
        "labels.json": _json(dict(enumerate(reference.metadata.classes))),
        "preprocessing.json": _json(preprocessing),
        "bundle.env": _environment(reference, identity, commit),
        "LICENSE": LICENCE.read_bytes(),
        "MODEL_CARD.md": model_card(
            reference.metadata, identity.name, identity.checkpoint_digest, commit,
            files={name: len(content) for name, content in files.items() if name.startswith("models/")},
            dataset=dataset.info, measurements=measurements,
        ).encode(),
    }  # fmt: skip
    manifest = Manifest(
        task=reference.metadata.task,
        student=identity.name,
        image_size_px=reference.metadata.image_size_px,
        checkpoint_digest=identity.checkpoint_digest,
        commit=commit,
        licence=identity.licence,
        files={name: facts_of(files[name]) for name in sorted(files)},
    )
    files[NAME] = (manifest.model_dump_json(indent=2) + "\n").encode()
    write_bytes(out, _archive(files))
    return manifest


def _identity(models: dict[str, Path]) -> Identity:
    found = {path: read_properties(path, _properties(path), Identity) for path in models.values()}
    first, *others = found
    for path in others:
        if found[path] != found[first]:
            raise PipelineError(
                f"{path} is of {found[path]}, but {first.name} beside it is of {found[first]}: run `dvc repro export`"
            )
    return found[first]


def _properties(path: Path) -> dict[str, str]:
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise PipelineError(f"{path}: expected an ONNX file, got something else ({error})") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def _preprocessing(backend: Backend) -> dict[str, Any]:
    """Describe how to make the input and to read the outputs, for a reader in any language."""
    size, classes = backend.metadata.image_size_px, len(backend.metadata.classes)
    decoding: dict[str, Any] = {"end2end": backend.metadata.end2end}
    if backend.metadata.task == "detect":
        decoding |= {"score_threshold": SCORE_THRESHOLD, "nms_iou": NMS_IOU, "max_detections": MAX_DETECTIONS}
        if backend.metadata.end2end:
            outputs = {"output0": "(N, D, 6) float32: x1, y1, x2, y2 in input pixels, score, class; best first"}
            steps = ["keep rows whose score is above score_threshold"]
        else:
            outputs = {
                "output0": f"(N, {4 + classes}, A) float32: centre x, centre y, width, height in input pixels, then a "
                "score in [0, 1] per class"
            }
            steps = ["keep (anchor, class) pairs whose score is above score_threshold", "NMS per class at nms_iou"]
        steps.append("box = (box - pad) / scale, clipped to the image")
    else:
        outputs = {
            "class_map": f"(N, {size}, {size}) uint8: class ids, what a device needs",
            "logits": f"(N, {classes}, h, w) float32 at the head's stride, for comparisons",
        }
        steps = ["cut the padding off class_map", "resize it to the image, nearest neighbour"]
    return {
        "task": backend.metadata.task,
        "image_size_px": size,
        "input": {"name": INPUT, "shape": ["N" if backend.dynamic_batch else 1, 3, size, size], "type": "float32"},
        "preprocessing": DESCRIPTION,
        "steps": [
            "scale = min(size / height, size / width); resize to round(width * scale) x round(height * scale)",
            f"centre it in a size x size square of grey {DESCRIPTION['padding']}; an odd pixel goes right and bottom",
            "RGB, divide by 255, channels first; pad is where the image starts in the square",
        ],
        "outputs": outputs,
        "decoding": {**decoding, "steps": steps},
    }


def _environment(backend: Backend, identity: Identity, commit: str) -> bytes:
    """Say to the shell scripts what they need: no JSON reader there."""
    values = {
        "TASK": backend.metadata.task,
        "STUDENT": identity.name,
        "IMAGE_SIZE_PX": backend.metadata.image_size_px,
        "DYNAMIC_BATCH": int(backend.dynamic_batch),
        "CHECKPOINT_DIGEST": identity.checkpoint_digest,
        "COMMIT": commit,
    }
    return "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in values.items()).encode()


def _commit() -> str:
    """Name the commit that is checked out, `-dirty` behind it if tracked files differ; `unknown` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, so that the mode counts
            info.external_attr = (stat.S_IFREG | (0o755 if name.endswith(".sh") else 0o644)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name])
    return buffer.getvalue()
