"""The processes of a benchmark: backends, the gateway, nginx; and what they cost.

Owns starting them, stopping them by their own process id, and reading their CPU time and memory. Deliberately no
protocol. Invariant: no process outlives the block that started it.
"""

import json
import math
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Final

import attrs
import trio

from bench import messages

ROOT: Final = Path(__file__).parents[1]
READY_S: Final = 30.0
STOP_S: Final = 8.0
END_S: Final = 2.0
"""To see that a process has ended, after it has hung up."""
POLL_S: Final = 0.01
_SERVING: Final = re.compile(rb"serving.*?public=(\S+).*?admin=(\S+)")
_JSON: Final = b"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\r\n"
_HELLO: Final = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": messages.LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        },
    }
).encode()
_NGINX: Final = """
daemon off; pid {folder}/pid; error_log stderr crit; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 1000000;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@attrs.frozen(kw_only=True)
class Served:
    """A gateway process that is ready, ours or another."""

    pid: int
    """0: there is no process, the backend is asked directly."""
    host: str
    """HOST:PORT of the public listener."""
    admin: str = ""
    ready_s: float = math.nan
    """From starting the process to its being ready (ours: /readyz says 200; others: a handshake is answered)."""
    process: trio.Process | None = attrs.field(default=None, repr=False)
    config: Path = Path()
    """Of ours: written again to reload it."""
    alone: bool = False
    """Its children are not counted: one of them is the backend."""

    def cpu_s(self) -> float:
        """The CPU time of the process and what it has started."""
        if not self.pid:
            return 0.0
        return cpu_s(self.pid) if self.alone else cpu_of_family_s(self.pid)

    def rss_mib(self) -> float:
        """Its memory, the children's included."""
        if not self.pid:
            return 0.0
        return rss_mib(self.pid) if self.alone else sum(map(rss_mib, family(self.pid)))

    def reload(self, config: Mapping[str, object]) -> None:
        """Write our configuration anew, as editors and Kubernetes do: beside it, then renamed."""
        beside = self.config.with_suffix(".new")
        beside.write_text(_with_key(config))
        beside.rename(self.config)


@attrs.frozen(kw_only=True)
class Backends:
    """A process of scripted backends."""

    pid: int
    ports: tuple[int, ...]

    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}/mcp" for port in self.ports]


def cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, in seconds; nanoseconds where the kernel tells them."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:  # a kernel without schedstat: in hundredths of a second
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_of_family_s(pid: int) -> float:
    """As ``cpu_s``, with all that the process has started."""
    return sum(map(cpu_s, family(pid)))


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def waited_s(pid: int) -> float:
    """How long a process has been ready to run while others had the CPUs; NaN where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return math.nan


def rss_mib(pid: int) -> float:
    """The resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@asynccontextmanager
async def backends(
    era: str, *, count: int = 1, tools: int = 5, book: Path | None = None, delay_s: float = 0.0
) -> AsyncIterator[Backends]:
    """Run ``count`` scripted backends of one era in one process."""
    words = ["--era", era, "--count", str(count), "--tools", str(tools), "--journal", str(book or os.devnull)]
    words += ["--delay-s", str(delay_s)]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "bench.backends", *words], stdin=PIPE, stdout=PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        printed = b""
        with trio.fail_after(READY_S):
            while b"\n" not in printed:
                printed += await process.stdout.receive_some()
        yield Backends(pid=process.pid, ports=tuple(map(int, printed.split())))
    finally:
        with trio.move_on_after(STOP_S, shield=True):
            await _stop(process)


def _with_key(config: Mapping[str, object]) -> str:
    return json.dumps({"sessions": {"signingKeys": [{"value": "k" * 40}]}, **config})


