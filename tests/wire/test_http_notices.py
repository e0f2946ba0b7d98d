"""Many cancellations at one instant: every notice arrives, whatever the backend makes of several on one connection.

The clock of a test (``mock_clock``) stands still unless it moves it, so that nothing here needs a quiet machine.
"""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_gateway.backends.transports.base import GOODBYE_S
from mcp_gateway.backends.transports.http_client import CONTROL_PLACES
from mcp_gateway.backends.transports.legacy_http import LegacyHttpLink
from mcp_gateway.backends.transports.pipelining import SILENCE_S
from mcp_gateway.config.spec import TlsSpec
from tests.support.http_links import (
    ACCEPTED,
    Handler,
    at_rest,
    call,
    is_notice,
    legacy,
    nothing,
    open_session,
    pool_for,
)
from tests.support.http_pools import AUTHORITY, TLS_NAME, tls_pool
from tests.support.raw_http import RawConnection, RawRequest, RawServer, response, serve_raw

pytestmark = pytest.mark.wire


@attrs.define(kw_only=True)
class Scene:
    """Some sessions of one backend on one pool, whose calls all hang."""

    server: RawServer
    links: list[LegacyHttpLink]
    arrived: int = 0

    async def hang(self, connection: RawConnection, request: RawRequest) -> None:
        """The call runs until its connection is closed."""
        self.arrived += 1
        await connection.gone()

    async def cancel(self, calls: int) -> None:
        """Begin so many calls, cancel them at one instant, and wait until all of them have ended."""
        wanted = self.arrived + calls
        async with trio.open_nursery() as nursery:
            for number in range(calls):
                nursery.start_soon(self.links[number % len(self.links)].exchange, call(), nothing)
            while self.arrived < wanted:
                await self.server.heard.wait()
            nursery.cancel_scope.cancel("all at once")

    @property
    def failed(self) -> int:
        return sum(link.notices_failed for link in self.links)

    @property
    def times_told(self) -> Mapping[object, int]:
        """How often each call was cancelled, by session and id; 0: never."""
        told: Counter[object] = Counter()
        for request in self.server.requests:
            if request.method == "POST" and request.json.get("method") == "tools/call":
                told[request.headers["mcp-session-id"], request.rpc_id] += 0
            elif is_notice(request):
                params = request.json["params"]
                assert isinstance(params, dict)
                told[request.headers["mcp-session-id"], params["requestId"]] += 1
        return told

    @property
    def loads(self) -> list[int]:
        """How many notices came on each connection that had some."""
        return sorted(Counter(one.connection for one in self.server.requests if is_notice(one)).values())


@asynccontextmanager
async def scene(on_notice: Handler | None = None, *, sessions: int = 1) -> AsyncIterator[Scene]:
    ids = (b"s-%d" % number for number in itertools.count())
    found: list[Scene] = []

    async def hang(connection: RawConnection, request: RawRequest) -> None:
        await found[0].hang(connection, request)

    async with serve_raw(legacy(hang, session=ids, on_notice=on_notice)) as server:
        found.append(Scene(server=server, links=[]))
        pool = pool_for(server)
        found[0].links += [await open_session(pool) for _ in range(sessions)]
        yield found[0]
        await at_rest(pool)


def once(scene: Scene, calls: int) -> None:
    """Every call was cancelled exactly once."""
    told = scene.times_told
    assert (len(told), set(told.values()), scene.failed) == (calls, {1}, 0)


def surely(scene: Scene, calls: int) -> None:
    """Every call was cancelled, none more often than twice."""
    told = scene.times_told
    assert (len(told), scene.failed) == (calls, 0)
    assert set(told.values()) <= {1, 2}


def nth(connection: RawConnection) -> int:
    """How many notices have come on a connection."""
    return sum(is_notice(one) and one.connection == connection.number for one in connection.server.requests)


# --- backends that behave ---


@pytest.mark.parametrize("sessions", [1, 25])
async def test_of_a_thousand_calls_cancelled_at_one_instant_each_is_told_once(
    sessions: int, mock_clock: trio.testing.MockClock
) -> None:
    async with scene(sessions=sessions) as where:
        await where.cancel(1000)
        once(where, 1000)
        assert len(where.loads) <= CONTROL_PLACES


async def test_it_goes_as_well_a_second_time(mock_clock: trio.testing.MockClock) -> None:
    async with scene() as where:
        await where.cancel(100)
        await where.cancel(100)
        once(where, 200)


