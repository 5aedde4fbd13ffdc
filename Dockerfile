# syntax=docker/dockerfile:1
# The image of one service: docker build --build-arg SERVICE=edge .
# BASE takes a digest as well: --build-arg BASE=python:3.11.14-slim-bookworm@sha256:…
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml requirements.lock ./
COPY deploy/image ./deploy/image
# Parts of requirements.lock: `runtime`, and `live` for work on a cluster.
ARG PARTS=runtime
RUN deploy/image/build.sh libraries /opt/messenger "${PARTS}"
COPY hatch_build.py README.md ./
COPY protos ./protos
COPY mesh ./mesh
ARG SERVICE
COPY ${SERVICE} ./${SERVICE}
RUN deploy/image/build.sh project /opt/messenger

# The client contract's suite, for `skaffold verify`. It needs PARTS="runtime dev".
FROM ${BASE} AS contract
COPY --from=build /opt/messenger /opt/messenger
WORKDIR /suite
COPY pyproject.toml ./
COPY tests/conftest.py tests/past.py ./tests/
COPY tests/contract ./tests/contract
ENV PATH=/opt/messenger/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["pytest", "-p", "no:cacheprovider", "tests/contract"]

FROM ${BASE} AS service
COPY --from=build /opt/messenger /opt/messenger
ARG SERVICE
# The environment is complete and read-only: nothing is written beside the code.
ENV SERVICE=${SERVICE} PATH=/opt/messenger/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["/bin/sh", "-c", "exec python -m \"$SERVICE\""]
