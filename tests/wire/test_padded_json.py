"""Servers that send JSON as lines, behind a mark of byte order, or in a buffer that is not full."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.fleet import Fleet
from mcp_gateway.config.spec import HttpTarget, ServerSpec
from mcp_gateway.errors import BackendProtocol
from mcp_gateway.routing.snapshot import Health
from mcp_gateway.values import BackendKey
from tests.support.http_links import ACCEPTED, fixed, legacy, legacy_link, no_stream, nothing
from tests.support.http_links import call as outgoing
from tests.support.raw_http import RawConnection, RawRequest, Script, response, result, serve_raw
from tests.support.scripted_link import CALL, caller, deaf
from tests.wire.test_backends import fleet_of, initialized

pytestmark = pytest.mark.wire

KEY = BackendKey("peer")
DISCOVERED = (
    b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},'
    b'"ttlMs":60000,"cacheScope":"public"}'
)
UNKNOWN = b'{"jsonrpc":"2.0","id":%d,"error":{"code":-32601,"message":"no such method"}}'
PADDINGS = [
    pytest.param(b"", b"\n", id="a line"),
    pytest.param(b"\r\n", b"\r\n\r\n", id="lines around it"),
    pytest.param(b" " * 2000, b" " * 2000, id="spaces"),
    pytest.param(b"\xef\xbb\xbf", b"", id="a mark of byte order"),
    pytest.param(b"\x1e", b"\n", id="a text sequence of one"),
    pytest.param(b"", b"\0" * 512, id="zeros"),
]


def padded(before: bytes, after: bytes, *, modern: bool) -> Script:
    """A server that pads each of its answers, errors too."""

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method != "POST":
                await no_stream(connection, request)
            elif "id" not in request.json:
                await connection.send(ACCEPTED)
            else:
                status = "404 Not Found" if request.json["method"] == "prompts/list" else "200 OK"
                await connection.send(response(before + answer(request) + after, status=status))

    def answer(request: RawRequest) -> bytes:
        match request.json["method"]:
            case "server/discover" if modern:
                return result(request.rpc_id, DISCOVERED)
            case "server/discover" | "prompts/list":
                return UNKNOWN % request.rpc_id
            case "initialize":
                return initialized(request)
            case _:
                return result(request.rpc_id, b'{"resultType":"complete","tools":[],"content":[]}')

    return script


@asynccontextmanager
async def backend_of(before: bytes, after: bytes, *, modern: bool) -> AsyncIterator[tuple[Fleet, Backend]]:
    async with serve_raw(padded(before, after, modern=modern)) as server:
        async with fleet_of(ServerSpec(key=KEY, target=HttpTarget(url=server.url))) as (fleet, backend):
            yield fleet, backend


@pytest.mark.parametrize("modern", [pytest.param(False, id="2025"), pytest.param(True, id="2026")])
@pytest.mark.parametrize("before, after", PADDINGS)
async def test_what_is_around_one_message_is_no_part_of_it(before: bytes, after: bytes, modern: bool) -> None:
    async with backend_of(before, after, modern=modern) as (fleet, backend):
        assert backend.snapshot.health is Health.READY, fleet.status(KEY)["last_error"]
        answer = await backend.exchange(caller("one"), CALL, deaf)
        assert (answer.raw[:1], answer.raw[-1:]) == (b"{", b"}")


@pytest.mark.parametrize("before, after", PADDINGS)
async def test_a_padded_refusal_is_the_servers_own(before: bytes, after: bytes) -> None:
    refusal = before + UNKNOWN % 2 + after
    async with legacy_link(legacy(fixed(refusal, "400 Bad Request"))) as (link, _):
        assert b"no such method" in (await link.exchange(outgoing(), nothing)).raw


@pytest.mark.parametrize("between", [b"\n", b"\n\x1e", b""])
async def test_two_messages_on_lines_are_not_one(between: bytes) -> None:
    async with legacy_link(legacy(fixed(result(2) + between + result(2) + b"\n"))) as (link, _):
        with pytest.raises(BackendProtocol, match="not JSON-RPC"):
            await link.exchange(outgoing(), nothing)