async def test_one_cancelled_call_has_a_connection_for_itself(mock_clock: trio.testing.MockClock) -> None:
    alone: list[bool] = []

    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        alone.append(not connection.unread)
        await connection.send(ACCEPTED)

    async with scene(on_notice) as where:
        for _ in range(3):
            await where.cancel(CONTROL_PLACES)
        once(where, 3 * CONTROL_PLACES)
    assert all(alone)


async def test_notices_have_the_session_they_belong_to_and_keep_their_reason(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with scene(sessions=3) as where:
        await where.cancel(60)
        once(where, 60)
        reasons = {one.json["params"]["reason"] for one in where.server.requests if is_notice(one)}  # type: ignore[call-overload, index]  # of our own making
        assert reasons == {"all at once"}


async def test_a_distant_backend_is_told_of_a_thousand_in_time(mock_clock: trio.testing.MockClock) -> None:
    """Every answer takes a tenth of a second; one after the other they would take six minutes on one connection."""
    owed: Counter[int] = Counter()

    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        owed[connection.number] += 1
        if not connection.unread:
            await trio.sleep(0.1)
            await connection.send(ACCEPTED * owed.pop(connection.number))

    async with scene(on_notice) as where, trio.open_nursery() as nursery:
        nursery.start_soon(where.cancel, 1000)
        for _ in range(5):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.1)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GOODBYE_S)  # whoever was not told by now never will be
    once(where, 1000)


async def test_notices_go_together_over_tls_too(mock_clock: trio.testing.MockClock) -> None:
    """More of them than fit into one record."""
    long = b"HTTP/1.1 202 Accepted\r\nX-Trace: %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * 1000)

    async def script(connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            await connection.send(long if request.body else ACCEPTED)

    async with serve_raw(script, AUTHORITY.server_context(TLS_NAME)) as server:
        pool = tls_pool(server, TlsSpec(ca_pem=AUTHORITY.pem))
        body = b"x" * 300

        async def tell() -> None:
            assert await pool.tell(b"", body) == 202

        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(tell)
        assert len(server.requests) == 500
        assert server.connections <= CONTROL_PLACES
        await pool.aclose()


# --- backends that do not ---


ANSWERS = {
    "accepted": ACCEPTED,
    "an error with a page": response(b"<h1>no</h1>", status="500 Internal Server Error", content_type="text/html"),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "an interim answer first": b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED,
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.0, kept": b"HTTP/1.0 202 Accepted\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("answer", [pytest.param(raw, id=name) for name, raw in ANSWERS.items()])
async def test_any_answer_will_do(answer: bytes, mock_clock: trio.testing.MockClock) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        await connection.send(answer)

    async with scene(on_notice) as where:
        await where.cancel(60)
        once(where, 60)
        assert len(where.loads) <= CONTROL_PLACES


CLOSING = {
    "says so": b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 202 Accepted\r\n\r\n",
    "without a word": ACCEPTED,
}


@pytest.mark.parametrize("last", [pytest.param(raw, id=name) for name, raw in CLOSING.items()])
@pytest.mark.parametrize("after", [1, 2, 10])
async def test_a_backend_that_closes_after_some_answers_is_told_on_other_connections(
    after: int, last: bytes, mock_clock: trio.testing.MockClock
) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        if nth(connection) < after:
            await connection.send(ACCEPTED)
        else:
            await connection.send(last)
            await connection.stream.aclose()

    async with scene(on_notice) as where:
        await where.cancel(60)
        surely(where, 60)


async def test_a_backend_that_resets_in_the_middle_is_told_on_other_connections(
    mock_clock: trio.testing.MockClock,
) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        if nth(connection) == 5:
            connection.forget()
            connection.reset()
        else:
            await connection.send(ACCEPTED)

    async with scene(on_notice) as where:
        await where.cancel(60)
        surely(where, 60)


async def silent(connection: RawConnection, request: RawRequest) -> None:
    """Take it, and say nothing."""


async def test_a_backend_that_loses_what_comes_behind_the_first_is_told_one_by_one(
    mock_clock: trio.testing.MockClock,
) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        connection.forget()
        await connection.send(ACCEPTED)

    async with scene(on_notice) as where, trio.open_nursery() as nursery:
        nursery.start_soon(where.cancel, 40)
        await trio.testing.wait_all_tasks_blocked()
        assert len(where.loads) == CONTROL_PLACES
        mock_clock.jump(SILENCE_S)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GOODBYE_S)
    surely(where, 40)


async def test_a_backend_that_never_answers_holds_nobody_longer_than_the_shield(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with scene(silent) as where, trio.open_nursery() as nursery:
        nursery.start_soon(where.cancel, 40)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GOODBYE_S)
        await trio.testing.wait_all_tasks_blocked()
        assert where.failed == 40
        assert sum(where.times_told.values()) == CONTROL_PLACES


async def test_a_slow_backend_is_told_of_all_that_it_has_time_to_hear(mock_clock: trio.testing.MockClock) -> None:
    """What is answered one by one may take longer than the longest silence."""

    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        await trio.sleep(0.4)
        await connection.send(ACCEPTED)

    calls = 4 * CONTROL_PLACES
    async with scene(on_notice) as where, trio.open_nursery() as nursery:
        nursery.start_soon(where.cancel, calls)
        for _ in range(4):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.4)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GOODBYE_S)
    once(where, calls)
    assert len(where.loads) == CONTROL_PLACES


