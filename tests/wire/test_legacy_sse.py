"""Tests of ``legacy_sse`` on real sockets: one stream down, a POST for each message up."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from mcp_gateway.backends.transports.base import GOODBYE_S, Inbound, Outgoing
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.legacy_sse import SKIPPED_MAX, open_legacy_sse, read_endpoint
from mcp_gateway.backends.transports.origin import read_origin
from mcp_gateway.backends.transports.pipe import PipeLink
from mcp_gateway.config.spec import BackendLimits, HttpTarget
from mcp_gateway.errors import (
    BackendAuth,
    BackendBusy,
    BackendError,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTooLarge,
    Executed,
)
from mcp_gateway.protocol import jsonrpc
from mcp_gateway.values import BackendKey, JsonObject
from tests.support import peers
from tests.support.raw_http import RawConnection, RawRequest, RawServer, response, serve_raw

pytestmark = pytest.mark.wire

KEY = BackendKey("files")
LIMITS = BackendLimits(event_bytes=100_000, response_bytes=300_000)
ENDPOINT = "/messages?session_id=s3cret"
ORIGIN = read_origin(HttpTarget(url="http://h.example/prefix/sse"))
INITIALIZED: JsonObject = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "s"}}


@attrs.define(eq=False)
class SseBackend:
    """An HTTP+SSE server; tests set what it does wrong."""

    endpoint: str | None = ENDPOINT
    before: bytes = b""
    """What stands on the stream before the endpoint."""
    """None: the stream begins and says nothing."""
    status: str = "200 OK"
    content_type: str = "text/event-stream"
    posted: str = "202 Accepted"
    holds_posts: bool = False
    initialize: JsonObject = attrs.field(factory=lambda: {"result": INITIALIZED})
    stream: RawConnection | None = None
    posts: list[RawRequest] = attrs.field(factory=list)
    got: RawRequest | None = None

    async def script(self, connection: RawConnection) -> None:
        while (request := await connection.read_request()) is not None:
            if request.method == "GET":
                self.got = request
                await self.open(connection)
            else:
                await self.accept(connection, request)

    async def open(self, connection: RawConnection) -> None:
        if self.status != "200 OK" or self.content_type != "text/event-stream":
            await connection.send(response(b"", status=self.status, content_type=self.content_type))
            return
        await connection.begin_events()
        self.stream = connection
        if self.endpoint is not None:
            await connection.send_chunk(
                self.before + b": hello\n\nevent: endpoint\r\ndata: %b\r\n\r\n" % self.endpoint.encode()
            )
        await connection.gone()

    async def accept(self, connection: RawConnection, request: RawRequest) -> None:
        self.posts.append(request)
        method = request.json.get("method")
        handshake = method in ("initialize", "notifications/initialized", "server/discover")
        if self.holds_posts and not handshake:
            await connection.gone()
            return
        await connection.send(response(b"Accepted", status="202 Accepted" if handshake else self.posted))
        if method == "initialize":
            await self.say(id=request.json["id"], **self.initialize)

    async def say(self, **message: object) -> None:
        await self.send(json.dumps({"jsonrpc": "2.0", **message}).encode())

    async def send(self, data: bytes, name: bytes = b"message") -> None:
        assert self.stream is not None
        await self.stream.send_chunk(b"event: %b\ndata: %b\n\n" % (name, data))

    @property
    def methods(self) -> list[object]:
        return [post.json.get("method") for post in self.posts]


async def ignore(message: Inbound) -> None:
    """For tests that hear nothing."""


@asynccontextmanager
async def pooled(server: RawServer, target: HttpTarget | None = None) -> AsyncIterator[HttpPool]:
    """A pool of which nothing is in use when the block ends."""
    target = attrs.evolve(target or HttpTarget(url=""), url=f"http://127.0.0.1:{server.port}/prefix/sse")
    pool = HttpPool(key=KEY, target=target, connect_s=5.0)
    try:
        yield pool
    finally:
        assert (pool.control_in_flight, pool.streams_in_flight, pool.open - pool.idle) == (0, 0, 0)
        await pool.aclose()
        assert pool.open == 0


@asynccontextmanager
async def connected(
    far: SseBackend,
    *,
    unattributed: list[str] | None = None,
    exits: list[str] | None = None,
    target: HttpTarget | None = None,
    limits: BackendLimits = LIMITS,
) -> AsyncIterator[PipeLink]:
    """A link to ``far``."""

    async def hear(message: Inbound) -> None:
        if unattributed is not None:
            unattributed.append(message.method)

    async with serve_raw(far.script) as server, pooled(server, target) as pool:
        async with open_legacy_sse(
            pool, limits=limits, unattributed=hear, on_exit=(exits if exits is not None else []).append
        ) as link:
            yield link


def call(name: str = "t") -> Outgoing:
    def render(upstream_id: int) -> bytes:
        return jsonrpc.render_request(b"%d" % upstream_id, "tools/call", b'{"name":"%b"}' % name.encode())

    return Outgoing(method="tools/call", render=render)


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110  # the far end has many conditions and no event for each
            await trio.sleep(0.005)


async def test_messages_are_posted_to_the_endpoint_and_answered_on_the_stream() -> None:
    far = SseBackend()
    target = HttpTarget(url="", headers=(("X-Team", "red"),), credential="Bearer t")
    async with connected(far, target=target) as link, trio.open_nursery() as nursery:
        assert link.era.version == "2024-11-05"
        assert link.hello.capabilities == {"tools": {}}
        assert far.methods == ["initialize", "notifications/initialized"]

        async def answer() -> None:
            await eventually(lambda: len(far.posts) == 3)
            await far.say(id=far.posts[2].rpc_id, result={"ok": True})

        nursery.start_soon(answer)
        got = await link.exchange(call(), ignore)
        assert json.loads(got.raw)["result"] == {"ok": True}
        assert far.got is not None
        assert far.got.target == "/prefix/sse"
        for request in (far.got, *far.posts):
            assert (request.headers["x-team"], request.headers["authorization"]) == ("red", "Bearer t")
        assert {post.target for post in far.posts} == {ENDPOINT}
        assert {post.headers["content-type"] for post in far.posts} == {"application/json"}


async def test_what_else_comes_on_the_stream_finds_its_owner() -> None:
    far, unattributed = SseBackend(), list[str]()
    heard: list[Inbound] = []
    async with connected(far, unattributed=unattributed) as link, trio.open_nursery() as nursery:

        async def hear(message: Inbound) -> None:
            heard.append(message)

        nursery.start_soon(link.exchange, call(), hear)
        await eventually(lambda: len(far.posts) == 3)
        upstream_id = far.posts[2].rpc_id
        await far.send(b"{}", name=b"vendor")
        await far.send(b"", name=b"message")
        await far.say(method="notifications/tools/list_changed")
        await far.say(method="notifications/progress", params={"progressToken": upstream_id, "progress": 1})
        await far.say(id="p", method="ping")
        await far.say(id="q", method="roots/list")
        await eventually(lambda: len(heard) == 2 and len(far.posts) == 4 and len(unattributed) == 1)
        assert [message.method for message in heard] == ["notifications/progress", "roots/list"]
        assert far.posts[3].json == {"jsonrpc": "2.0", "id": "p", "result": {}}
        await link.notify(jsonrpc.render_result(b'"q"', b'{"roots":[]}'))
        assert far.posts[4].json["result"] == {"roots": []}
        await far.say(id=upstream_id, result={})


async def test_a_cancelled_call_reaches_the_backend() -> None:
    far = SseBackend()
    async with connected(far) as link:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.exchange, call(), ignore)
                await eventually(lambda: len(far.posts) == 3)
                scope.cancel("the client has left")
        assert far.posts[3].json["params"] == {"requestId": far.posts[2].rpc_id, "reason": "the client has left"}


async def test_calls_that_are_cancelled_at_one_instant_are_told_together() -> None:
    unread: list[bool] = []

    class Noting(SseBackend):
        async def accept(self, connection: RawConnection, request: RawRequest) -> None:
            unread.append(connection.unread)
            await super().accept(connection, request)

    far = Noting()
    async with connected(far) as link:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(link.exchange, call(), ignore)
            await eventually(lambda: far.methods.count("tools/call") == 50)
            assert not any(unread)
            nursery.cancel_scope.cancel("all at once")
        notices = [post.json["params"] for post in far.posts if post.json["method"] == "notifications/cancelled"]
        assert len({str(params) for params in notices}) == len(notices) == 50
        assert any(unread)


async def test_a_call_that_is_cancelled_while_it_is_posted_is_cancelled_at_the_backend_too() -> None:
    far = SseBackend(holds_posts=True)
    async with connected(far) as link:
        began_at = trio.current_time()
        with trio.move_on_after(0.1):
            await link.exchange(call(), ignore)
        assert 0.1 + GOODBYE_S <= trio.current_time() - began_at + 0.01 <= 0.1 + GOODBYE_S + 0.5
        assert far.methods[2:] == ["tools/call", "notifications/cancelled"]


async def test_a_post_that_is_never_accepted_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_gateway.backends.transports.legacy_sse.POST_S", 0.1)
    far = SseBackend(holds_posts=True)
    async with connected(far) as link:
        with pytest.raises(BackendGone, match="not accepted") as caught:
            await link.exchange(call(), ignore)
        assert caught.value.executed is Executed.UNKNOWN


@pytest.mark.parametrize(
    "status, error, lost",
    [
        pytest.param("401 Unauthorized", BackendAuth, False, id="401"),
        pytest.param("403 Forbidden", BackendAuth, False, id="403"),
        pytest.param("429 Too Many Requests", BackendBusy, False, id="429"),
        pytest.param("503 Service Unavailable", BackendBusy, False, id="503"),
        pytest.param("404 Not Found", BackendSessionLost, True, id="404"),
        pytest.param("410 Gone", BackendSessionLost, True, id="410"),
        pytest.param("400 Bad Request", BackendProtocol, False, id="400"),
    ],
)
async def test_a_refused_post_fails_its_call_and_sends_no_notice(
    status: str, error: type[BackendError], lost: bool
) -> None:
    far = SseBackend(posted=status)
    async with connected(far) as link:
        with pytest.raises(error) as caught:
            await link.exchange(call(), ignore)
        assert caught.value.executed is Executed.NO
        assert far.methods[2:] == ["tools/call"]
        if lost:
            await link.gone()
        assert link.lost is lost


async def test_the_end_of_the_stream_fails_every_call() -> None:
    far, exits = SseBackend(), list[str]()
    async with connected(far, exits=exits) as link:
        errors: list[BackendGone] = []

        async def wait() -> None:
            try:
                await link.exchange(call(), ignore)
            except BackendGone as gone:
                errors.append(gone)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await eventually(lambda: len(far.posts) == 4)
            assert far.stream is not None
            await far.stream.end_chunks()
        assert [error.executed for error in errors] == [Executed.UNKNOWN] * 2
        assert link.lost
        assert exits == ["its event stream ended"]


@pytest.mark.parametrize(
    "message, limit",
    [
        pytest.param({"method": "notifications/x", "params": {"x": 100_000 * "y"}}, "eventBytes = 100000", id="notice"),
        pytest.param({"id": 1, "result": {"x": 300_000 * "y"}}, "responseBytes = 300000", id="answer"),
    ],
)
async def test_an_event_above_its_bound_ends_the_stream(message: JsonObject, limit: str) -> None:
    far, exits = SseBackend(), list[str]()
    async with connected(far, exits=exits) as link:
        await far.say(**message)
        assert f"limits.{limit}" in await link.gone()


async def test_an_answer_may_be_larger_than_other_events(nursery: trio.Nursery) -> None:
    far = SseBackend()
    async with connected(far) as link:
        nursery.start_soon(answer_last, far, 200_000)
        assert len((await link.exchange(call(), ignore)).raw) > 200_000


async def test_an_answer_above_its_bound_though_not_above_that_of_events_fails_its_call_alone(
    nursery: trio.Nursery,
) -> None:
    far = SseBackend()
    async with connected(far, limits=BackendLimits(event_bytes=100_000, response_bytes=10_000)) as link:
        nursery.start_soon(answer_last, far, 20_000)
        with pytest.raises(BackendTooLarge, match=r"limits\.responseBytes = 10000"):
            await link.exchange(call(), ignore)
        assert not link.lost


async def answer_last(far: SseBackend, size: int) -> None:
    """Answer the call that is about to come by so many bytes."""
    while far.methods[-1:] != ["tools/call"]:
        await trio.lowlevel.checkpoint()
    await far.say(id=far.posts[-1].json["id"], result={"x": "y" * size})


async def test_closing_the_link_closes_its_stream() -> None:
    far = SseBackend()
    async with connected(far) as link:
        await link.aclose()
        await link.aclose()
        with trio.fail_after(1):
            await link.gone()


@pytest.mark.parametrize(
    "far, error",
    [
        pytest.param(SseBackend(status="401 Unauthorized"), BackendAuth, id="401"),
        pytest.param(SseBackend(status="404 Not Found"), BackendProtocol, id="404"),
        pytest.param(SseBackend(status="204 No Content"), BackendProtocol, id="204"),
        pytest.param(SseBackend(content_type="text/html"), BackendProtocol, id="a page"),
        pytest.param(SseBackend(endpoint="http://evil.example/messages"), BackendProtocol, id="another origin"),
        pytest.param(
            SseBackend(initialize={"error": {"code": -1, "message": "no"}}), BackendRefused, id="refused handshake"
        ),
    ],
)
async def test_what_is_no_http_sse_server_is_refused_bare(far: SseBackend, error: type[BackendError]) -> None:
    async with serve_raw(far.script) as server, pooled(server) as pool:
        with pytest.raises(error):
            async with open_legacy_sse(pool, limits=LIMITS, unattributed=ignore):
                pytest.fail("opened")


EARLY = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"event: ping\ndata: 2026-11-27\n\n", id="a ping"),
        pytest.param(EARLY, id="a message"),
        pytest.param(b"data: \n\nid: 7\n\n", id="empty ones"),
        pytest.param(EARLY * SKIPPED_MAX, id="many"),
    ],
)
async def test_events_before_the_endpoint_are_skipped(before: bytes) -> None:
    far = SseBackend(before=before)
    heard: list[str] = []
    async with connected(far, unattributed=heard) as link:
        await far.say(method="notifications/tools/list_changed")
        while not heard:  # another task fills it
            await trio.lowlevel.checkpoint()
        assert (heard, link.lost) == (["notifications/tools/list_changed"], False)


async def test_a_stream_of_other_events_is_no_http_sse_server() -> None:
    async with serve_raw(SseBackend(before=EARLY * 101).script) as server, pooled(server) as pool:
        with pytest.raises(BackendProtocol, match="101 events, none of them the endpoint"):
            async with open_legacy_sse(pool, limits=LIMITS, unattributed=ignore):
                pytest.fail("opened")


async def test_opening_is_bounded_by_the_caller() -> None:
    far = SseBackend(endpoint=None)
    with trio.move_on_after(0.1) as scope:
        async with connected(far):
            pytest.fail("opened")
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "endpoint, target",
    [
        pytest.param("/messages?session_id=1", b"/messages?session_id=1", id="absolute path"),
        pytest.param("messages", b"/prefix/messages", id="relative path"),
        pytest.param("?s=1", b"/prefix/sse?s=1", id="query"),
        pytest.param("http://h.example:80/m", b"/m", id="absolute, port spelled out"),
        pytest.param("HTTP://H.example", b"/", id="absolute, no path"),
        pytest.param("/m#fragment", b"/m", id="fragment"),
    ],
)
def test_an_endpoint_of_the_same_origin_is_read(endpoint: str, target: bytes) -> None:
    assert read_endpoint(KEY, ORIGIN, endpoint.encode()) == target


@pytest.mark.parametrize(
    "endpoint, why",
    [
        pytest.param(
            b"http://u:p@other.example/m?session_id=1", "another origin, http://other.example", id="another host"
        ),
        pytest.param(b"//other.example/m", "another origin, http://other.example", id="another host, no scheme"),
        pytest.param(b"https://h.example/m", "another origin, https://h.example", id="another scheme"),
        pytest.param(b"http://h.example:8080/m", "another origin, http://h.example:8080", id="another port"),
        pytest.param(b"http://h.example:x/m", "not a URI", id="no port"),
        pytest.param(b"file:///m", "not a URI", id="no HTTP"),
        pytest.param(b"http://[h.example/m", "not a URI", id="no host"),
        pytest.param(b"/m HTTP/1.1", "not a URI", id="a space"),
        pytest.param(b"/m\nX-Evil: 1", "not a URI", id="a line end"),
        pytest.param("/\u00e4".encode(), "not a URI", id="not ASCII"),
        pytest.param(b"", "not a URI", id="empty"),
        pytest.param(b"/" + b"m" * 9000, "not a URI", id="too long"),
    ],
)
def test_any_other_endpoint_is_refused_and_its_origin_told(endpoint: bytes, why: str) -> None:
    with pytest.raises(BackendProtocol) as caught:
        read_endpoint(KEY, ORIGIN, endpoint)
    assert caught.value.why.endswith(why)


@pytest.mark.peers
async def test_the_sdk_of_the_time_is_understood() -> None:
    peers.require("peers")
    async with peers.mcp1_server("--sse") as peer:
        pool = HttpPool(key=KEY, target=HttpTarget(url=peer.url), connect_s=5.0)
        async with open_legacy_sse(pool, limits=LIMITS, unattributed=ignore) as link:
            assert "tools" in link.hello.capabilities

            def render(upstream_id: int) -> bytes:
                return jsonrpc.render_request(b"%d" % upstream_id, "tools/list", None)

            answer = await link.exchange(Outgoing(method="tools/list", render=render), ignore)
            assert json.loads(answer.raw)["result"]["tools"]
        await pool.aclose()
