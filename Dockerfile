# The service as an image. Any Python 3.11 or newer with the module venv serves as its base; pin it by digest where you build:
#
#     docker build -t loadscale .
#     docker build -t loadscale --build-arg BASE=python:3.13-slim@sha256:… --build-arg REVISION="$(git rev-parse HEAD)" .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# pip and the build tools stay in an environment of this stage: the image has none of them.
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/autoscaler
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /opt/build/bin/python -m pip --no-input install --quiet --no-cache-dir --require-hashes -r requirements/build.txt \
 && /opt/build/bin/python -m pip --no-input --python /opt/autoscaler/bin/python install --quiet --no-cache-dir --no-compile \
      --only-binary :all: --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY autoscaler/ autoscaler/
COPY policies/ policies/
RUN /opt/build/bin/python -m hatchling build -t wheel -d dist \
 && /opt/build/bin/python -m pip --no-input --python /opt/autoscaler/bin/python install --quiet --no-cache-dir --no-compile \
      --no-index --no-deps dist/*.whl
# The root filesystem is read-only when this runs, so what is not compiled now is compiled at every start. Left out is what is never
# imported: the Kubernetes client's model and API classes (over half of all bytecode; we speak raw JSON). Bytecode that is not checked
# against its source survives builders that rewrite file times.
RUN /opt/autoscaler/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      -x '/kubernetes/(aio/)?client/(api|models)/[^_]' /opt/autoscaler/lib

FROM ${BASE}
# The library that numpy brings starts a thread per core of the node, each with its buffers, for matrix products that are not made here.
ENV PATH=/opt/autoscaler/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OPENBLAS_NUM_THREADS=1
RUN useradd --key UID_MAX=65532 --uid 65532 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin autoscaler
COPY --from=build /opt/autoscaler /opt/autoscaler
USER 65532:65532
WORKDIR /
EXPOSE 8080
ARG REVISION=""
LABEL org.opencontainers.image.title="loadscale" \
      org.opencontainers.image.description="Scales Kubernetes workloads by their load and watches over their pods' health" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/opt/autoscaler/bin/python", "-P", "-m", "autoscaler"]
CMD ["run"]
