"""Backends that do every bad thing, and nine good ones beside them that must not notice.

Owns the misdeeds (one function each, on raw sockets), the good neighbours, and the entries of both for a gateway's
configuration. Deliberately judges nothing: the tests know what each misdeed must look like from outside.
Invariant: a misdeed ends when its client has left, and everything with the block.
"""

import gzip
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import attrs
import orjson
import trio

from tests.support.raw_http import RawConnection, RawRequest, RawServer, event, response, result, serve_raw

Misdeed: TypeAlias = Callable[[RawConnection, RawRequest], Awaitable[None]]
"""Answers one request, badly."""
Tool: TypeAlias = dict[str, Any]
Entry: TypeAlias = dict[str, Any]

NEIGHBOURS: Final = tuple(f"good{number}" for number in range(9))
MIB: Final = 2**20
_PIECE: Final = b"x" * (64 * 2**10)
META: Final = "io.modelcontextprotocol/"

QUICK: Final[Entry] = {
    "timeouts": {"connect": "300ms", "call": "500ms", "list": "500ms"},
    "limits": {"responseBytes": "1MiB", "eventBytes": "1MiB"},
    "health": {"interval": "1s"},
}
"""Small limits for a nasty one, so that a test need not wait long for what must happen in the end."""


def tool(name: str, **more: object) -> Tool:
    """A harmless tool."""
    return {"name": name, "inputSchema": {"type": "object"}, **more}


# --- answers as they should be ---------------------------------------------------------------------------------------


def good_answer(
    request: RawRequest,
    name: str,
    tools: Sequence[Tool],
    *,
    modern: bool,
    announces: bool = False,
    able: Sequence[str] = (),
) -> bytes:
    """The whole HTTP response of an honest server; its tools answer ``<name>:<argument x>``.

    Args:
        announces: it says that it tells of changed lists.
        able: what it declares beside tools.
    """
    declared: Entry = {"tools": {"listChanged": True} if announces else {}, **{one: {} for one in able}}
    if request.method != "POST":
        return response(b"", status="405 Method Not Allowed" if request.method == "GET" else "200 OK")
    message = request.json
    if "id" not in message:
        return response(b"", status="202 Accepted")
    params = message.get("params")
    assert isinstance(params, dict)
    match message["method"]:
        case "server/discover" if modern:
            found: Entry = {"supportedVersions": ["2026-07-28"], "capabilities": declared, "ttlMs": 0}
            found |= {"_meta": {META + "serverInfo": {"name": name, "version": "1"}}, "cacheScope": "public"}
        case "initialize" if not modern:
            found = {"protocolVersion": "2025-11-25", "capabilities": declared}
            found |= {"serverInfo": {"name": name, "version": "1"}}
        case "tools/list":
            found = {"tools": list(tools), **({"ttlMs": 0, "cacheScope": "public"} if modern else {})}
        case "tools/call":
            arguments = params.get("arguments")
            said = arguments.get("x") if isinstance(arguments, dict) else None
            found = {"content": [{"type": "text", "text": f"{name}:{said}"}]}
        case "ping":
            found = {}
        case _:
            refusal = {"jsonrpc": "2.0", "id": request.rpc_id, "error": {"code": -32601, "message": "Method not found"}}
            return response(orjson.dumps(refusal))
    found |= {"resultType": "complete"} if modern else {}
    greets = message["method"] == "initialize"
    extra = b"Mcp-Session-Id: %b-session\r\n" % name.encode() if greets else b""
    return response(result(request.rpc_id, orjson.dumps(found)), extra=extra)


def named(request: RawRequest) -> str:
    """The server that a request is for: ``/new/mcp`` -> ``new``."""
    return request.target.split("/")[1]


@asynccontextmanager
async def neighbours() -> AsyncIterator[list[Entry]]:
    """Nine good servers on one listener, of both eras in turn; gives their entries."""

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            name = named(request)
            await connection.send(good_answer(request, name, [tool("echo")], modern=NEIGHBOURS.index(name) % 2 == 0))

    async with serve_raw(script) as server:
        yield [{"name": name, "url": url_of(server, name)} for name in NEIGHBOURS]


def url_of(server: RawServer, name: str) -> str:
    """Where ``named`` finds ``name``."""
    return server.url.removesuffix("/mcp") + f"/{name}/mcp"