@asynccontextmanager
async def gateway(config: Mapping[str, object]) -> AsyncIterator[Served]:
    """Run ``mcp-gateway serve`` on free ports, and wait until it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gateway.json"
        file.write_text(_with_key(config))
        began_at = time.perf_counter()
        binds = ["--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "mcp_gateway.cli", "serve", "--config", str(file), *binds],
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=ROOT,
        )
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(READY_S):
                    public, admin = await nursery.start(_read_log, process)
                    while not await _says_200(admin, "/readyz"):  # noqa: ASYNC110  # another process
                        await trio.sleep(POLL_S)
                ready_s = time.perf_counter() - began_at
                yield Served(pid=process.pid, host=public, admin=admin, ready_s=ready_s, process=process, config=file)
                nursery.cancel_scope.cancel("measured")
        finally:
            with trio.move_on_after(STOP_S, shield=True):
                await _stop(process)


@asynccontextmanager
async def nginx(backend_port: int) -> AsyncIterator[Served | None]:
    """Run nginx as a plain proxy of one backend; None where it is not installed."""
    program = nginx_program()
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        port, began_at = free_port(), time.perf_counter()
        file = Path(folder) / "nginx.conf"
        file.write_text(_NGINX.format(folder=folder, backend=backend_port, port=port))
        process = await trio.lowlevel.open_process([program, "-c", str(file), "-p", folder], stderr=DEVNULL)
        try:
            host = f"127.0.0.1:{port}"
            with trio.fail_after(READY_S):
                while not await _says_200(host, "/", b"DELETE"):  # noqa: ASYNC110  # another process
                    await trio.sleep(POLL_S)
            yield Served(pid=process.pid, host=host, ready_s=time.perf_counter() - began_at)
        finally:
            with trio.move_on_after(STOP_S, shield=True):
                await _stop(process)


def nginx_program() -> str | None:
    """Where nginx is installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@asynccontextmanager
async def running(command: Sequence[str], port: int) -> AsyncIterator[Served]:
    """Run a program that is to serve ``/mcp`` on this port, and wait until it answers a handshake."""
    began_at, host = time.perf_counter(), f"127.0.0.1:{port}"
    process = await trio.lowlevel.open_process(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, cwd=ROOT)
    try:
        with trio.fail_after(READY_S):
            while not await _says_200(host, "/mcp", b"POST", _HELLO):  # another process
                if process.poll() is not None:
                    raise RuntimeError(f"{command[0]} ended with {process.returncode}")
                await trio.sleep(POLL_S)
        yield Served(pid=process.pid, host=host, ready_s=time.perf_counter() - began_at, process=process)
    finally:
        with trio.move_on_after(STOP_S, shield=True):
            await _stop(process)


async def end_of(served: Served | None) -> str:
    """What became of the process."""
    if served is not None and served.process is not None:
        with trio.move_on_after(END_S):
            return f"; its process ended with {await served.process.wait()}"
    return ""


async def said(command: Sequence[str]) -> str:
    """The first line that a program prints of itself; empty when it says nothing."""
    try:
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    except OSError:
        return ""
    return next(iter((done.stdout + done.stderr).decode(errors="replace").strip().splitlines()), "").strip()


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def _read_log(
    process: trio.Process, task_status: trio.TaskStatus[tuple[str, str]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Find the addresses in the log, and keep reading it so that the gateway never waits for us."""
    assert process.stdout is not None
    printed, found = b"", False
    async for chunk in process.stdout:
        if not found:
            printed += chunk
            if match := _SERVING.search(printed):
                found = True
                task_status.started((match[1].decode(), match[2].decode()))
    if not found:
        raise RuntimeError(f"the gateway ended with {await process.wait()}:\n{printed.decode(errors='replace')}")


async def _says_200(host: str, path: str, verb: bytes = b"GET", body: bytes = b"") -> bool:
    name, _, port = host.rpartition(":")
    try:
        stream = await trio.open_tcp_stream(name, int(port))
    except OSError:
        return False
    async with stream:
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n" % (verb, path.encode(), host.encode(), len(body))
        await stream.send_all(head + _JSON + body)
        return (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")


async def _stop(process: trio.Process) -> None:
    """SIGTERM twice (the second one hastens a drain), then SIGKILL: to this process alone."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            with trio.move_on_after(STOP_S / 4):
                await process.wait()
