"""Event streams whose events are no messages, or are large: the call goes on where it can, and says what was wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from mcp_gateway.backends.transports.base import Hello, Inbound, Link
from mcp_gateway.backends.transports.streamable_http import ModernHttpLink
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import BackendProtocol, BackendTooLarge
from mcp_gateway.protocol.eras import NEWEST_MODERN
from tests.support.http_links import (
    KEY,
    LIMITS,
    NOTE,
    PROGRESS,
    Handler,
    answer_call,
    answer_event,
    at_rest,
    call,
    events,
    legacy,
    legacy_link,
    nothing,
    pool_for,
)
from tests.support.raw_http import RawConnection, RawRequest, event, result, serve_raw
from tests.support.tally import Tally

pytestmark = pytest.mark.wire

RUBBISH = [
    pytest.param(b"ping", id="no JSON"),
    pytest.param(b"{", id="half of a text"),
    pytest.param(b'{"status":"working"}', id="other JSON"),
    pytest.param(b'{"id":2}', id="no answer, with our id"),
    pytest.param(b'{"jsonrpc":"1.0","method":"notifications/message"}', id="another version"),
    pytest.param(b'{"jsonrpc":"2.0","method":7}', id="a method that is none"),
    pytest.param(b"[]", id="an empty batch"),
    pytest.param(b'["a"]', id="an array"),
    pytest.param(b'{"jsonrpc":"2.0","id":9,"result":NaN}', id="a broken answer to somebody else"),
]


@asynccontextmanager
async def linked(era: str, on_call: Handler, tally: Tally, limits: BackendLimits = LIMITS) -> AsyncIterator[Link]:
    """A link of a revision to a server that answers calls so."""
    if era != NEWEST_MODERN.version:
        async with legacy_link(legacy(on_call, version=era), observer=tally) as (link, _):
            yield link
        return

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await on_call(connection, request)

    async with serve_raw(script) as server:
        pool = pool_for(server, observer=tally)
        yield ModernHttpLink(pool=pool, hello=Hello(era=NEWEST_MODERN, capabilities={}), limits=limits)
        await at_rest(pool)


@pytest.mark.parametrize("era", ["2025-03-26", "2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("rubbish", RUBBISH)
async def test_an_event_that_is_no_message_is_skipped_and_counted(rubbish: bytes, era: str) -> None:
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    tally = Tally()
    async with linked(era, events(event(rubbish), NOTE, event(rubbish) + NOTE, answer_event), tally) as link:
        assert (await link.exchange(call(), hear)).parts.result == b'{"ok":true}'
        assert (heard, tally.skipped) == (["notifications/message"] * 2, [KEY] * 2)


@pytest.mark.parametrize("era", ["2025-03-26", "2025-11-25", "2026-07-28"])
async def test_a_stream_that_says_nothing_else_is_told_what_it_said(era: str) -> None:
    tally = Tally()
    async with linked(era, events(event(b"{"), event(b'{"a":1}')), tally) as link:
        with pytest.raises(BackendProtocol) as caught:
            await link.exchange(call(), nothing)
        assert "ended without the answer; of its events 2 were not JSON-RPC: " in caught.value.why
        assert tally.skipped == [KEY] * 2


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_a_broken_answer_of_ours_is_not_waited_for_again(era: str) -> None:
    def broken(rpc_id: int) -> bytes:
        return event(b'{"jsonrpc":"2.0","id":%d,"result":NaN}' % rpc_id)

    tally = Tally()
    async with linked(era, events(broken, end=False), tally) as link:
        with pytest.raises(BackendProtocol, match="an answer that is not JSON-RPC"), trio.fail_after(5):
            await link.exchange(call(), nothing)
        assert tally.skipped == []


@pytest.mark.parametrize("version", ["2025-03-26", "2025-11-25"])
@pytest.mark.parametrize("rubbish", RUBBISH)
async def test_a_stream_of_its_own_goes_on_too(rubbish: bytes, version: str) -> None:
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    tally, on_get = Tally(), events(event(rubbish), NOTE, event(result(9)), event(PROGRESS))
    async with legacy_link(legacy(answer_call, version=version, on_get=on_get), observer=tally) as (link, _):
        await link.listen(hear)
        assert heard == ["notifications/message", "notifications/progress"]
        assert (tally.skipped, link.unasked) == ([KEY], 1)


# --- sizes: LIMITS has 2,048 bytes for events and 4,096 for answers ---


def padded(form: bytes, size: int) -> Handler:
    """An answer of one event with so many bytes in its result; the stream stays open."""

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        data = form.replace(b"ID", b"%d" % request.rpc_id).replace(b"PAD", b"x" * size)
        await connection.begin_events()
        await connection.send_chunk(b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n")
        await connection.gone()

    return on_call


FORMS = [
    pytest.param(b'{"jsonrpc":"2.0","id":ID,"result":{"x":"PAD"}}', id="as Python writes it"),
    pytest.param(b'{"result":{"x":"PAD"},"jsonrpc":"2.0","id":ID}', id="as TypeScript writes it"),
    pytest.param(b'{"jsonrpc":"2.0","result":{"x":"PAD"},"id":ID}', id="another order"),
    pytest.param(b'{\n  "jsonrpc": "2.0",\n  "id": ID,\n  "result": {\n    "x": "PAD"\n  }\n}', id="on lines"),
    pytest.param(b'{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"PAD"}}', id="an error"),
]


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_may_be_as_large_in_an_event_as_in_json(form: bytes, era: str) -> None:
    async with linked(era, padded(form, 3500), Tally()) as link:
        assert len((await link.exchange(call(), nothing)).raw) > 3500


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("form", FORMS)
async def test_an_answer_event_above_that_bound_names_it(form: bytes, era: str) -> None:
    async with linked(era, padded(form, 5000), Tally()) as link:
        with pytest.raises(BackendTooLarge) as caught:
            await link.exchange(call(), nothing)
        assert (caught.value.limit, caught.value.bound) == ("limits.responseBytes", LIMITS.response_bytes)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"x":"PAD"}}', id="a notification"),
        pytest.param(b'{"params":{"x":"PAD"},"method":"notifications/message","jsonrpc":"2.0"}', id="params first"),
        pytest.param(b"PAD", id="no message"),
    ],
)
@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_any_other_event_has_the_bound_of_events(message: bytes, era: str) -> None:
    async with linked(era, padded(message, 2500), Tally()) as link:
        with pytest.raises(BackendTooLarge) as caught:
            await link.exchange(call(), nothing)
        assert (caught.value.limit, caught.value.bound) == ("limits.eventBytes", LIMITS.event_bytes)


async def test_the_bound_of_answers_counts_where_it_is_the_lower_one() -> None:
    lower = attrs.evolve(LIMITS, response_bytes=1000)
    async with linked("2026-07-28", padded(b'{"jsonrpc":"2.0","id":ID,"result":"PAD"}', 1500), Tally(), lower) as link:
        with pytest.raises(BackendTooLarge) as caught:
            await link.exchange(call(), nothing)
        assert (caught.value.limit, caught.value.bound) == ("limits.responseBytes", 1000)
