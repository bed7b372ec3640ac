"""From a labelled dataset and a large vision model to a small one on a device."""

import os
from pathlib import Path

# Read by Ultralytics when it is imported: no call home, and a settings file of our own,
# so that a user's integrations (DVCLive, MLflow, ...) do not start inside a stage.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(__file__).parents[1] / ".state" / "ultralytics"))
os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"  # its model files are unpickled and parsed without running code
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on CUDA

if not os.environ.get("OMP_NUM_THREADS"):  # else Ultralytics sets it to 1 when it is imported, as if a user had
    os.environ["OMP_NUM_THREADS"] = str(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
