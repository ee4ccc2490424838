# syntax=docker/dockerfile:1
# The commands, for CPUs:
#
#     docker build -t ssrl .
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" ssrl                    # the demo, into demo/
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" ssrl ssrl-train --help
#
# PyTorch comes with its CUDA libraries, some gigabytes. To leave them out, name PyTorch's package index for CPUs:
# docker build --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL
WORKDIR /opt/ssrl
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt '.[cpu]'
ENV XDG_CACHE_HOME=/tmp/cache
WORKDIR /data
CMD ["python", "-m", "ssrl.commands.demo", "--out", "demo"]
