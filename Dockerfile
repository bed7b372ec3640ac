# Two images. `train` is the environment of the whole chain; the checkout is mounted, so every result lands in it:
#
#   docker build --target train --tag freekd-train .
#   docker run --rm --gpus all --ipc=host --volume "$PWD:/work" freekd-train
#
# Leave out --gpus all without an NVIDIA device. The container writes as root; add --user "$(id -u):$(id -g)" to write as
# yourself.
#
# `runtime` is what a device needs to run an exported file, without torch: `python -m pipeline predict`, on files that are
# mounted:
#
#   docker build --target runtime --tag freekd-runtime .
#   docker run --rm --volume "$PWD:/data:ro" --workdir /data freekd-runtime micro-s.zip street.jpg --json

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
    && uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python --no-deps -r /opt/requirements.txt
WORKDIR /work
CMD ["sh", "-c", "dvc repro && python -m pipeline show"]

FROM python:3.11-slim AS runtime
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY requirements.txt /opt/requirements.txt
RUN pip install --no-cache-dir --constraint /opt/requirements.txt \
    numpy onnxruntime opencv-python-headless pydantic rich typer
ENV PYTHONPATH=/app
WORKDIR /app
COPY pipeline/__init__.py pipeline/__main__.py pipeline/cli.py pipeline/colours.py pipeline/device.py pipeline/digest.py \
    pipeline/errors.py pipeline/files.py pipeline/predict.py pipeline/predict_files.py pipeline/predict_inputs.py \
    pipeline/preprocess.py pipeline/records.py pipeline/tasks.py pipeline/text.py ./pipeline/
COPY pipeline/backends/__init__.py pipeline/backends/onnxruntime.py pipeline/backends/outputs.py ./pipeline/backends/
COPY pipeline/bundle/__init__.py pipeline/bundle/manifest.py pipeline/bundle/unpack.py ./pipeline/bundle/
COPY pipeline/decoding/__init__.py pipeline/decoding/decode.py pipeline/decoding/header.py ./pipeline/decoding/
COPY pipeline/evaluation/__init__.py pipeline/evaluation/detect.py ./pipeline/evaluation/
RUN useradd --create-home app
USER app
ENTRYPOINT ["python", "-m", "pipeline", "predict"]
CMD ["--help"]
