"""What one call costs in the codec alone: reading, checking and rendering, without I/O.

Owns the figures of ``protocol/``. Deliberately starts no gateway and asserts no bound: a busy
machine is slower. Microseconds per operation, best of ``ROUNDS``.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bench.page import Run
from mcp_gateway.protocol import jsonrpc, translate
from mcp_gateway.protocol.envelope import ModernCall, meta_of, validate
from mcp_gateway.protocol.eras import NEWEST_LEGACY, NEWEST_MODERN, Era
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.values import Header

ROUNDS: Final = 60
"""Short ones: on a busy machine some of them are not interrupted."""
_ROUND_S: Final = 0.003
SERVER_INFO: Final = b'{"name":"mcp-gateway","version":"1.0.0"}'
BACKEND_INFO: Final = b'{"io.modelcontextprotocol/serverInfo":{"name":"time","version":"1.26.0"}}'
_TEXT: Final = b"It is a quarter past nine in Berlin, and nobody has asked for anything else. "
ARGUMENTS: Final = b'{"timezone":"Europe/Berlin","format":"%b"}' % (_TEXT * 2)[:120]
CLIENT_INFO: Final = b'{"name":"claude-code","version":"2.1.7"}'
MODERN_META: Final = (
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{}},'
    b'"io.modelcontextprotocol/clientInfo":%b}' % CLIENT_INFO
)
_CALL: Final = b'{"jsonrpc":"2.0","id":12,"method":"tools/call","params":%b}'
CALLS: Final = {
    NEWEST_LEGACY: _CALL % (b'{"name":"time_now","arguments":%b}' % ARGUMENTS),
    NEWEST_MODERN: _CALL % (b'{"name":"time_now","arguments":%b,"_meta":%b}' % (ARGUMENTS, MODERN_META)),
}
HEADERS: Final[tuple[Header, ...]] = (
    (b"host", b"127.0.0.1:8080"),
    (b"accept", b"application/json, text/event-stream"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"python-httpx2/2.10.0"),
    (b"content-length", b"420"),
    (b"mcp-protocol-version", b"2026-07-28"),
    (b"mcp-method", b"tools/call"),
    (b"mcp-name", b"time_now"),
)


def microseconds(work: Callable[[], object]) -> float:
    """What one of many costs, in the best round."""
    count, spent_s = 1, 0.0
    while spent_s < _ROUND_S:
        count *= 2
        spent_s = _round_s(work, count)
    return min(_round_s(work, count) for _ in range(ROUNDS)) / count * 1e6


def _round_s(work: Callable[[], object], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        work()
    return time.perf_counter() - begun


def call(client: Era, backend: Era) -> bytes:
    """Read one call, check it, and write it for its backend, as the gateway does."""
    message = jsonrpc.read(CALLS[client])
    assert isinstance(message, jsonrpc.RpcRequest)
    if client.modern:
        assert isinstance(validate(message, HEADERS), ModernCall)
    assert message.params.get("name") == "time_now"
    assert meta_of(message).raw("progressToken") is None
    meta = translate.MetaEdits(capabilities=b'{"roots":{}}', client_info=CLIENT_INFO)
    params = translate.request_params(message.params, client=client, backend=backend, edits=EDITS, meta=meta)
    return message.sent_on(b"4711", params)


EDITS: Final[Edits] = {"name": b'"now"'}


def answer(backend: Era, size: int) -> bytes:
    """An answer as servers of that era write it, its result of about this size."""
    text = (_TEXT * (size // len(_TEXT) + 1))[:size]
    meta = b',"resultType":"complete","_meta":%b' % BACKEND_INFO if backend.modern else b""
    result = b'{"content":[{"type":"text","text":"%b"}],"isError":false%b}' % (text, meta)
    return b'{"jsonrpc":"2.0","id":4711,"result":%b}' % result


def passed(client: Era, backend: Era, raw: bytes) -> bytes:
    """Recognise one answer, and write it for its client."""
    parts = jsonrpc.answer_parts(raw)
    result = translate.result("tools/call", parts.result, client=client, backend=backend, server_info=SERVER_INFO)
    return jsonrpc.render_result(b"12", result)


async def main(run: Run) -> int:
    """CPU of reading and writing one message, in one process: requests, results of 500 bytes and of 1 MiB."""
    eras = (NEWEST_LEGACY, NEWEST_MODERN)
    rows: dict[str, Callable[[Era, Era], Callable[[], object]]] = {
        "call, read + checked + written": lambda c, b: partial(call, c, b),
        "result of 500 bytes": lambda c, b: partial(passed, c, b, answer(b, 400)),
        "result of 1 MiB": lambda c, b: partial(passed, c, b, answer(b, 2**20)),
    }
    shown = [
        (name, *(microseconds(row(client, backend)) for client in eras for backend in eras))
        for name, row in rows.items()
    ]
    run.show(
        "Reading and writing, us", ("what", *(f"{c.version[:4]} → {b.version[:4]}" for c in eras for b in eras)), shown
    )
    return 0
