"""Invariants 3 and 6 through the whole gateway, bytes against bytes, for every pair of eras."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import pytest

from tests.support.gateway import Running, running_gateway
from tests.support.raw_client import BOTH, Exchange, RawClient
from tests.support.raw_http import serve_raw
from tests.support.verbatim import SESSION, Verbatim

pytestmark = [pytest.mark.wire]

ODD: Final = (
    rb'{"z":1,"a":{"$ref":"#/$defs/x"},"big":123456789012345678901234567890,"huge":1e400,"tiny":-1E-400,'
    rb'"fraction":0.100000000000000000000001,"zero":-0.0,"one":1.0,"lone":"\ud800 \udc00","twice":1,"twice":2,'
    rb'"\u0061scaped":"\u00e9\/","plain":"' + "é€😀".encode() + rb'","nothing":null,"deep":[[[[[[{"b":[],"a":{}}]]]]]]}'
)
"""A value that most parsers refuse, round or reorder."""
TRACE: Final = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
META: Final = b'"vendor.example/odd":%b,"traceparent":"%b","baggage":"a=1"' % (ODD, TRACE)
MODERN_META: Final = (
    rb'"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
    rb'"io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},'
)
PAIRS: Final = [
    pytest.param(client, backend, id=f"{client} client, {backend} backend")
    for client in ("2025", "2026")
    for backend in ("2025", "2026")
]


@attrs.frozen(kw_only=True)
class Pair:
    """A gateway between a raw client of one era and a verbatim backend of another."""

    running: Running
    backend: Verbatim
    client: RawClient
    modern: bool

    async def ask(self, method: bytes, members: bytes, id_raw: bytes = b"7") -> Exchange:
        """Send a request whose params hold these raw members."""
        meta = (MODERN_META if self.modern else b"") + META
        body = b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":{%b"_meta":{%b}}}' % (id_raw, method, members, meta)
        headers = {"Accept": BOTH}
        if self.modern:
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method.decode()}
            headers |= {"Mcp-Name": "v_t"} if method == b"tools/call" else {}
        return await self.client.http("POST", body, headers)


@asynccontextmanager
async def between(client: str, backend: str, script: Verbatim | None = None, **entry: object) -> AsyncIterator[Pair]:
    """Start everything; the 2025 client has its session."""
    verbatim = script or Verbatim(modern=backend == "2026")
    verbatim.modern = backend == "2026"
    protocol = "2026-07-28" if verbatim.modern else "2025-11-25"
    async with serve_raw(verbatim) as server:
        servers = [{"name": "v", "url": server.url, "protocol": protocol, **entry}]
        async with running_gateway(servers) as running:
            opened = running.client2026() if client == "2026" else running.client2025()
            async with opened as raw:
                if client == "2025":
                    async with running.client2025() as first:
                        await first.initialize()
                        raw.headers |= first.headers
                yield Pair(running=running, backend=verbatim, client=raw, modern=client == "2026")


@pytest.mark.parametrize("client, backend", PAIRS)
async def test_invariant_6_arguments_arrive_as_they_were_sent(client: str, backend: str) -> None:
    """Acceptance case K-181."""
    async with between(client, backend) as pair:
        arguments = b'"name":"v_t","arguments":%b,"vendor":%b,' % (ODD, ODD)
        answer = await pair.ask(b"tools/call", arguments)
        assert answer.status == 200, answer.raw
        (sent,) = pair.backend.calls
        assert b'"arguments":' + ODD in sent.body
        assert b'"vendor":' + ODD in sent.body
        assert META in sent.body
        assert b'"name":"t"' in sent.body
        assert list(re.findall(rb'"(name|arguments|vendor|_meta)":', sent.body.replace(ODD, b"0")))[:3] == [
            b"name", b"arguments", b"vendor",
        ]  # fmt: skip


@pytest.mark.parametrize("client, backend", PAIRS)
async def test_invariant_6_results_arrive_as_they_were_sent(client: str, backend: str) -> None:
    """Acceptance cases K-144, K-180."""
    content = b'"content":[{"type":"text","text":"x","vendor":%b},{"type":"hologram","data":%b}]' % (ODD, ODD)
    members = content + b',"structuredContent":%b,"isError":false,"vendor":%b' % (ODD, ODD)
    modern = b'"resultType":"complete",' if backend == "2026" else b""
    script = Verbatim(modern=False, answer=b'"result":{%b%b,"_meta":{"vendor":%b}}' % (modern, members, ODD))
    async with between(client, backend, script) as pair:
        answer = await pair.ask(b"tools/call", b'"name":"v_t",', id_raw=b'"\\u0061 9"')
        assert members in answer.raw
        assert b'"vendor":%b' % ODD in answer.raw.split(b'"_meta"')[1]
        assert b'"id":"\\u0061 9"' in answer.raw  # the client's own spelling


@pytest.mark.parametrize("client, backend", PAIRS)
async def test_invariant_6_errors_and_notices_arrive_as_they_were_sent(client: str, backend: str) -> None:
    error = rb'"error":{"code":-31234,"message":"\ud800 no","data":%b,"vendor":%b}' % (ODD, ODD)
    progress = rb'"progress":1e400,"vendor":%b' % ODD
    notice = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":TOKEN,%b}}' % progress
    script = Verbatim(modern=False, answer=error, notices=(notice,))
    async with between(client, backend, script) as pair:
        meta = b'"_meta":{"progressToken":"mine",' + (MODERN_META if pair.modern else b"") + META + b"}"
        body = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"v_t",%b}}' % meta
        headers = {"Accept": BOTH}
        if pair.modern:
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "v_t"}
        answer = await pair.client.http("POST", body, headers)
        said = b""
        while (event := await answer.next_event()) is not None:
            said += event.get("data", "").encode() + b"\n"
        assert progress in said
        assert b'"progressToken":"mine"' in said
        assert error in said


@pytest.mark.parametrize("client, backend", PAIRS)
async def test_invariant_6_schemas_are_listed_as_they_were_sent(client: str, backend: str) -> None:
    schema = rb'{"type":"object","$defs":{"x":%b},"properties":{"b":{"$ref":"#/$defs/x"},"a":{"const":1e400}}}' % ODD
    members = b'"description":"d","inputSchema":%b,"vendor":%b,"annotations":{"vendor":%b}' % (schema, ODD, ODD)
    async with between(client, backend, Verbatim(modern=False, tool=b'{"name":"t",%b}' % members)) as pair:
        answer = await pair.ask(b"tools/list", b"")
        assert b'{"name":"v_t",%b}' % members in answer.raw


@pytest.mark.parametrize("client, backend", PAIRS)
async def test_invariant_3_nothing_crosses_that_nobody_let_through(client: str, backend: str) -> None:
    """Tokens, cookies and headers of the client stay here; session ids and headers of the backend too."""
    secret = b"Set-Cookie: backend=1\r\nX-Backend: secret\r\nServer: hidden\r\n"
    entry = {
        "credential": {"value": "Bearer of-the-backend"},
        "headers": {"X-Team": "red"},
        "forwardHeaders": ["x-request-id"],
    }
    async with between(client, backend, Verbatim(modern=False, headers=secret), **entry) as pair:
        pair.client.headers |= {"Authorization": "Bearer of-the-client", "Cookie": "client=1"}
        pair.client.headers |= {"X-Other": "mine", "X-Request-Id": "r-1"}
        answer = await pair.ask(b"tools/call", b'"name":"v_t",')
        assert answer.status == 200, answer.raw
        everything = (str(answer.headers) + str(answer.raw)).lower()
        for word in (SESSION.decode(), "set-cookie", "x-backend", "hidden", "of-the-backend"):
            assert word.lower() not in everything
        (sent,) = pair.backend.calls
        assert sent.headers["authorization"] == "Bearer of-the-backend"
        assert sent.headers["x-team"] == "red"
        assert sent.headers["x-request-id"] == "r-1"
        assert "cookie" not in sent.headers
        assert "x-other" not in sent.headers
        for request in pair.backend.requests:
            assert b"of-the-client" not in request.body
            assert "Bearer of-the-client" not in request.headers.values()
            assert pair.client.headers.get("Mcp-Session-Id", "no session") not in request.headers.values()
