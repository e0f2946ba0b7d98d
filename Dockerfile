# A small image that serves /mcp on 8080 and the admin pages on 9090. Mount the configuration at /etc/mcp-gateway/.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY mcp_gateway mcp_gateway
RUN python -m venv /opt/mcp-gateway && /opt/mcp-gateway/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --system --uid 65532 --no-create-home gateway
COPY --from=build /opt/mcp-gateway /opt/mcp-gateway
USER 65532
EXPOSE 8080 9090
ENTRYPOINT ["/opt/mcp-gateway/bin/mcp-gateway"]
CMD ["serve", "--config", "/etc/mcp-gateway/gateway.yaml", "--bind", "0.0.0.0:8080", "--admin-bind", "0.0.0.0:9090"]
