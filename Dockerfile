# Two images. `train` is the environment of the whole chain; the checkout is mounted, so every result lands in it:
#
#   docker build --target train --tag freekd-train .
#   docker run --rm --gpus all --ipc=host --volume "$PWD:/work" freekd-train
#
# Leave out --gpus all without an NVIDIA device. The container writes as root; add --user "$(id -u):$(id -g)" to write as
# yourself.
#
# `runtime` is what a device needs to run an exported file, without torch:
#
#   docker build --target runtime --tag freekd-runtime .
#   docker run --rm --volume "$PWD/artifacts:/artifacts:ro" freekd-runtime python -c '
#   from pathlib import Path
#   from pipeline.backends import load
#   print(load(Path("/artifacts/<student>/export/fp32.onnx")).metadata)'

FROM python:3.11-slim AS train
# DVC reads git; the mounted checkout belongs to another user than the container's.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /work
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
COPY requirements.txt /opt/requirements.txt
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir "$(grep '^uv==' /opt/requirements.txt)" \
    && uv pip install --no-cache --python /opt/venv/bin/python --no-deps -r /opt/requirements.txt
WORKDIR /work
CMD ["sh", "-c", "dvc repro && python -m pipeline show"]

FROM python:3.11-slim AS runtime
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements.txt /opt/requirements.txt
RUN pip install --no-cache-dir --constraint /opt/requirements.txt \
    numpy onnxruntime opencv-python-headless pillow pydantic
WORKDIR /app
COPY pipeline/__init__.py pipeline/errors.py pipeline/digest.py pipeline/records.py pipeline/tasks.py pipeline/device.py pipeline/preprocess.py ./pipeline/
COPY pipeline/backends/__init__.py pipeline/backends/onnxruntime.py ./pipeline/backends/
COPY pipeline/evaluation/__init__.py pipeline/evaluation/detect.py ./pipeline/evaluation/
RUN useradd --create-home app
USER app
CMD ["python"]
