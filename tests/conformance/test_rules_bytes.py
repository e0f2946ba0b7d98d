"""Reference 1.2 and 1.4, as far as it takes raw bytes: headers twice, folded or beyond ASCII, framing, verbs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import orjson
import pytest
import trio

from tests.conformance.wire_backend import modern_backend, tool, wire_backend
from tests.support.front import Wire
from tests.support.gateway import running_gateway
from tests.support.raw_client import MODERN, Message

pytestmark = pytest.mark.wire

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
LIST = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/list",
        "params": {
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        },
    }
)
VERSION = f"MCP-Protocol-Version: {MODERN}"


@attrs.frozen
class Door:
    """A gateway's port and the id of a session that was opened there."""

    host: str
    port: int
    session: str
    wires: list[Wire] = attrs.field(factory=list)

    async def dial(self) -> Wire:
        """A connection; closed with the door."""
        self.wires.append(Wire(await trio.open_tcp_stream(self.host, self.port)))
        return self.wires[-1]

    async def post(self, body: bytes, *lines: str, verb: str = "POST", length: str = "") -> tuple[int, bytes]:
        """One request with exactly these header lines besides the usual ones; status and body of its answer."""
        wire = await self.dial()
        length = length or f"Content-Length: {len(body)}"
        usual = ["Host: 127.0.0.1", "Content-Type: application/json", "Accept: application/json", length]
        head = "\r\n".join([f"{verb} /mcp HTTP/1.1", *usual, *lines, "", ""])
        await wire.send(head.encode("latin-1") + body)
        status, _, answer = await wire.answer()
        return status, answer


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    async with wire_backend(modern_backend(tool("read"))) as backend:
        async with running_gateway([{"name": "f", "url": backend.url}]) as running, running.client2025() as client:
            await client.initialize()
            where = urlsplit(running.url)
            opened = Door(where.hostname or "", where.port or 0, f"Mcp-Session-Id: {client.session_id}")
            try:
                yield opened
            finally:
                for wire in opened.wires:
                    wire.stream.socket.close()


def code(answer: bytes) -> int:
    message: Message = orjson.loads(answer)
    found: int = message["error"]["code"]
    return found


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([VERSION, VERSION, "Mcp-Method: tools/list"], id="the version twice"),
        pytest.param([VERSION, "mcp-protocol-version: 2025-11-25", "Mcp-Method: tools/list"], id="two versions"),
        pytest.param([VERSION, "Mcp-Method: tools/list", "MCP-METHOD: tools/list"], id="the method twice"),
        pytest.param([VERSION + "\xa0", "Mcp-Method: tools/list"], id="a version and a no-break space"),
        pytest.param([VERSION, "Mcp-Method: tools/list\x85"], id="a method and a next-line"),
    ],
)
async def test_T20_a_header_that_is_there_twice_or_has_other_white_space_is_a_mismatch(lines: list[str]) -> None:
    async with door() as where:
        status, answer = await where.post(LIST, *lines)
        assert (status, code(answer)) == (400, -32020)


async def test_T17_optional_white_space_is_space_and_tab_and_folding_is_refused() -> None:
    """Whoever stands in front may have read a folded line in another way. Spec: RFC 9112 5.2."""
    async with door() as where:
        assert (await where.post(LIST, f"{VERSION} \t", "Mcp-Method:\t tools/list"))[0] == 200
        for folded in ("Mcp-Method:\r\n\ttools/list", "Mcp-Method: tools/\r\n list"):
            status, answer = await where.post(LIST, VERSION, folded)
            assert (status, code(answer)) == (400, -32600)


@pytest.mark.parametrize("verb", ["POST", "DELETE"])
async def test_s1_4_an_invalid_version_header_is_400_though_a_valid_one_is_there_too(verb: str) -> None:
    async with door() as where:
        said = ("MCP-Protocol-Version: 2025-11-25", "MCP-Protocol-Version: 1999-01-01")
        assert (await where.post(PING, where.session, *said, verb=verb))[0] == 400
        assert (await where.post(PING, where.session, said[0]))[0] == 200


async def test_s1_4_a_session_id_that_is_there_twice_or_has_other_white_space_opens_nothing() -> None:
    async with door() as where:
        assert (await where.post(PING, where.session, where.session))[0] == 400
        assert (await where.post(PING, where.session + "\xa0"))[0] == 404
        assert (await where.post(PING, where.session + " "))[0] == 200


async def test_s1_13_two_ways_to_say_how_long_the_body_is_are_refused_and_end_the_connection() -> None:
    """Whoever stands in front may have believed the other one: what follows would be a request that nobody sent."""
    async with door() as where:
        wire = await where.dial()
        lines = ["Host: x", "Content-Type: application/json", where.session]
        head = "\r\n".join(["POST /mcp HTTP/1.1", *lines, "Content-Length: 5", "Transfer-Encoding: chunked", "", ""])
        await wire.send(head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(PING), PING))
        with trio.fail_after(5):
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (400, "close")
            assert await wire.closed()


@pytest.mark.parametrize("era", ["2025", "2026", "neither"])
async def test_s1_4_a_body_above_the_bound_is_413_in_every_era(era: str) -> None:
    async with door() as where:
        lines = {"2025": [where.session], "2026": [VERSION, "Mcp-Method: tools/list"]}.get(era, [])
        status, answer = await where.post(b" " * (4 * 2**20 + 1), *lines)
        assert (status, code(answer)) == (413, -32600)
        status, answer = await where.post(b"", *lines, length="Content-Length: 99999999999999999999")
        assert (status, code(answer)) == (413, -32600)


async def test_T5_a_body_may_come_in_chunks_and_wait_for_leave() -> None:
    async with door() as where:
        wire = await where.dial()
        head = ["POST /mcp HTTP/1.1", "Host: x", "Content-Type: application/json", "Transfer-Encoding: chunked"]
        await wire.send("\r\n".join([*head, where.session, "Expect: 100-continue", "", ""]).encode())
        assert (await wire.head())[0] == 100
        for chunk in (PING[:7], PING[7:], b""):
            await wire.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        status, _, answer = await wire.answer()
        assert (status, orjson.loads(answer)) == (200, {"jsonrpc": "2.0", "id": 1, "result": {}})


@pytest.mark.parametrize("verb", ["HEAD", "PUT", "PATCH", "TRACE"])
async def test_T2_other_verbs_are_405_and_say_which_there_are(verb: str) -> None:
    async with door() as where:
        wire = await where.dial()
        await wire.send(f"{verb} /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n{where.session}\r\n\r\n".encode())
        status, headers = await wire.head()
        assert (status, headers["allow"]) == (405, "GET, POST, DELETE, OPTIONS")
