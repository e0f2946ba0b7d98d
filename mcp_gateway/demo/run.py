"""``mcp-gateway demo``: two servers, a gateway, and what to type next.

Owns the example configuration and the text. Deliberately starts the gateway the
way ``serve`` does, from a file. Invariant: nothing is left behind, neither files
nor processes nor ports; however the demo ends.
"""

import json
import secrets
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

import click
import httpx2
import trio

from mcp_gateway.app import Options
from mcp_gateway.app import serve as serve_gateway
from mcp_gateway.config.watch import FileSource
from mcp_gateway.demo import http_server

PORTS: Final = 100
"""How many ports above the wanted one are tried."""
READY_S: Final = 5.0

CONFIGURATION: Final = """\
# Two servers behind one endpoint. Change this file while the demo runs: it reloads within a second.
servers:
  - name: calc
    url: {url}
  - name: clock
    command: {command}
sessions: {{signingKeys: [{{value: {key}}}]}}
drain: {{grace: 1s}}
"""

TEXT: Final = """\
mcp-gateway demo
  calc   an HTTP server at {calc}, its tools are calc_...
  clock  a child process of the gateway, its tools are clock_...
  config {config}
  MCP    {url}
  admin  {admin}

Try it with the client that comes along:
  {program} tools {url}
  {program} call {url} calc_add --arg a=2 --arg b=3
  {program} call {url} calc_countdown --arg from=3
  {program} status {admin}

or with curl: open a session, list the tools, call one
  SESSION=$(curl -s -D - -o /dev/null {url} \\
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\
    -d '{initialize}' \\
    | tr -d '\\r' | awk 'tolower($1) == "mcp-session-id:" {{print $2}}')
  curl -s {url} -H "Mcp-Session-Id: $SESSION" \\
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\
    -d '{{"jsonrpc":"2.0","id":2,"method":"tools/list"}}'
  curl -s {url} -H "Mcp-Session-Id: $SESSION" \\
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \\
    -d '{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":"clock_now","arguments":{{}}}}}}'

Ctrl-C ends everything.
"""
_INITIALIZE: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "curl", "version": "1"}},
}


async def run(bind: str, admin_bind: str) -> None:
    """Serve until SIGINT or SIGTERM. Raises what ``app.serve`` raises, in a group."""
    public, admin = free_bind(bind), free_bind(admin_bind, besides=bind)
    for wanted, found in ((bind, public), (admin_bind, admin)):
        if found != wanted:
            click.echo(f"{wanted} is taken, using {found}", err=True)
    with tempfile.TemporaryDirectory(prefix="mcp-gateway-demo-") as folder:
        config = Path(folder) / "gateway.yaml"
        async with trio.open_nursery() as nursery:
            calc = await nursery.start(http_server.serve, "127.0.0.1:0")
            config.write_text(configuration(calc))  # a few bytes, before anything is served
            options = Options(
                source=FileSource(path=config, environ={}), bind=public, admin_bind=admin, log_level="warning"
            )

            async def gateway(*, task_status: trio.TaskStatus[object]) -> None:
                await serve_gateway(options, task_status=task_status)
                nursery.cancel_scope.cancel("the gateway ended")

            addresses = await nursery.start(gateway)
            url, admin_url = f"http://{addresses.public}", f"http://{addresses.admin}"
            await until_ready(url)
            click.echo(
                TEXT.format(
                    program=program(),
                    calc=calc,
                    config=config,
                    url=f"{url}/mcp",
                    admin=admin_url,
                    initialize=json.dumps(_INITIALIZE),
                )
            )


def program() -> str:
    """How the reader can start this program again: by name if it is found, else as it was started now."""
    return "mcp-gateway" if shutil.which("mcp-gateway") else sys.argv[0]


def configuration(calc_url: str) -> str:
    """The configuration file of the demo."""
    command = [sys.executable, "-m", "mcp_gateway.demo.stdio_server"]
    return CONFIGURATION.format(url=calc_url, command=json.dumps(command), key=secrets.token_hex())


def free_bind(bind: str, besides: str = "") -> str:
    """``bind`` itself if it can be listened on, else the next port that can; ``bind`` if there is none.

    Somebody may take the port in between; then the gateway says so, as it would without the demo.
    """
    host, _, port = bind.rpartition(":")
    name = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    for candidate in range(int(port), min(int(port) + PORTS, 65536)) if int(port) else ():
        found = f"{host}:{candidate}"
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((name, candidate))
            except OSError:
                continue
        if found != besides:
            return found
    return bind


async def until_ready(url: str) -> None:
    """Wait until the first discovery is done, so that the first command finds every tool; not for long."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        with trio.move_on_after(READY_S):
            try:
                while (await client.get(f"{url}/readyz")).status_code != 200:  # noqa: ASYNC110  # another server's state
                    await trio.sleep(0.05)
            except httpx2.TransportError:
                return  # it is ending already