async def test_a_lost_session_ends_the_telling(mock_clock: trio.testing.MockClock) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        await connection.send_json(b"{}", status="404 Not Found")

    async with scene(on_notice) as where:
        await where.cancel(60)
        assert where.links[0].lost
        assert where.failed == 60


async def test_a_redirected_notice_was_not_taken(mock_clock: trio.testing.MockClock) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        await connection.send_json(b"", status="307 Temporary Redirect", extra=b"Location: /elsewhere\r\n")

    async with scene(on_notice) as where:
        await where.cancel(10)
        assert where.failed == 10
        assert {one.target for one in where.server.requests} == {"/mcp"}


async def test_when_those_who_carry_give_up_the_next_go_on(mock_clock: trio.testing.MockClock) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        if len(where.loads) > CONTROL_PLACES:
            await connection.send(ACCEPTED)

    async with scene(on_notice) as where, trio.open_nursery() as nursery:
        nursery.start_soon(where.cancel, CONTROL_PLACES)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GOODBYE_S / 2)
        nursery.start_soon(where.cancel, 20)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(GOODBYE_S / 2)
        await trio.testing.wait_all_tasks_blocked()
        assert where.failed == CONTROL_PLACES
        assert set(where.times_told.values()) == {1}


async def test_closing_the_pool_wakes_all_who_wait(mock_clock: trio.testing.MockClock) -> None:
    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        if nth(connection) == 1:
            await connection.send(ACCEPTED)

    async with scene(on_notice) as where, trio.open_nursery() as nursery:
        nursery.start_soon(where.cancel, 40)
        await trio.testing.wait_all_tasks_blocked()
        await where.links[0].pool.aclose()


TRICKS = ("accept", "accept", "accept", "slow", "half", "garbage", "silent", "forget", "last", "close", "reset")


@settings(max_examples=20)
@given(
    tricks=st.lists(st.sampled_from(TRICKS), min_size=1, max_size=30),
    storms=st.lists(st.integers(1, 20), min_size=1, max_size=3),
)
def test_whatever_the_backend_does_nobody_is_told_more_than_twice_and_nothing_is_left(
    tricks: list[str], storms: list[int]
) -> None:
    trick = itertools.cycle(tricks)

    async def on_notice(connection: RawConnection, request: RawRequest) -> None:
        match next(trick):
            case "accept":
                await connection.send(ACCEPTED)
            case "slow":
                await trio.sleep(0.3)
                await connection.send(ACCEPTED)
            case "half":
                await connection.send(ACCEPTED[:20])
            case "garbage":
                await connection.send(b"SSH-2.0-OpenSSH_9\r\n")
            case "silent":
                pass
            case "forget":
                connection.forget()
                await connection.send(ACCEPTED)
            case "last":
                connection.forget()
                await connection.send(CLOSING["says so"])
                await connection.stream.aclose()
            case "close":
                connection.forget()
                await connection.stream.aclose()
            case _:
                connection.forget()
                connection.reset()

    async def main() -> None:
        async with scene(on_notice) as where:
            async with trio.open_nursery() as nursery:
                for calls in storms:
                    nursery.start_soon(where.cancel, calls)
                    await trio.testing.wait_all_tasks_blocked()
                    clock.jump(0.4)
                for _ in range(int(GOODBYE_S / 0.4) + 1):
                    await trio.testing.wait_all_tasks_blocked()
                    clock.jump(0.4)
            told = where.times_told
            assert len(told) == sum(storms)
            assert max(told.values()) <= 2
            assert sum(not times for times in told.values()) <= where.failed

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)
