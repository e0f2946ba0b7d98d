"""A backend of either era that answers with exactly the bytes a test gives it, and keeps the bytes it got.

Owns a script for ``raw_http.serve_raw``. Deliberately parses nothing but the members it needs, with a parser that
takes what others refuse or round. Invariant: nothing that is kept or sent was ever written anew.
"""

import json
import re
from typing import Final

import attrs
import trio

from tests.support.raw_http import RawConnection, RawRequest, event, response, result

SESSION: Final = b"upstream-session-which-no-client-may-see"
_META: Final = b'"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"verbatim","version":"1"}}'
_FRESH: Final = b'"resultType":"complete","ttlMs":60000,"cacheScope":"public",'
_ID: Final = re.compile(rb'"id":(\d+)')


@attrs.define(eq=False, kw_only=True)
class Verbatim:
    """The script."""

    modern: bool
    tool: bytes = b'{"name":"t","inputSchema":{"type":"object"}}'
    """The one item of its list, raw."""
    answer: bytes = b'"result":{"content":[]}'
    """What follows the id in the response to a call, raw."""
    notices: tuple[bytes, ...] = ()
    """Raw messages before that answer; ``TOKEN`` stands for the call's progress token."""
    delay_s: float = 0.0
    """How long a call takes."""
    headers: bytes = b""
    """More header lines with each answer."""
    requests: list[RawRequest] = attrs.field(factory=list)
    """Every request that came, tests' own judge."""

    @property
    def calls(self) -> list[RawRequest]:
        return [one for one in self.requests if b'"method":"tools/call"' in one.body]

    async def __call__(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            self.requests.append(request)
            found = _ID.search(request.body)
            if request.method == "POST" and found is not None:
                await self._answer(connection, request, int(found[1]))
            else:
                status = {"POST": "202 Accepted", "DELETE": "200 OK"}.get(request.method, "405 Method Not Allowed")
                await connection.send(response(b"", status=status))

    async def _answer(self, connection: RawConnection, request: RawRequest, rpc_id: int) -> None:
        match json.loads(request.body)["method"]:
            case "initialize":
                version = json.loads(request.body)["params"]["protocolVersion"].encode()
                hello = b'{"protocolVersion":"%b","capabilities":{"tools":{}},"serverInfo":{"name":"v"}}' % version
                session = b"Mcp-Session-Id: %b\r\n" % SESSION
                await connection.send_json(result(rpc_id, hello), extra=session + self.headers)
            case "server/discover":
                hello = _FRESH + b'"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},' + _META
                await connection.send_json(result(rpc_id, b"{%b}" % hello))
            case "tools/list":
                era = _FRESH if self.modern else b""
                await connection.send_json(result(rpc_id, b'{%b"tools":[%b]}' % (era, self.tool)))
            case "tools/call":
                await self._call(connection, rpc_id)
            case _:
                await connection.send_json(result(rpc_id), extra=self.headers)

    async def _call(self, connection: RawConnection, rpc_id: int) -> None:
        await trio.sleep(self.delay_s)
        whole = b'{"jsonrpc":"2.0","id":%d,%b}' % (rpc_id, self.answer)
        if not self.notices:
            await connection.send_json(whole, extra=self.headers)
            return
        await connection.begin_events(self.headers)
        for notice in self.notices:
            await connection.send_chunk(event(notice.replace(b"TOKEN", b"%d" % rpc_id)))
        await connection.send_chunk(event(whole))
        await connection.end_chunks()
