"""Those that are measured side by side: the backend itself, this gateway, and others, each by an adapter.

Owns how each program is found, configured and started in front of the same backends, and what version it is.
Deliberately no measuring. Invariant: every one of them has one worker and runs only as long as its block.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

import mcp_gateway
from bench import messages
from bench.processes import ROOT, Served, free_port, gateway, nginx, nginx_program, running, said

Start: TypeAlias = Callable[[Sequence[str], str], AbstractAsyncContextManager[Served]]
"""Serve these backends (URLs of ``/mcp``), all of this era."""


@attrs.frozen(kw_only=True)
class Rival:
    """One that can be measured."""

    name: str
    start: Start
    version: Sequence[str] = ()
    """The command that prints it."""
    missing: str = ""
    """Why it cannot run here; empty when it can."""
    merges: bool = True
    """Whether it serves several backends as one."""
    eras: tuple[str, ...] = ("2025",)
    """Of clients and backends alike."""
    without: tuple[str, ...] = ()
    """Tools that its backend does not have as others do."""
    slow: bool = False
    """So slow that a fixed rate or hundreds of connections say nothing."""


def servers_of(urls: Sequence[str], era: str, **rest: object) -> list[dict[str, object]]:
    """The configuration of this gateway for some backends; a single one keeps its tools' names."""
    protocol = messages.MODERN if era == "2026" else messages.LEGACY
    names = [f"b{number}" for number in range(len(urls))]
    alone = {"prefix": ""} if len(urls) == 1 else {}
    return [
        {"name": name, "url": url, "protocol": protocol, **alone, **rest} for name, url in zip(names, urls, strict=True)
    ]


@asynccontextmanager
async def _ours(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
    async with gateway({"servers": servers_of(urls, era)}) as served:
        yield served


@asynccontextmanager
async def _direct(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
    host = urls[0].removeprefix("http://").removesuffix("/mcp")
    yield Served(pid=0, host=host)


@asynccontextmanager
async def _nginx(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
    async with nginx(int(urls[0].removesuffix("/mcp").rpartition(":")[2])) as served:
        assert served is not None
        yield served


@asynccontextmanager
async def _envoy(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
    """Envoy's native MCP filters, with one worker thread; written as JSON, which is YAML."""
    port, kind = free_port(), "type.googleapis.com/envoy.extensions"
    servers = [
        {"name": f"b{number}", "mcp_cluster": {"cluster": f"b{number}", "path": "/mcp"}} for number in range(len(urls))
    ]
    filters = [
        {"name": "envoy.filters.http.mcp", "typed_config": {"@type": f"{kind}.filters.http.mcp.v3.Mcp"}},
        {
            "name": "envoy.filters.http.mcp_router",
            "typed_config": {"@type": f"{kind}.filters.http.mcp_router.v3.McpRouter", "servers": servers},
        },
    ]
    routes = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "b0"}}]}]
    manager = {
        "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": routes},
        "http_filters": filters,
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    resources = {
        "listeners": [{"address": _address(port), "filter_chains": [chain]}],
        "clusters": [_cluster(f"b{number}", url) for number, url in enumerate(urls)],
    }
    config = json.dumps({"static_resources": resources})
    # With hot restart it ends with the thread that started it, and those of Trio end when they are idle.
    words = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart", "--config-yaml", config]
    async with running([str(_found("envoy")), *words], port) as served:
        yield served


def _address(port: int) -> object:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, url: str) -> object:
    where = {"endpoint": {"address": _address(int(url.removesuffix("/mcp").rpartition(":")[2]))}}
    endpoints = {"cluster_name": name, "endpoints": [{"lb_endpoints": [where]}]}
    breakers = {"thresholds": [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]}
    return {"name": name, "type": "STATIC", "load_assignment": endpoints, "circuit_breakers": breakers}


_FASTMCP: Final = """
import sys
from fastmcp.server import create_proxy
urls = sys.argv[2:]
servers = {f"b{n}": {"url": url, "transport": "http"} for n, url in enumerate(urls)}
proxy = create_proxy(urls[0] if len(urls) == 1 else {"mcpServers": servers}, name="bench")
proxy.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), path="/mcp", show_banner=False,
          log_level="ERROR", uvicorn_config={"access_log": False})
"""


