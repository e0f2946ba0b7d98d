# One image for `serve` and `controller`: runs as 65532, with a read-only root file system. Nothing is compiled: every
# package comes as a wheel. BASE is any image with Python 3.11 or newer.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Where pip finds packages, if the builder says so.
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
RUN python3 -m venv /build && /build/bin/pip install --no-cache-dir --only-binary=:all: hatchling
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY mcp_gateway mcp_gateway
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/mcp-gateway \
    && /build/bin/pip --python /opt/mcp-gateway/bin/python install --no-cache-dir --only-binary=:all: --compile \
       "$(echo /wheels/*.whl)[kube]"

FROM ${BASE}
COPY --from=build /opt/mcp-gateway /opt/mcp-gateway
# `python` is the one that has the gateway. Nothing is written at run time: the bytecode is there already.
ENV PATH=/opt/mcp-gateway/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["mcp-gateway"]
CMD ["serve", "--config", "/etc/mcp-gateway/gateway.yaml", "--bind", ":8080", "--admin-bind", ":9090"]
