"""A small MCP client: greet a server, list its tools, call one.

Owns the client half of Streamable HTTP in both eras, as far as a command line
needs it. Deliberately no retries, no sampling, no elicitation and no standing
GET stream. Invariant: a session that was opened is ended, and a call that is
left early is cancelled in the server's own era's way, each within ``GOODBYE_S``.
Spec: MCP 2026-07-28 and 2025-11-25, basic/transports and basic/lifecycle.
"""

import json
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Final, TypeAlias

import attrs
import httpx2
import trio

from mcp_gateway import __version__
from mcp_gateway.errors import GatewayError, RemoteFault
from mcp_gateway.protocol.eras import ERAS, LEGACY_VERSIONS, NEWEST_LEGACY, NEWEST_MODERN, Era
from mcp_gateway.protocol.headers import HeaderFault, annotated, encode_value, mirror
from mcp_gateway.protocol.sse import SseDecoder
from mcp_gateway.protocol.wire_errors import METHOD_NOT_FOUND, UNSUPPORTED_VERSION
from mcp_gateway.values import Header, JsonObject, JsonValue

GOODBYE_S: Final = 2.0
CONNECT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 2**20
MAX_PAGES: Final = 100
MAX_RESUMES: Final = 100
RESUME_S: Final = 1.0
"""The pause before a resume, where the server gave none."""

_META: Final = "io.modelcontextprotocol/"
_IDENTITY: Final[JsonObject] = {"name": "mcp-gateway-cli", "version": __version__}

Hear: TypeAlias = Callable[[str, JsonObject], None]
"""Called with the method and params of each notification that belongs to a request."""


@attrs.frozen(kw_only=True, eq=False)
class Unreachable(GatewayError):
    """No answer: no such host, refused, reset, or the TLS handshake failed."""

    url: str
    why: str

    def __str__(self) -> str:
        return f"cannot reach {self.url}: {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class BadAnswer(GatewayError):
    """An answer that is not MCP, or not the one that was asked for."""

    url: str
    why: str

    def __str__(self) -> str:
        return f"{self.url} {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class Refused(GatewayError):
    """The server answered with a JSON-RPC error."""

    code: int
    message: str
    data: JsonValue = None

    def __str__(self) -> str:
        return f"the server answered error {self.code}: {self.message}"


@asynccontextmanager
async def open_client(url: str, headers: tuple[Header, ...] = ()) -> "AsyncIterator[Client]":
    """Greet the server at ``url``: modern first, else ``initialize``.

    The caller's scope is the only deadline. Errors of the greeting leave bare.

    Raises:
        Unreachable, BadAnswer, Refused.
    """
    # trust_env=False: what is typed is what is dialled
    timeout = httpx2.Timeout(None, connect=CONNECT_S)
    async with httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as http:
        client = Client(http, url, headers)
        try:
            await client.greet()
            yield client
        finally:
            with trio.move_on_after(GOODBYE_S, shield=True):
                await client.goodbye()


