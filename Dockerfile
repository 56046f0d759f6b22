# A workstation in a container: prune, recover, export, quantize, build and validate, without a GPU.
#
#   docker build --tag yolo-slim .
#   docker run --rm --volume "$PWD:/data" yolo-slim run --model best.pt --data data.yaml --target rpi5 --imgsz 320
#
# Torch is installed without CUDA where pip's index has that build; options for another index go into PIP_OPTIONS.
# Without a network: `pip wheel --wheel-dir wheels -c constraints.txt '.[host,ssh]' hatchling`, then build with
# `--build-arg PIP_OPTIONS="--no-index --find-links wheels"` on a BASE that has libGL and GLib.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ARG PIP_OPTIONS=""
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# What OpenCV's wheel takes from the system; present already where the base image has it.
# hadolint ignore=DL3008
RUN if ! ldconfig -p | grep -q libGL.so.1; then \
      apt-get update \
      && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
      && rm -rf /var/lib/apt/lists/*; \
    fi

WORKDIR /src
# Bound, not copied: the wheels would stay in a layer. Written to, because the package's wheel is built here.
# hadolint ignore=SC2046,SC2086,DL3042
RUN --mount=type=bind,target=/src,rw \
    pip install --no-cache-dir ${PIP_OPTIONS} --constraint constraints.txt \
      $(python -m scripts.torch_build ${PIP_OPTIONS}) ".[host,ssh]"

RUN useradd --create-home --uid 1000 slim
USER 1000:1000
WORKDIR /data
ENV YOLO_AUTOINSTALL=false
ENTRYPOINT ["yolo-slim"]
CMD ["--help"]
