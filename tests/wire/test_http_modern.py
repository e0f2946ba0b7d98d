"""Links over Streamable HTTP to 2026-07-28 backends, and how those are found."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mcp_gateway.backends.transports.base import Answer, Hello, Inbound
from mcp_gateway.backends.transports.era_probe import EraKind
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.streamable_http import (
    ModernHttpLink,
    discover,
    probe_era,
)
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import (
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    Executed,
)
from mcp_gateway.protocol.eras import NEWEST_MODERN
from mcp_gateway.values import JsonObject
from tests.support.http_links import (
    KEY,
    LIMITS,
    NOTE,
    PROGRESS,
    Handler,
    answer_call,
    at_rest,
    call,
    cancel_when,
    events,
    fixed,
    nothing,
    pool_for,
)
from tests.support.raw_http import (
    RawConnection,
    RawRequest,
    RawServer,
    event,
    result,
    serve_raw,
)

pytestmark = pytest.mark.wire


@asynccontextmanager
async def modern_link(on_call: Handler) -> AsyncIterator[tuple[ModernHttpLink, RawServer]]:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await on_call(connection, request)

    async with serve_raw(script) as server:
        pool = pool_for(server)
        link = ModernHttpLink(pool=pool, hello=Hello(era=NEWEST_MODERN, capabilities={}), limits=LIMITS)
        yield link, server
        await at_rest(pool)


# --- 2026-07-28 ---


async def test_a_modern_call_carries_its_headers_and_no_session() -> None:
    async with modern_link(answer_call) as (link, server):
        outgoing = call(headers=((b"Mcp-Name", b"add"), (b"Mcp-Param-X", b"1")))
        assert (await link.exchange(outgoing, nothing)).raw == result(1, b'{"ok":true}')
        head = server.requests[0].headers
        assert (head["mcp-method"], head["mcp-name"], head["mcp-param-x"]) == ("tools/call", "add", "1")
        assert (head["mcp-protocol-version"], "mcp-session-id" in head) == ("2026-07-28", False)
        assert (link.shared, link.lost, link.era) == (True, False, NEWEST_MODERN)
        await link.aclose()
        with pytest.raises(BackendGone) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.executed is Executed.NO


async def test_leaving_a_modern_call_closes_its_connection_and_says_nothing_else() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(b": working\n\n")
        await connection.gone()

    async with modern_link(on_call) as (link, server):
        await cancel_when(link, server, 1, "x")
        await server.all_closed()
        assert len(server.requests) == 1


async def test_a_modern_error_status_is_an_answer() -> None:
    raw = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}'
    async with modern_link(fixed(raw, "404 Not Found")) as (link, _):
        assert await link.exchange(call(), nothing) == Answer(raw=raw, status=404)


@pytest.mark.parametrize(
    "on_call",
    [
        pytest.param(events(event(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')), id="a request of the server"),
        pytest.param(events(event(b"", event_id="e-1")), id="no answer, and no resumption"),
        pytest.param(fixed(b"", "404 Not Found"), id="404"),
    ],
)
async def test_such_modern_answers_break_the_protocol(on_call: Handler) -> None:
    async with modern_link(on_call) as (link, _):
        with pytest.raises(BackendProtocol):
            await link.exchange(call(), nothing)


async def test_a_broken_modern_stream_loses_the_call() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        await connection.begin_events()
        await connection.send_chunk(event(b"", event_id="e-1"))
        await connection.stream.aclose()

    async with modern_link(on_call) as (link, server):
        with pytest.raises(BackendGone) as caught:
            await link.exchange(call(), nothing)
        assert caught.value.executed is Executed.UNKNOWN
        assert len(server.requests) == 1


async def test_a_modern_subscription_holds_a_stream_place() -> None:
    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        if request.json["method"] != "subscriptions/listen":
            await answer_call(connection, request)
            return
        await connection.begin_events()
        await connection.send_chunk(NOTE)
        await connection.gone()

    heard = trio.Event()

    async def hear(inbound: Inbound) -> None:
        heard.set()

    async with modern_link(on_call) as (link, _), trio.open_nursery() as nursery:
        nursery.start_soon(link.exchange, call("subscriptions/listen", control=True), hear)
        await heard.wait()
        assert (link.pool.streams_in_flight, link.pool.control_in_flight) == (1, 0)
        await link.exchange(call(control=True), nothing)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", ["202 Accepted", "400 Bad Request"])
async def test_a_modern_notification_is_sent(status: str) -> None:
    async with modern_link(fixed(b"", status)) as (link, server):
        await link.notify(PROGRESS)
        assert server.requests[0].headers["mcp-protocol-version"] == "2026-07-28"


# --- probing ---

DISCOVERED = b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}'


async def probed(on_call: Handler, pinned: str | None = None) -> tuple[EraKind, str | None, list[JsonObject]]:
    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await on_call(connection, request)

    failure: BackendError | None = None
    verdict = None
    async with serve_raw(script) as server:
        pool = pool_for(server)
        try:
            verdict = await probe_era(pool, LIMITS, pinned)
        except BackendError as error:
            failure = error  # raised outside of the server's nursery, which would wrap it
        await at_rest(pool)
    if verdict is None:
        assert failure is not None
        raise failure
    return verdict.kind, verdict.era.version if verdict.era else None, list(server.bodies)


@pytest.mark.parametrize("on_call", [fixed(result(1, DISCOVERED)), events(NOTE, event(result(1, DISCOVERED)))])
async def test_a_modern_backend_is_found(on_call: Handler) -> None:
    kind, version, bodies = await probed(on_call)
    assert (kind, version) == (EraKind.MODERN, "2026-07-28")
    assert bodies[0]["method"] == "server/discover"


@pytest.mark.parametrize(
    "on_call, expected",
    [
        pytest.param(fixed(b"", "405 Method Not Allowed", "text/plain"), EraKind.SSE, id="SSE"),
        pytest.param(events(NOTE), EraKind.UNDECIDED, id="a stream without an answer"),
        pytest.param(fixed(b"", "401 Unauthorized"), EraKind.UNDECIDED, id="401"),
        pytest.param(fixed(b"", "503 Busy"), EraKind.UNDECIDED, id="503"),
        pytest.param(fixed(b"", "502 Bad Gateway"), EraKind.UNDECIDED, id="502"),
        pytest.param(fixed(b"x" * 5000), EraKind.UNDECIDED, id="too large"),
        pytest.param(
            fixed(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":""}}', "400 Bad"),
            EraKind.LEGACY,
            id="400",
        ),
    ],
)
async def test_other_backends_are_found_too(on_call: Handler, expected: EraKind) -> None:
    assert (await probed(on_call))[0] is expected


async def test_a_backend_that_says_when_to_come_back_leaves_it_open() -> None:
    with pytest.raises(BackendBusy) as caught:
        await probed(fixed(b"", "503 Busy", extra=b"Retry-After: 2\r\n"))
    assert (caught.value.retry_after_ms, caught.value.request) == (2000, "server/discover")


@pytest.mark.parametrize("pinned", [None, "2026-07-28"])
async def test_nobody_there_is_no_verdict(pinned: str | None) -> None:
    pool = HttpPool(key=KEY, target=HttpTarget(url="http://127.0.0.1:1/mcp"), connect_s=5)
    with pytest.raises(BackendGone) as caught:
        await probe_era(pool, LIMITS, pinned)
    assert (caught.value.request, caught.value.reason.split(":")[0]) == ("server/discover", "server/discover")
    await at_rest(pool)


async def test_a_pinned_revision_is_believed_or_checked() -> None:
    assert await probed(answer_call, "2025-06-18") == (EraKind.LEGACY, "2025-06-18", [])
    assert (await probed(fixed(result(1, DISCOVERED)), "2026-07-28"))[0] is EraKind.MODERN
    with pytest.raises(BackendProtocol):
        await probed(fixed(result(1, b"{}")), "2026-07-28")


@pytest.mark.parametrize("good", [True, False])
async def test_discovery_gives_the_hello_or_says_why_not(good: bool) -> None:
    async def script(connection: RawConnection) -> None:
        while await connection.read_request() is not None:
            await connection.send_json(result(1, DISCOVERED if good else b"{}"))

    async with serve_raw(script) as server:
        pool = pool_for(server)
        if good:
            assert (await discover(pool, LIMITS)).capabilities == {"tools": {}}
        else:
            with pytest.raises(BackendProtocol):
                await discover(pool, LIMITS)
        await at_rest(pool)