# --- the nasty ones --------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Villain:
    """One listener with two servers: ``old`` of 2025-11-25 and ``new`` of 2026-07-28."""

    server: RawServer
    entries: list[Entry]


@asynccontextmanager
async def villains(
    misdeed: Misdeed,
    *,
    when: Callable[[RawRequest], bool],
    tools: Sequence[Tool] = (),
    able: Sequence[str] = (),
    names: Sequence[str] = (),
) -> AsyncIterator[Villain]:
    """Servers that are honest but for the requests that ``when`` chooses.

    Args:
        tools: what they list, besides ``echo``.
        able: what they declare, besides tools.
        names: of the servers; those that begin with ``new`` are modern.
    """

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if when(request):
                await misdeed(connection, request)
            else:
                name = named(request)
                modern = name.startswith("new")
                await connection.send(good_answer(request, name, [tool("echo"), *tools], modern=modern, able=able))

    async with serve_raw(script) as server:
        entries = [{"name": name, "url": url_of(server, name), **QUICK} for name in names or ("old", "new")]
        yield Villain(server=server, entries=entries)


def always(request: RawRequest) -> bool:
    return True


def never(request: RawRequest) -> bool:
    return False


def calls(request: RawRequest) -> bool:
    """Only what users do; discovery sees an honest server."""
    return b'"tools/call"' in request.body


def lists(request: RawRequest) -> bool:
    return b'"tools/list"' in request.body


# --- misdeeds: connections -------------------------------------------------------------------------------------------


async def never_answers(connection: RawConnection, request: RawRequest) -> None:
    await connection.gone()