@asynccontextmanager
async def _fastmcp(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
    port = free_port()
    async with running([str(_FASTMCP_PYTHON), "-c", _FASTMCP, str(port), *urls], port) as served:
        yield served


@asynccontextmanager
async def _mcp_proxy(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
    """It serves commands only, so its backend is the same script on stdin and stdout; that process is not counted."""
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR", "--cwd", str(ROOT), "--"]
    backend = [sys.executable, "-S", "-m", "bench.stdio_backend", "--journal", os.devnull]
    async with running([str(_found("mcp-proxy")), *words, *backend], port) as served:
        yield attrs.evolve(served, alone=True)


def _external(variable: str) -> Start:
    """A program that serves ``http://127.0.0.1:PORT/mcp``, given PORT and the URLs of the backends as its words."""

    @asynccontextmanager
    async def start(urls: Sequence[str], era: str) -> AsyncIterator[Served]:
        port = free_port()
        async with running([os.environ[variable], str(port), *urls], port) as served:
            yield served

    return start


def _found(program: str) -> Path | None:
    """A program of ``just bench-rivals``, or of the machine."""
    path = shutil.which(program, path=f"{ROOT}/.venv-bench/bin:{os.environ.get('PATH', '')}")
    return Path(path) if path else None


_FASTMCP_PYTHON: Final = ROOT / ".peers/fastmcp/bin/python"
_FASTMCP_VERSION: Final = "import importlib.metadata as m; print('FastMCP', m.version('fastmcp'))"
_EXTERNAL: Final = ("agentgateway", "Kuadrant", "ToolHive", "ContextForge")


def rivals() -> list[Rival]:
    """All, those included that cannot run here."""
    by_hand, nginx_path = "`just bench-rivals` installs it", nginx_program()
    fixed = [
        Rival(name="direct", start=_direct, merges=False, eras=("2025", "2026")),
        Rival(
            name="nginx",
            start=_nginx,
            version=[nginx_path or "nginx", "-v"],
            missing="" if nginx_path else "it is not installed",
            merges=False,
            eras=("2025", "2026"),
        ),
        Rival(name="mcp-gateway", start=_ours, eras=("2025", "2026")),
        Rival(
            name="Envoy's MCP filters",
            start=_envoy,
            version=[str(_found("envoy")), "--version"],
            missing="" if _found("envoy") else by_hand,
        ),
        Rival(
            name="FastMCP proxy",
            start=_fastmcp,
            version=[str(_FASTMCP_PYTHON), "-c", _FASTMCP_VERSION],
            missing="" if _FASTMCP_PYTHON.exists() else "`just peers` installs it",
            slow=True,
        ),
        Rival(
            name="mcp-proxy",
            start=_mcp_proxy,
            version=[str(_found("mcp-proxy")), "--version"],
            missing="" if _found("mcp-proxy") else by_hand,
            merges=False,
            without=(messages.WAIT,),
            slow=True,
        ),
    ]
    named = [(name, f"BENCH_{name.upper()}") for name in _EXTERNAL]
    outside = [
        Rival(
            name=name,
            start=_external(variable),
            version=[os.environ.get(variable, ""), "--version"],
            missing="" if os.environ.get(variable) else f"{variable} names no program",
        )
        for name, variable in named
    ]
    return fixed + outside


def present() -> list[Rival]:
    """Those that can run here."""
    return [rival for rival in rivals() if not rival.missing]


async def versions() -> dict[str, str]:
    """What those that can run here say they are, by name."""
    told = {rival.name: (rival.version[0], await said(rival.version)) for rival in present() if rival.version}
    found = {name: line.removeprefix(program).strip() for name, (program, line) in told.items()}
    return {
        "mcp-gateway": f"{mcp_gateway.__version__}, Python {platform.python_version()}, Trio {trio.__version__}"
    } | found
