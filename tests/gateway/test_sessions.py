"""The 2025 face: handshake, session ids, verbs and lists."""

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.auth.principal import Principal
from mcp_gateway.config.spec import GatewayLimits, SessionsSpec
from mcp_gateway.gateway.call.deadline import Cause
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import BackendKey
from tests.support.scripted_gateway import message, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, tool


@pytest.mark.parametrize(
    "offered, agreed",
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),  # without modern metadata this is a legacy handshake
        ("1999-01-01", "2025-11-25"),
    ],
)
async def test_a_version_is_negotiated(autojump_clock: MockClock, offered: str, agreed: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session(offered)
        assert session.hello["protocolVersion"] == agreed
        info = session.hello["serverInfo"]
        assert isinstance(info, dict)
        assert info["name"] == "mcp-gateway"


async def test_completions_are_not_advertised_to_a_2024_client(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(capabilities={"tools": {}, "completions": {}})) as where:
        old, new = await where.session("2024-11-05"), await where.session("2025-03-26")
        assert "completions" not in str(old.hello["capabilities"])
        assert "completions" in str(new.hello["capabilities"])


async def test_initialize_without_a_version_is_refused(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", body=message("initialize", {}, 1))
        assert reply.error["code"] == -32602


async def test_the_initialized_notification_may_be_missing(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), prefixes={"files": "f_"}) as where:
        session = await where.session()
        tools = (await session.ask("tools/list")).result["tools"]
        assert [one["name"] for one in tools] == ["f_read"]  # type: ignore[index,union-attr,call-overload]  # raw JSON


async def test_requests_without_a_session_are_400_and_unknown_ones_404(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        missing = await where.send("POST", body=message("tools/list", None, 1))
        unknown = await where.send("POST", headers={"Mcp-Session-Id": "1.abc"}, body=message("tools/list", None, 1))
        assert (missing.status, unknown.status) == (400, 404)


async def test_an_ended_session_is_404_and_its_streams_end(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        assert (await session.end()).status == 204
        assert (await session.ask("ping")).status == 404
        assert (await session.end()).status == 404
        await trio.testing.wait_all_tasks_blocked()
        assert len(where.gateway.context.sessions) == 0
        assert len(where.gateway.context.addresses) == 0


async def test_invariant_4_a_session_of_another_principal_is_unknown(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        where.principal = Principal(subject="mallory", digest=b"mallory!")
        assert (await session.ask("tools/list")).status == 404


async def test_a_restarted_gateway_goes_on_with_old_ids(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-06-18", sampling={}, elicitation={"url": {}})
    async with scripted_gateway(ScriptedBackend()) as other:
        session.where = other
        assert (await session.ask("tools/list")).status == 200
        (revived,) = other.gateway.context.sessions
        assert revived.era.version == "2025-06-18"
        assert revived.capabilities == {"sampling": {}, "elicitation": {"url": {}}}


async def test_another_key_or_too_much_age_makes_an_id_unknown(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        await trio.sleep(24 * 3600 + 120)
        assert (await session.ask("ping")).status == 404
    async with scripted_gateway(
        ScriptedBackend(), sessions=SessionsSpec(signing_keys=(b"another key of 16",))
    ) as other:
        session.where = other
        assert (await session.ask("ping")).status == 404


async def test_rotated_keys_are_taken_over_without_a_restart(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        old = await where.session()
        both = SessionsSpec(signing_keys=(b"fedcba9876543210", b"0123456789abcdef"))
        where.spec.set(attrs.evolve(where.spec.value, sessions=both))
        await trio.sleep(0.1)
        new = await where.session()
        assert (await old.ask("ping")).status == 200
        only_new = SessionsSpec(signing_keys=(b"fedcba9876543210",))
        where.spec.set(attrs.evolve(where.spec.value, sessions=only_new))
        await trio.sleep(0.1)
        assert (await old.ask("ping")).status == 404
        assert (await new.ask("ping")).status == 200


async def test_idle_sessions_leave_memory_and_come_back(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        await session.call("read")
        assert where.fleet.get(BackendKey("files")).sessions == 1  # type: ignore[union-attr]  # it is configured
        await trio.sleep(31 * 60)
        assert len(where.gateway.context.sessions) == 0
        assert where.fleet.get(BackendKey("files")).sessions == 0  # type: ignore[union-attr]  # it is configured
        assert (await session.call("read")).result == {"content": []}


async def test_invariant_7_the_longest_idle_session_makes_room(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), limits=GatewayLimits(sessions=2)) as where:
        first = await where.session()
        await trio.sleep(1)
        second = await where.session()
        await first.ask("ping")
        await where.session()
        keys = {session.key for session in where.gateway.context.sessions}
        assert len(keys) == 2
        assert (await first.ask("ping")).status == 200
        assert (await second.ask("ping")).status == 200  # its id stays good


async def test_busy_sessions_are_never_evicted(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(), limits=GatewayLimits(sessions=1)) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        refused = await where.send(
            "POST", body=message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, 1)
        )
        assert refused.status == 503
        assert refused.header(b"retry-after") == "1"


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"MCP-Protocol-Version": "2025-11-25"}, 200),
        ({"MCP-Protocol-Version": "2024-11-05"}, 200),
        ({"MCP-Protocol-Version": "nonsense"}, 400),
        ({"Accept": "*/*"}, 200),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "application/json;q=0, text/html"}, 406),
        ({"Accept": "text/event-stream"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_headers_decide_the_status(autojump_clock: MockClock, headers: dict[str, str], status: int) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        given = {"Mcp-Session-Id": session.id, **headers}
        reply = await where.send("POST", headers=given, body=message("tools/list", None, 1))
        assert reply.status == status
        if headers.get("Accept") == "text/event-stream":
            assert reply.opened


@pytest.mark.parametrize(
    "body, code",
    [
        (b"", -32700),
        (b"{", -32700),
        (b"[]", None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
    ],
)
async def test_malformed_bodies_are_400(autojump_clock: MockClock, body: bytes, code: int | None) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        reply = await where.send("POST", headers=session.headers(), body=body)
        assert reply.status == 400
        if code is not None:
            assert reply.error["code"] == code


async def test_unknown_methods_and_second_handshakes_are_refused_inside_a_session(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        assert (await session.ask("tasks/list")).error["code"] == -32601
        assert (await session.ask("subscriptions/listen")).error["code"] == -32601
        assert (await session.ask("logging/setLevel", {"level": "loud"})).error["code"] == -32602
        assert (await session.ask("logging/setLevel", {"level": "error"})).result == {}


async def test_verbs(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.send("PUT")).status == 405
        assert (await where.send("GET", headers={"Accept": "text/event-stream"})).status == 405
        assert (await where.send("DELETE")).status == 400
        session = await where.session()
        refused = await where.send("GET", headers=session.headers(Accept="application/json"))
        assert refused.status == 406
        assert (await where.send("POST", path="/mcp/vs/nobody", body=b"{}")).status == 404


async def test_lists_longer_than_a_page_follow_cursors_and_refuse_foreign_ones(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend(tools=[tool(f"t{number}") for number in range(6000)], page=6000)
    async with scripted_gateway(backend) as where:
        session = await where.session()
        first = (await session.ask("tools/list")).result
        second = (await session.ask("tools/list", {"cursor": first["nextCursor"]})).result
        names = [one["name"] for page in (first, second) for one in page["tools"]]  # type: ignore[index,union-attr,call-overload]  # raw JSON
        assert names == [f"t{number}" for number in range(6000)]
        assert "nextCursor" not in second
        for cursor in ("", "1.abc", str(first["nextCursor"])[:-2]):
            assert (await session.ask("tools/list", {"cursor": cursor})).error["code"] == -32602
        assert (await session.ask("prompts/list", {"cursor": first["nextCursor"]})).error["code"] == -32602
        backend.tools[5500] = tool("changed")
        where.fleet.get(BackendKey("files")).supervisor.refresh()  # type: ignore[union-attr]  # it is configured
        await trio.sleep(5)
        assert (await session.ask("tools/list", {"cursor": first["nextCursor"]})).error["code"] == -32602


async def test_a_changed_list_is_announced_once_to_a_session(autojump_clock: MockClock) -> None:
    backend = ScriptedBackend()
    async with scripted_gateway(backend) as where:
        session = await where.session()
        stream = session.stream()
        await stream.until(lambda: stream.opened)
        backend.tools.append(tool("write"))
        where.fleet.get(BackendKey("files")).supervisor.refresh()  # type: ignore[union-attr]  # it is configured
        await stream.until(lambda: len(stream.messages) == 1)
        await trio.sleep(5)
        assert [one["method"] for one in stream.messages] == ["notifications/tools/list_changed"]
        assert stream.events[0].event_id is not None  # the priming event of 2025-11-25
        (live,) = where.gateway.context.sessions
        table = where.gateway.context.table.value
        (view,) = table.views.values()
        assert live.seen[Kind.TOOLS] == view.fingerprint(Kind.TOOLS)
        where.gateway.calls.in_flight.cut_all(Cause.DRAIN)


async def test_batches_exist_in_2025_03_26_only(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        body = b"[%b,%b,%b]" % (
            message("tools/list", None, 1),
            message("notifications/initialized"),
            message("tools/call", {"name": "read"}, "two"),
        )
        session = await where.session("2025-03-26")
        reply = await where.send("POST", headers=session.headers(), body=body)
        assert reply.body is not None
        answers = orjson.loads(reply.body)
        assert [one["id"] for one in answers] == [1, "two"]
        notes = await where.send("POST", headers=session.headers(), body=b"[%b]" % message("notifications/initialized"))
        assert notes.status == 202
        newer = await where.session("2025-06-18")
        assert (await where.send("POST", headers=newer.headers(), body=body)).status == 400


async def test_a_batch_answers_each_bad_message_by_itself(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session("2025-03-26")
        body = b'[1,%b,{"jsonrpc":"2.0","id":7,"method":"ping"}]' % message("initialize", {"protocolVersion": "x"}, 3)
        reply = await where.send("POST", headers=session.headers(), body=body)
        assert reply.body is not None
        codes = [one.get("error", {}).get("code") for one in orjson.loads(reply.body)]
        assert codes == [-32600, -32600, None]
        many = b"[%b]" % b",".join(message("ping", None, number) for number in range(101))
        assert (await where.send("POST", headers=session.headers(), body=many)).status == 400
        assert (await where.send("POST", headers=session.headers(), body=b"[]")).status == 400
        versioned = session.headers(MCP_Protocol_Version="2025-11-25")
        assert (await where.send("POST", headers=versioned, body=body)).status == 400


async def test_initialize_cannot_be_cancelled_and_an_unknown_id_is_no_error(autojump_clock: MockClock) -> None:
    """Invariant 1: "The initialize request MUST NOT be cancelled by clients" (2025-11-25)."""
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        for request_id in (0, "unknown", None, True, 1.5):
            assert (await session.tell("notifications/cancelled", {"requestId": request_id})).status == 202
        assert (await session.ask("ping")).result == {}
