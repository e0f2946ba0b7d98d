"""What stands between our programs and the real API server, and spoils what a test wants spoilt.

Owns a TLS listener that passes every request on as it came, remembers it, and can refuse it, hold it, lose its answer,
or cut watches. Deliberately invents no answer but refusals: everything else is the real server's. Invariant: a request
that no rule spoils reaches the server once, unchanged, and so does its answer.

A rule runs in the request's own thread, so one that waits holds that request alone.
"""

import contextlib
import http.client
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

import attrs

from tests.support.kube.apiserver import ApiServer

_HOP: Final = frozenset({"connection", "transfer-encoding", "content-length", "host"})


@attrs.frozen(kw_only=True)
class Request:
    """One request of a program."""

    verb: str
    target: str
    """Path and query."""
    agent: str
    """Whose: ``mcp-gateway-controller`` or ``mcp-gateway-broker-router``."""
    body: bytes = attrs.field(repr=False)
    at: float = attrs.field(factory=time.monotonic)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def watches(self) -> bool:
        return "watch=1" in self.target

    @property
    def writes(self) -> bool:
        return self.verb != "GET"


@attrs.frozen(kw_only=True)
class Refusal:
    """What is answered instead of the server's word."""

    status: int
    reason: str
    retry_after_s: int | None = None


class Lost(Exception):  # what became of it, not an error of the test
    """Raised by ``answered``: the server has carried it out, and its answer never comes."""


Rule: TypeAlias = Callable[[Request], Refusal | None]
Answered: TypeAlias = Callable[[Request, int], None]


class Interference:
    """Use as a context; programs dial ``url``."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.rule: Rule = lambda request: None
        self.answered: Answered = lambda request, status: None
        self.away = False
        """Nobody gets through."""
        self.seen: queue.SimpleQueue[tuple[Request, int]] = queue.SimpleQueue()
        """Every request with the status that the program got; 0: none."""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.away = True
        self.cut()
        self._server.shutdown()
        self._server.server_close()

    def cut(self) -> int:
        """End every watch that is open, in the middle of whatever it says; returns how many there were."""
        with self._lock:
            found = list(self._open)
        for sock in found:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        return len(found)

    def leave(self) -> None:
        """Let nobody through any more."""
        self.away = True
        self.cut()

    def taken(self) -> list[tuple[Request, int]]:
        """What was asked since this was last called."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self.seen.get_nowait())
        return found

    @contextlib.contextmanager
    def spoiling(self, rule: Rule) -> Iterator[None]:
        """Obey a rule for as long as the block lives."""
        self.rule = rule
        try:
            yield
        finally:
            self.rule = lambda request: None

    @contextlib.contextmanager
    def watched_over(self, *sockets: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.update(sockets)
        try:
            yield
        finally:
            with self._lock:
                self._open.difference_update(sockets)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, way: Interference) -> None:
        self.way = way
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(way.api.folder / "server.crt", way.api.folder / "server.key")
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A program that left is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _through(self) -> _Server:
        assert isinstance(self.server, _Server)
        return self.server

    def setup(self) -> None:
        raw = self.request
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = self._through.context.wrap_socket(raw, server_side=True)
        api = self._through.way.api
        # With no certificate of its own: the program's token is what the server sees.
        trust = ssl.create_default_context(cafile=api.folder / "ca.crt")
        self._upstream = http.client.HTTPSConnection("127.0.0.1", api.port, timeout=120, context=trust)
        super().setup()

    def finish(self) -> None:
        self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()
        self.request.close()  # the server knows only the socket below TLS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Says nothing."""

    def _pass_on(self) -> None:
        way = self._through.way
        length = int(self.headers.get("content-length") or 0)
        request = Request(
            verb=self.command,
            target=self.path,
            agent=self.headers.get("user-agent", ""),
            body=self.rfile.read(length) if length else b"",
        )
        self.close_connection = True  # unless all goes well
        refusal = way.rule(request)
        if way.away:
            way.seen.put((request, 0))
            return
        if refusal is not None:
            self._refuse(request, refusal)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        try:
            self._upstream.request(request.verb, request.target, request.body or None, headers)
            answer = self._upstream.getresponse()
            if request.watches and answer.status == http.HTTPStatus.OK:
                way.seen.put((request, answer.status))
                self._stream(answer)
                return
            content = answer.read()
            way.answered(request, answer.status)
        except (OSError, http.client.HTTPException, Lost):
            way.seen.put((request, 0))
            return
        way.seen.put((request, answer.status))
        self.close_connection = False
        self._answer(answer.status, dict(answer.headers.items()), content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # the base's names

    def _refuse(self, request: Request, refusal: Refusal) -> None:
        self._through.way.seen.put((request, refusal.status))
        said = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": refusal.status,
            "reason": refusal.reason,
            "message": "spoilt by the test",
        }
        headers = {"content-type": "application/json"}
        if refusal.retry_after_s is not None:
            headers["retry-after"] = str(refusal.retry_after_s)
        self.close_connection = False
        self._answer(refusal.status, headers, json.dumps(said).encode())

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, answer: http.client.HTTPResponse) -> None:
        upstream = self._upstream.sock
        assert upstream is not None
        with self._through.way.watched_over(self.request, upstream), contextlib.suppress(OSError):
            self.send_response_only(answer.status)
            self.send_header("content-type", answer.headers.get("content-type", "application/json"))
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while some := answer.read1(65536):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(some), some))
            self.wfile.write(b"0\r\n\r\n")