@attrs.define(eq=False)
class Client:
    """One conversation with one server."""

    _http: httpx2.AsyncClient
    url: str
    _headers: tuple[Header, ...] = attrs.field(repr=False)
    era: Era = NEWEST_MODERN
    server: JsonObject = attrs.field(factory=dict)
    """What the server said of itself: ``serverInfo``."""
    instructions: str = ""
    _session: str | None = attrs.field(default=None, repr=False)
    _greeted: bool = False
    _ids: "count[int]" = attrs.field(factory=lambda: count(1))

    async def greet(self) -> None:
        """Find out the era, and shake hands where it has that. Spec: 2026-07-28 basic/versioning."""
        if await self._discover():
            return
        self.era = NEWEST_LEGACY
        params: JsonObject = {"protocolVersion": self.era.version, "capabilities": {}, "clientInfo": _IDENTITY}
        hello = await self.request("initialize", params)
        version = hello.get("protocolVersion")
        # "If the client does not support the version in the server's response, it SHOULD disconnect."
        # -- MCP 2025-11-25, basic/lifecycle, Version Negotiation
        if version not in LEGACY_VERSIONS:
            raise BadAnswer(url=self.url, why=f"offered protocol version {str(version)[:40]!r}")
        self.era = ERAS[str(version)]
        self._greeted = True
        self._know(hello, hello.get("serverInfo"))
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def _discover(self) -> bool:
        """Whether the server speaks the modern era."""
        try:
            hello = await self.request("server/discover", {})
        except Refused as refused:
            if refused.code != UNSUPPORTED_VERSION:
                return False
            supported = refused.data.get("supported") if isinstance(refused.data, dict) else None
            return isinstance(supported, list) and self.era.version in supported
        except BadAnswer as bad:
            if "credential" in bad.why:
                raise
            return False
        versions = hello.get("supportedVersions")
        if not isinstance(versions, list) or self.era.version not in versions:
            return False
        self._greeted = True
        meta = hello.get("_meta")
        self._know(hello, meta.get(f"{_META}serverInfo") if isinstance(meta, dict) else None)
        return True

    def _know(self, hello: JsonObject, server: JsonValue) -> None:
        self.server = server if isinstance(server, dict) else {}
        instructions = hello.get("instructions")
        self.instructions = instructions if isinstance(instructions, str) else ""

    async def tools(self) -> list[JsonObject]:
        """Every tool of every page, in the server's order."""
        found: list[JsonObject] = []
        params: JsonObject = {}
        for _ in range(MAX_PAGES):
            page = await self.request("tools/list", params)
            tools = page.get("tools")
            if not isinstance(tools, list):
                raise BadAnswer(url=self.url, why="answered tools/list without tools")
            found.extend(tool for tool in tools if isinstance(tool, dict))
            # "an empty string is a valid cursor" -- MCP 2026-07-28, server/utilities/pagination
            if page.get("nextCursor") is None or page.get("nextCursor") == params.get("cursor"):
                return found
            params = {"cursor": page["nextCursor"]}
        raise BadAnswer(url=self.url, why=f"has more than {MAX_PAGES} pages of tools")

    async def call(self, name: str, arguments: JsonObject, schema: JsonValue, hear: Hear) -> JsonObject:
        """Call one tool; ``schema`` is its ``inputSchema``, which may mirror arguments into headers."""
        headers: tuple[Header, ...] = ()
        if self.era.modern:
            try:
                headers = ((b"Mcp-Name", encode_value(name)), *mirror(annotated(schema), arguments))
            except HeaderFault as fault:
                raise BadAnswer(url=self.url, why=f"has a tool that cannot be called: {fault}") from fault
        params: JsonObject = {"name": name, "arguments": arguments, "_meta": {"progressToken": 1}}
        return await self.request("tools/call", params, headers, hear)

    async def request(
        self, method: str, params: JsonObject, headers: tuple[Header, ...] = (), hear: Hear | None = None
    ) -> JsonObject:
        """Send one request and wait for its result.

        Raises:
            Unreachable, BadAnswer, Refused.
        """
        request_id = next(self._ids)
        if self.era.modern:
            headers = ((b"Mcp-Method", method.encode()), *headers)
            params = {**params, "_meta": _modern_meta(params.get("_meta"))}
        message: JsonObject = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        answered = False
        try:
            answer = await self._exchange(message, headers, hear)
            answered = True
        finally:
            if not answered and method == "tools/call" and not self.era.modern and _cancelled():
                with trio.move_on_after(GOODBYE_S, shield=True):
                    await self._give_up(request_id)
        error = answer.get("error")
        if isinstance(error, dict):
            code, why = error.get("code"), error.get("message")
            raise Refused(code=code if isinstance(code, int) else 0, message=str(why), data=error.get("data"))
        result = answer.get("result")
        if not isinstance(result, dict):
            raise BadAnswer(url=self.url, why=f"answered {method} without a result")
        return result

    async def _exchange(self, message: JsonObject, headers: tuple[Header, ...], hear: Hear | None) -> JsonObject:
        decoder = SseDecoder(MAX_ANSWER_BYTES)
        async with self._stream("POST", headers, json.dumps(message).encode()) as response:
            self._check_status(response)
            if message["method"] == "initialize":
                self._session = response.headers.get("mcp-session-id")
            if not _is(response, "text/event-stream"):
                return self._object(await self._body(response), response.status_code)
            answer = await self._listen(response, decoder, message["id"], hear)
        for _ in range(MAX_RESUMES):
            if answer is not None or decoder.last_event_id is None or not self.era.resumable:
                break
            # "the client MUST respect the retry field" -- MCP 2025-11-25, basic/transports, Sending Messages
            await trio.sleep(RESUME_S if decoder.retry_ms is None else decoder.retry_ms / 1000)
            resume = ((b"Last-Event-ID", decoder.last_event_id.encode()),)
            async with self._stream("GET", resume, b"") as response:
                self._check_status(response)
                if not _is(response, "text/event-stream"):
                    break
                answer = await self._listen(response, decoder, message["id"], hear)
        if answer is None:
            raise BadAnswer(url=self.url, why="ended the stream without an answer")
        return answer

    async def _listen(
        self, response: httpx2.Response, decoder: SseDecoder, request_id: JsonValue, hear: Hear | None
    ) -> JsonObject | None:
        """Read one stream up to the answer; None if it ended before."""
        async for chunk in response.aiter_bytes():
            try:
                events = decoder.feed(chunk)
            except RemoteFault as fault:
                raise BadAnswer(url=self.url, why=f"sent {fault}") from fault
            for event in events:
                if not event.data:
                    continue
                message = self._object(event.data, 200)
                method, params = message.get("method"), message.get("params")
                if not isinstance(method, str):
                    # Ids of errors are not reliable ("server-error", null): on this stream there is one answer.
                    if message.get("id") == request_id or "error" in message:
                        return message
                elif "id" in message:
                    await self._answer(method, message["id"])
                elif hear is not None:
                    hear(method, params if isinstance(params, dict) else {})
        return None

    async def _answer(self, method: str, request_id: JsonValue) -> None:
        """Answer a server's request: pings politely, everything else not at all."""
        answer: JsonObject = {"jsonrpc": "2.0", "id": request_id}
        if method == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": METHOD_NOT_FOUND, "message": "this client has no such capability"}
        await self._post(answer)

    async def _give_up(self, request_id: int) -> None:
        params: JsonObject = {"requestId": request_id, "reason": "cancelled by the user"}
        notice: JsonObject = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        try:
            await self._post(notice)
        except Unreachable:
            return  # it cannot be told, and nobody is left to complain to

    async def goodbye(self) -> None:
        """End the session, if there is one. "Clients ... SHOULD send an HTTP DELETE" -- 2025-11-25, transports"""
        if self._session is None:
            return
        try:
            async with self._stream("DELETE", (), b""):
                self._session = None
        except Unreachable:
            return

    async def _post(self, message: JsonObject) -> None:
        """Send what has no answer."""
        async with self._stream("POST", (), json.dumps(message).encode()):
            return

    @asynccontextmanager
    async def _stream(self, verb: str, headers: tuple[Header, ...], content: bytes) -> AsyncIterator[httpx2.Response]:
        """One HTTP exchange; the only place that knows how httpx2 fails."""
        own: list[Header] = [(b"Accept", b"application/json, text/event-stream")]
        if content:
            own.append((b"Content-Type", b"application/json"))
        if self.era.modern or (self._greeted and self.era.version_header):
            own.append((b"MCP-Protocol-Version", self.era.version.encode()))
        if self._session is not None:
            own.append((b"Mcp-Session-Id", self._session.encode()))
        request = [*own, *headers, *self._headers]
        try:
            async with self._http.stream(verb, self.url, headers=request, content=content or None) as response:
                yield response
        except httpx2.InvalidURL as exc:
            raise Unreachable(url=self.url, why="this is no URL") from exc
        except httpx2.TransportError as exc:
            raise Unreachable(url=self.url, why=_why(exc)) from exc

    def _check_status(self, response: httpx2.Response) -> None:
        status = response.status_code
        if status in (401, 403):
            raise BadAnswer(url=self.url, why=f"asks for a credential (HTTP {status}); give one with --header")
        if 300 <= status < 400:
            raise BadAnswer(url=self.url, why=f"redirects (HTTP {status}) to {response.headers.get('location')}")
        if not _is(response, "application/json") and not _is(response, "text/event-stream"):
            raise BadAnswer(url=self.url, why=f"does not speak MCP: HTTP {status} without JSON")

    async def _body(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise BadAnswer(url=self.url, why=f"answered more than {MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    def _object(self, content: bytes, status: int) -> JsonObject:
        try:
            message: JsonValue = json.loads(content)
        except (ValueError, RecursionError) as exc:
            raise BadAnswer(url=self.url, why="answered something that is not JSON") from exc
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise BadAnswer(url=self.url, why=f"does not speak MCP: HTTP {status} without a JSON-RPC message")
        return message


def _modern_meta(given: JsonValue) -> JsonObject:
    """ "Every request carries its version and the client's capabilities." -- MCP 2026-07-28, basic"""
    own: Mapping[str, JsonValue] = {
        f"{_META}protocolVersion": NEWEST_MODERN.version,
        f"{_META}clientCapabilities": {},
        f"{_META}clientInfo": _IDENTITY,
    }
    return {**(given if isinstance(given, dict) else {}), **own}


def _cancelled() -> bool:
    """Whether the surrounding scope is being left because it was cancelled."""
    return trio.current_effective_deadline() == -math.inf


def _is(response: httpx2.Response, media_type: str) -> bool:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower() == media_type


def _why(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.UnsupportedProtocol):
        return "the URL must begin with http:// or https://"
    if isinstance(error, httpx2.ConnectTimeout):
        return f"no answer within {CONNECT_S:g} s"
    return str(error) or type(error).__name__
