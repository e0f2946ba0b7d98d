"""A long call survives a proxy that drops what is quiet: 3 minutes against 60 s, here 3 s against 1 s."""

import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from tests.support import load, peers
from tests.support.gateway import running_gateway
from tests.support.raw_client import Client2025, Client2026, Exchange, Message, connect2025, connect2026
from tests.support.recorder import Recorder, recorder

pytestmark = [pytest.mark.wire, pytest.mark.slow]

QUIET_S = 1.0
CALL_S = 3.0
KEEP_ALIVE = "400ms"


@asynccontextmanager
async def stand_in(upstream: str) -> AsyncIterator[str]:
    """A proxy of 20 lines that cuts a connection on which the server has said nothing for ``QUIET_S``."""
    where = urlsplit(upstream)

    async def pipe(client: trio.SocketStream) -> None:
        async with client, await trio.open_tcp_stream(where.hostname or "", where.port or 0) as server:
            async with trio.open_nursery() as nursery:

                async def up() -> None:
                    async for chunk in client:
                        await server.send_all(chunk)

                nursery.start_soon(up)
                while True:
                    chunk = b""
                    with trio.move_on_after(QUIET_S):
                        chunk = await server.receive_some(65536)
                    if not chunk:
                        break
                    await client.send_all(chunk)
                nursery.cancel_scope.cancel("quiet for too long")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, pipe, 0)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp"
        nursery.cancel_scope.cancel("test over")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@asynccontextmanager
async def nginx(upstream: str, folder: Path) -> AsyncIterator[str]:
    """nginx with its defaults, but for the time after which it gives up a quiet server."""
    peers.require("nginx")
    load.keep_real_time()
    port, where = free_port(), urlsplit(upstream)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
        events {{ worker_connections 64; }}
        http {{ {temporary} access_log off; server {{
            listen 127.0.0.1:{port};
            location / {{ proxy_pass http://{where.netloc}; proxy_http_version 1.1; proxy_set_header Host $host;
                proxy_set_header Connection ""; proxy_read_timeout {QUIET_S:g}s; }}
        }} }}
    """)
    process = await trio.lowlevel.open_process(
        [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"],
        start_new_session=True,
    )
    try:
        with trio.fail_after(5):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await trio.sleep(0.02)  # another process: it can only be asked again
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        with trio.move_on_after(2 * peers.STOP_S, shield=True):
            await peers.stop(process)


async def answered_through(url: str, backend: Recorder) -> dict[str, list[Message]]:
    """What each client hears of a call that its server answers after ``CALL_S``; modern ones of a listen stream too."""
    heard: dict[str, list[Message]] = {}

    async def call(name: str, client: Client2025 | Client2026, server: str) -> None:
        exchange = await client.start("tools/call", name=f"{server}_wait", arguments={"x": name})
        assert exchange.streams
        heard[name] = await exchange.all()

    async def hold(name: str, exchange: Exchange) -> None:
        with trio.move_on_after(CALL_S):
            heard[name] = await exchange.all()
            raise AssertionError(f"{name} was cut: {heard[name]}")

    async with connect2025(url) as new, connect2025(url, "2025-03-26") as old, connect2026(url) as modern:
        await new.initialize()
        await old.initialize()
        async with trio.open_nursery() as nursery:
            stream = await new.stream()
            await stream.next_event()
            nursery.start_soon(hold, "GET stream", stream)
            nursery.start_soon(hold, "listen stream", await modern.listen(toolsListChanged=True))
            for server in ("old", "new"):
                nursery.start_soon(call, f"2025-11-25 {server}", new, server)
                nursery.start_soon(call, f"2025-03-26 {server}", old, server)
                nursery.start_soon(call, f"2026-07-28 {server}", modern, server)
            await backend.until_arrived(6)
            await trio.sleep(CALL_S)
            backend.release.set()
    return heard


@pytest.mark.parametrize("proxy", [pytest.param("nginx", marks=pytest.mark.nginx), "stand-in"])
async def test_a_call_survives_a_proxy_that_drops_quiet_connections(proxy: str, tmp_path: Path) -> None:
    async with recorder() as backend, running_gateway(backend.entries(), http={"keepAlive": KEEP_ALIVE}) as running:
        through = nginx(running.url, tmp_path) if proxy == "nginx" else stand_in(running.url)
        async with through as url:
            heard = await answered_through(url, backend)
    assert backend.told == []
    assert len(heard) == 6
    for name, messages in heard.items():
        assert [message["result"]["content"][0]["text"] for message in messages] == [f"{name.split()[1]}:{name}"]


@pytest.mark.nginx
async def test_without_a_sign_of_life_the_proxy_would_have_cut_the_call(tmp_path: Path) -> None:
    async with recorder() as backend, running_gateway(backend.entries(), http={"keepAlive": "60s"}) as running:
        async with nginx(running.url, tmp_path) as url, connect2026(url) as modern:
            answer = await modern.start("tools/call", name="new_wait", arguments={})
            assert answer.status == 504
            with trio.fail_after(2):
                await backend.until_told(1)  # and the server has been told