async def one_byte_a_second(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    await drip(connection, b"{")


async def a_head_byte_by_byte(connection: RawConnection, request: RawRequest) -> None:
    await drip(connection, b"HTTP/1.1 200 OK\r\n")


async def drip(connection: RawConnection, text: bytes) -> None:
    """One byte a second, as long as the client listens."""
    async with trio.open_nursery() as nursery:

        async def until_gone() -> None:
            await connection.gone()
            nursery.cancel_scope.cancel("the client has left")

        nursery.start_soon(until_gone)
        for number in range(len(text)):
            await connection.send(text[number : number + 1])
            await trio.sleep(1.0)  # the misdeed itself


async def dies_mid_answer(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(response(result_of(request))[:-5])
    connection.reset()
    raise trio.ClosedResourceError


async def dies_before_the_answer(connection: RawConnection, request: RawRequest) -> None:
    connection.reset()
    raise trio.ClosedResourceError


async def closes_at_once(connection: RawConnection, request: RawRequest) -> None:
    """Answers well, and closes without having said so."""
    name = named(request)
    await connection.send(good_answer(request, name, [tool("echo")], modern=name.startswith("new")))
    raise trio.ClosedResourceError


# --- misdeeds: sizes -------------------------------------------------------------------------------------------------


async def a_hundred_megabytes(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(1600):
        await connection.send(_PIECE)


async def a_hundred_megabytes_unannounced(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    await connection.send_chunk(b'{"jsonrpc":"2.0","id":%d,"result":{"x":"' % request.rpc_id)
    for _ in range(1600):
        await connection.send_chunk(_PIECE)


async def an_endless_head(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        await connection.send(b"X-%d: %b\r\n" % (number, b"y" * 1000))


async def a_line_of_64_mib(connection: RawConnection, request: RawRequest) -> None:
    await connection.begin_events()
    await connection.send_chunk(b"data: ")
    for _ in range(1024):
        await connection.send_chunk(_PIECE)


async def an_endless_event(connection: RawConnection, request: RawRequest) -> None:
    """Many short lines, and never the blank one."""
    await connection.begin_events()
    lines = b"data: xy\n" * 1000
    while True:
        await connection.send_chunk(lines)


async def events_without_end(connection: RawConnection, request: RawRequest) -> None:
    """As fast as they are taken, and never the answer."""
    await connection.begin_events()
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "debug", "data": "nothing"}}
    batch = event(orjson.dumps(note)) * 100
    while True:
        await connection.send_chunk(batch)


async def comments_without_end(connection: RawConnection, request: RawRequest) -> None:
    await connection.begin_events()
    while True:
        await connection.send_chunk(b":\n\n" * 5000)


async def a_stream_without_the_answer(connection: RawConnection, request: RawRequest) -> None:
    await connection.begin_events()
    await connection.end_chunks()


# --- misdeeds: messages ----------------------------------------------------------------------------------------------


def result_of(request: RawRequest) -> bytes:
    """A good answer to anything but a handshake."""
    return result(request.rpc_id, b'{"content":[{"type":"text","text":"hello"}],"tools":[]}')


def says(
    body: Callable[[int], bytes], *, status: str = "200 OK", content_type: str = "application/json", extra: bytes = b""
) -> Misdeed:
    """Answers with the body that ``body`` makes of the request's id."""

    async def misdeed(connection: RawConnection, request: RawRequest) -> None:
        message = request.json if request.body else {}
        rpc_id = message.get("id", 0)
        assert isinstance(rpc_id, int)
        await connection.send(response(body(rpc_id), status=status, content_type=content_type, extra=extra))

    return misdeed


half_a_message: Final = says(lambda rpc_id: b'{"jsonrpc":"2.0","id":%d,"result":{"a' % rpc_id)
not_json: Final = says(lambda rpc_id: b"\xff\xfe\x00 hello")
an_array: Final = says(lambda rpc_id: b"[%b]" % result(rpc_id))
a_wrong_id: Final = says(lambda rpc_id: result(rpc_id + 1000))
a_text_id: Final = says(lambda rpc_id: b'{"jsonrpc":"2.0","id":"%d","result":{}}' % rpc_id)
no_id: Final = says(lambda rpc_id: b'{"jsonrpc":"2.0","result":{}}')
two_ids: Final = says(lambda rpc_id: b'{"jsonrpc":"2.0","id":%d,"id":%d,"result":{}}' % (rpc_id, rpc_id + 1))
html: Final = says(lambda rpc_id: b"<html>It works!</html>", content_type="text/html")
zipped: Final = says(lambda rpc_id: gzip.compress(result(rpc_id)), extra=b"Content-Encoding: gzip\r\n")
zipped_in_secret: Final = says(lambda rpc_id: gzip.compress(result(rpc_id)))
unauthorized: Final = says(lambda rpc_id: b"", status="401 Unauthorized", extra=b"WWW-Authenticate: Bearer\r\n")
too_many: Final = says(lambda rpc_id: b"", status="429 Too Many Requests", extra=b"Retry-After: 7\r\n")
unavailable: Final = says(lambda rpc_id: b"", status="503 Service Unavailable", extra=b"Retry-After: 7\r\n")
broken: Final = says(lambda rpc_id: b"oops", status="500 Internal Server Error", content_type="text/plain")


def redirect_to(url: str) -> Misdeed:
    """Sends whoever comes to another host."""
    return says(lambda rpc_id: b"", status="307 Temporary Redirect", extra=b"Location: %b\r\n" % url.encode())


async def the_answer_twice(connection: RawConnection, request: RawRequest) -> None:
    """As two events; the second one says something else."""
    await connection.begin_events()
    first, second = result_of(request), result_of(request).replace(b"hello", b"FORGED")
    await connection.send_chunk(event(first) + event(second))
    await connection.end_chunks()


async def two_responses(connection: RawConnection, request: RawRequest) -> None:
    """For one request; the second would fit the next one."""
    forged = result(request.rpc_id + 1, b'{"content":[{"type":"text","text":"FORGED"}]}')
    await connection.send(response(result_of(request)) + response(forged))


# --- misdeeds: lists -------------------------------------------------------------------------------------------------


def pages(tools: Callable[[int], list[Tool]], following: Callable[[int], int | None]) -> Misdeed:
    """Answers tools/list with pages, by number: their tools, and the number that the cursor names."""

    async def misdeed(connection: RawConnection, request: RawRequest) -> None:
        params = request.json["params"]
        assert isinstance(params, dict)
        number = int(str(params.get("cursor", 0)))
        found: Entry = {"tools": tools(number), "ttlMs": 0, "cacheScope": "public", "resultType": "complete"}
        after = following(number)
        if after is not None:
            found["nextCursor"] = str(after)
        await connection.send(response(result(request.rpc_id, orjson.dumps(found))))

    return misdeed


def nested(depth: int) -> Tool:
    """A schema of so many levels."""
    schema: Tool = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema
