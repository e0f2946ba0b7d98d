"""Links over Streamable HTTP: streams that are resumed, and the stream that only listens."""

from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.base import ClientIdentity, Inbound
from mcp_gateway.backends.transports.streamable_http import (
    NoStream,
    open_legacy,
)
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import (
    BackendAuth,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendSessionLost,
    BackendTooLarge,
    Executed,
)
from tests.support.http_links import (
    KEY,
    PROGRESS,
    Handler,
    answer_call,
    answer_event,
    at_rest,
    call,
    cancel_when,
    events,
    fixed,
    legacy,
    legacy_link,
    no_stream,
    nothing,
    pool_for,
)
from tests.support.raw_http import (
    RawConnection,
    RawRequest,
    event,
    result,
    serve_raw,
)

pytestmark = pytest.mark.wire


# --- resumption ---


def polling(rounds: list[list[bytes | Callable[[int], bytes]]], first: list[bytes]) -> tuple[Handler, Handler]:
    """A 2025-11-25 server that closes its stream and lets the client poll."""
    ids: list[int] = []
    left = iter(rounds)

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        ids.append(request.rpc_id)
        await events(*first)(connection, request)

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        for part in next(left, []):
            await connection.send_chunk(part if isinstance(part, bytes) else part(ids[0]))
        await connection.end_chunks()

    return on_call, on_get


PRIMING = event(b"", event_id="e-0", retry=10)


async def take(inbound: Inbound) -> None:
    """Whatever it is."""


async def test_a_stream_with_event_ids_is_resumed_until_the_answer_comes() -> None:
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    more = event(PROGRESS, event_id="e-1")
    on_call, on_get = polling([[more], [b": nothing\n\n"], [answer_event]], [PRIMING])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, server):
        answer = await link.exchange(call(headers=((b"X-Id", b"7"),)), hear)
        assert answer.raw == result(2, b'{"ok":true}')
        polls = [request for request in server.requests if request.method == "GET"]
        assert [poll.headers["last-event-id"] for poll in polls] == ["e-0", "e-1", "e-1"]
        assert {poll.headers["mcp-session-id"] for poll in polls} == {"s-1"}
        assert polls[0].headers["accept"] == "text/event-stream"
        assert polls[0].headers["x-id"] == "7"
        assert heard == ["notifications/progress"]


async def test_a_stream_that_its_server_ended_is_told_of_once_for_each_end() -> None:
    told: list[int | None] = []

    async def polled(retry_ms: int | None) -> None:
        told.append(retry_ms)

    more = event(PROGRESS, event_id="e-1", retry=20)
    on_call, on_get = polling([[more], [answer_event]], [PRIMING])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, _):
        await link.exchange(attrs.evolve(call(), polled=polled), take)
    assert told == [10, 20]


async def test_a_stream_that_broke_is_resumed_without_a_word() -> None:
    async def polled(retry_ms: int | None) -> None:
        raise AssertionError(retry_ms)

    async def breaks(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(PRIMING)
        await connection.stream.aclose()

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        if len([one for one in server.requests if one.method == "GET"]) == 1:
            await breaks(connection, request)
            return
        await connection.begin_events()
        await connection.send_chunk(answer_event(2))

    async with legacy_link(legacy(breaks, on_get=on_get)) as (link, server):
        assert (await link.exchange(attrs.evolve(call(), polled=polled), nothing)).raw == result(2, b'{"ok":true}')


async def test_a_broken_stream_with_event_ids_is_resumed_too() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(PRIMING)
        await connection.stream.aclose()

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(answer_event(2))

    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, _):
        assert (await link.exchange(call(), nothing)).raw == result(2, b'{"ok":true}')


async def test_the_retry_pause_of_the_backend_is_respected(mock_clock: trio.testing.MockClock) -> None:
    on_call, on_get = polling([[answer_event]], [event(b"", event_id="e-0", retry=60_000)])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, server), trio.open_nursery() as nursery:
        nursery.start_soon(link.exchange, call(), nothing)
        await server.until(3)
        await trio.testing.wait_all_tasks_blocked(0.0)
        mock_clock.jump(59.9)
        await trio.testing.wait_all_tasks_blocked(0.0)
        assert len(server.requests) == 3
        mock_clock.jump(0.2)
        await server.until(4)


async def test_resumptions_without_progress_are_bounded() -> None:
    on_call, on_get = polling([], [PRIMING])
    async with legacy_link(legacy(on_call, on_get=on_get)) as (link, server):
        with pytest.raises(BackendGone) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.executed is Executed.UNKNOWN
        assert [request.method for request in server.requests].count("GET") == 5


@pytest.mark.parametrize(
    "status, kind",
    [("405 Method Not Allowed", BackendProtocol), ("404 Not Found", BackendSessionLost)],
)
async def test_a_refused_resumption_ends_the_call(status: str, kind: type[BackendError]) -> None:
    async with legacy_link(legacy(events(PRIMING), on_get=fixed(b"", status))) as (link, _):
        with pytest.raises(kind) as caught:
            await link.exchange(call(), nothing)
        assert isinstance(caught.value, BackendError)
        assert caught.value.executed is Executed.UNKNOWN


async def test_a_failing_resumption_is_tried_again() -> None:
    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        connection.reset()

    async with legacy_link(legacy(events(PRIMING), on_get=on_get)) as (link, server):
        with pytest.raises(BackendGone):
            await link.exchange(call(), nothing)
        assert [request.method for request in server.requests].count("GET") == 5


async def test_a_call_cancelled_between_polls_is_named_to_the_backend() -> None:
    stream = events(event(b"", event_id="e-0", retry=60_000))
    async with legacy_link(legacy(stream)) as (link, server):
        await cancel_when(link, server, 3, "enough")
        await server.until(4)
        assert server.requests[-1].json["params"] == {"requestId": 2, "reason": "enough"}


async def test_an_event_id_of_endless_length_is_not_remembered() -> None:
    limits = BackendLimits(event_bytes=2**20)
    stream = events(event(b"", event_id="e" * 5000))
    async with serve_raw(legacy(stream)) as server:
        pool = pool_for(server)
        link = await open_legacy(pool, identity=ClientIdentity(), offer="2025-11-25", limits=limits)
        with pytest.raises(BackendProtocol):
            await link.exchange(call(), nothing)
        await at_rest(pool)


# --- the listen stream ---


async def test_the_listen_stream_gives_messages_and_goes_on_where_it_was() -> None:
    heard: list[Inbound] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound)

    changed = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    stream = events(
        event(changed, event_id="g-1", retry=5), event(result(99)), event(b'{"jsonrpc":"2.0","id":"p","method":"ping"}')
    )
    async with legacy_link(legacy(answer_call, on_get=stream)) as (link, server):
        opened = trio.Event()
        await link.listen(hear, opened)
        assert opened.is_set()
        await link.listen(hear)
        first, second = (request for request in server.requests if request.method == "GET")
        assert "last-event-id" not in first.headers
        assert second.headers["last-event-id"] == "g-1"
        assert [(item.method, item.id_raw) for item in heard[:2]] == [
            ("notifications/tools/list_changed", None),
            ("ping", b'"p"'),
        ]
        assert link.unasked == 2


async def test_the_listen_stream_takes_no_place_of_calls_or_control() -> None:
    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.gone()

    async with (
        legacy_link(legacy(answer_call, on_get=on_get)) as (link, _),
        trio.open_nursery() as nursery,
    ):
        opened = trio.Event()
        nursery.start_soon(link.listen, nothing, opened)
        await opened.wait()
        assert (link.pool.streams_in_flight, link.pool.control_in_flight) == (1, 0)
        await link.exchange(call(), nothing)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "on_get, kind",
    [
        pytest.param(no_stream, NoStream, id="405"),
        pytest.param(fixed(b"no route", "404 Not Found", "text/html"), NoStream, id="404 of a framework"),
        pytest.param(
            fixed(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":""}}', "404 Not Found"),
            BackendSessionLost,
            id="404 of MCP",
        ),
        pytest.param(fixed(b"", "401 Unauthorized"), BackendAuth, id="401"),
        pytest.param(
            fixed(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}', "400 No"), BackendProtocol, id="400"
        ),
        pytest.param(fixed(b"{}"), BackendProtocol, id="JSON"),
        pytest.param(events(event(b"x" * 3000)), BackendTooLarge, id="too large"),
    ],
)
async def test_a_listen_stream_that_fails_says_how(on_get: Handler, kind: type[Exception]) -> None:
    async with legacy_link(legacy(answer_call, on_get=on_get)) as (link, _):
        opened = trio.Event()
        with pytest.raises(kind) as caught:
            await link.listen(nothing, opened)
        assert KEY in str(caught.value)


async def test_a_refused_resumption_of_the_listen_stream_begins_anew() -> None:
    seen: list[str | None] = []

    async def on_get(connection: RawConnection, request: RawRequest) -> None:
        seen.append(request.headers.get("last-event-id"))
        if seen[-1] is not None:
            await fixed(b"", "400 Bad Request")(connection, request)
        else:
            await events(event(PROGRESS, event_id="g-1"))(connection, request)

    async def hear(inbound: Inbound) -> None:
        pass

    async with legacy_link(legacy(answer_call, on_get=on_get)) as (link, _):
        await link.listen(hear)
        with pytest.raises(BackendProtocol):
            await link.listen(hear)
        await link.listen(hear)
        assert seen == [None, "g-1", None]
