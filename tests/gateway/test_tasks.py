"""Tasks of 2025-11-25, end to end: one client, its servers, and everybody else."""

import attrs
import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.backends.upstream_sessions import IDLE_S
from mcp_gateway.config.spec import BackendLimits, GatewaySpec, SessionsSpec, Timeouts, VirtualServerSpec
from mcp_gateway.gateway.tasks import HELD_S, MAX_OF_ONE
from mcp_gateway.protocol.eras import V2025_06_18, V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, Session, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, notice, question, tool
from tests.support.scripted_tasks import RELATED, ScriptedTasks, of_task

FILES = BackendKey("files")


async def begin(session: Session, ttl: JsonValue = 60_000, name: str = "read", **more: JsonValue) -> str:
    """Begin a task; its id as the client knows it."""
    reply = await session.ask("tools/call", {"name": name, "task": {"ttl": ttl}, **more})
    task = reply.result["task"]
    assert isinstance(task, dict)
    assert reply.result["_meta"] == {"x": 1}
    return str(task["taskId"])


def related(message: JsonObject, member: str = "params") -> JsonValue:
    inside = message[member]
    assert isinstance(inside, dict)
    meta = inside["_meta"]
    assert isinstance(meta, dict)
    return meta[RELATED]


async def test_a_task_runs_from_its_beginning_to_its_result_under_an_id_of_ours(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(), prefixes={"files": "f_"}) as where:
        session = await where.session()
        task_id = await begin(session, name="f_read", ttl=60_000)
        task = server.tasks[0]
        assert task_id != task.id
        assert (task.params["name"], task.params["task"]) == ("read", {"ttl": 60_000})
        shown = (await session.ask("tasks/get", {"taskId": task_id})).result
        assert shown == {**task.shown, "taskId": task_id}
        waiting = session.begin("tasks/result", {"taskId": task_id})
        await trio.sleep(5)
        assert not waiting.closed
        task.finish(result={"content": [{"type": "text", "text": "done"}]})
        await waiting.until(lambda: waiting.closed)
        assert waiting.result == {"content": [{"type": "text", "text": "done"}], "_meta": of_task(task_id)}
        assert (await session.ask("tasks/get", {"taskId": task_id})).result["status"] == "completed"
        late = await session.ask("tasks/cancel", {"taskId": task_id})
        assert late.error["code"] == -32602
        assert "already in terminal status" in str(late.error["message"])


async def test_the_error_of_a_task_is_its_result_and_cancelling_ends_it(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session = await where.session()
        first, second = await begin(session), await begin(session)
        server.tasks[0].fails(Refusal(-32603, "out of paper", {"tray": 2}))
        failed = await session.ask("tasks/result", {"taskId": first})
        assert failed.error == {"code": -32603, "message": "out of paper", "data": {"tray": 2}}
        ended = (await session.ask("tasks/cancel", {"taskId": second})).result
        assert (ended["taskId"], ended["status"]) == (second, "cancelled")


async def test_capabilities_say_tasks_where_a_server_has_them(autojump_clock: MockClock) -> None:
    with_tasks: JsonObject = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    async with scripted_gateway(ScriptedTasks().backend(), ScriptedBackend(key=BackendKey("other"))) as where:
        assert (await where.session()).hello["capabilities"]["tasks"] == with_tasks  # type: ignore[index,call-overload]  # JSON
        for version in ("2025-06-18", "2025-03-26"):
            assert "tasks" not in str((await where.session(version)).hello)
        assert "tasks" not in str((await where.modern("server/discover")).result["capabilities"])
    backend = ScriptedTasks().backend()
    backend.capabilities = {"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}}}
    async with scripted_gateway(backend) as where:
        hello = (await where.session()).hello
        assert hello["capabilities"]["tasks"] == {"list": {}, "requests": {"tools": {"call": {}}}}  # type: ignore[index,call-overload]  # JSON
    async with scripted_gateway(ScriptedBackend()) as where:
        session = await where.session()
        assert "tasks" not in str(session.hello)
        for method in ("tasks/get", "tasks/list", "tasks/result", "tasks/cancel"):
            refused = await session.ask(method, {"taskId": "x"})
            assert (refused.status, refused.error["code"]) == (200, -32601)


async def test_task_support_of_tools_is_listed(autojump_clock: MockClock) -> None:
    backend = ScriptedTasks().backend()
    backend.tools = [{**tool("read"), "execution": {"taskSupport": "required"}}]
    async with scripted_gateway(backend) as where:
        listed = (await (await where.session()).ask("tools/list")).result["tools"]
        assert listed == backend.tools
        old = (await (await where.session("2025-06-18")).ask("tools/list")).result["tools"]
        assert "execution" not in str(old)


async def test_forged_and_foreign_ids_are_unknown_and_go_nowhere(autojump_clock: MockClock) -> None:
    server, other = ScriptedTasks(by_id_alone=True), ScriptedTasks(by_id_alone=True)
    backends = server.backend(), other.backend("other")
    backends[1].tools = [tool("write")]
    async with scripted_gateway(*backends) as where:
        mine, stranger = await where.session(), await where.session()
        task_id = await begin(mine)
        await begin(stranger, name="write")
        asked = sum(len(link.asked) for backend in backends for link in backend.links)
        forged = [server.tasks[0].id, task_id[:-1] + ("A" if task_id[-1] != "A" else "B"), "", "1.", "x" * 10_000]
        for method in ("tasks/get", "tasks/result", "tasks/cancel"):
            answers = [await mine.ask(method, {"taskId": one}) for one in forged]
            answers.append(await stranger.ask(method, {"taskId": task_id}))
            assert {(one.status, one.body) for one in map(without_id, answers)} == {
                (200, b'{"code":-32602,"message":"Task not found"}')
            }
            bad = await mine.ask(method, {"taskId": 7})
            assert (bad.error["code"], bad.error["message"]) == (-32602, "params.taskId must be a string")
            assert (await mine.ask(method)).error["code"] == -32602
        assert sum(len(link.asked) for backend in backends for link in backend.links) == asked
        assert (await mine.ask("tasks/get", {"taskId": task_id})).result["taskId"] == task_id


def without_id(reply: RecordedReply) -> RecordedReply:
    bare = RecordedReply()
    bare.status, bare.body = reply.status, orjson.dumps(reply.error)
    return bare


async def test_a_client_lists_its_own_tasks_as_they_stand_now(autojump_clock: MockClock) -> None:
    server, other = ScriptedTasks(), ScriptedTasks()
    second = other.backend("other")
    second.tools = [tool("write")]
    async with scripted_gateway(server.backend(), second) as where:
        session, stranger = await where.session(), await where.session()
        ids = [await begin(session), await begin(session, name="write")]
        await begin(stranger)
        server.tasks[0].status = "input_required"
        listed = (await session.ask("tasks/list")).result
        assert [(one["taskId"], one["status"]) for one in tasks_of(listed)] == list(
            zip(ids, ["input_required", "working"], strict=True)
        )
        assert "nextCursor" not in listed
        other.tasks.clear()  # its server has forgotten it
        assert [one["taskId"] for one in tasks_of((await session.ask("tasks/list")).result)] == ids[:1]
        assert len(tasks_of((await stranger.ask("tasks/list")).result)) == 1
        assert (await (await where.session()).ask("tasks/list")).result == {"tasks": []}


def tasks_of(result: JsonObject) -> list[JsonObject]:
    found = result["tasks"]
    assert isinstance(found, list)
    return found  # type: ignore[return-value]  # objects


async def test_what_a_virtual_server_does_not_show_has_no_tasks_there(autojump_clock: MockClock) -> None:
    backend, other = ScriptedTasks().backend(), ScriptedTasks().backend("other")
    other.tools = [tool("write")]
    virtual = (VirtualServerSpec(name="some", tools=("read",)),)
    spec = GatewaySpec(virtual_servers=virtual, sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",)))
    async with scripted_gateway(backend, other, spec=spec) as where:
        session = await where.session()
        mine, hidden = await begin(session), await begin(session, name="write")
        listed = (await session.ask("tasks/list", X_MCP_Virtualserver="some")).result
        assert [one["taskId"] for one in tasks_of(listed)] == [mine]
        assert (await session.ask("tasks/get", {"taskId": mine}, X_MCP_Virtualserver="some")).result["taskId"] == mine
        unknown = await session.ask("tasks/get", {"taskId": hidden}, X_MCP_Virtualserver="some")
        assert unknown.error["message"] == "Task not found"
        assert len(tasks_of((await session.ask("tasks/list")).result)) == 2


async def test_waiting_for_results_takes_no_place_from_calls(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(), backend_limits=BackendLimits(concurrency=1)) as where:
        session = await where.session()
        task_id = await begin(session)
        waiting = [session.begin("tasks/result", {"taskId": task_id}) for _ in range(3)]
        await trio.sleep(1)
        assert "content" in (await session.call("read")).result
        server.tasks[0].finish()
        await trio.sleep(1)
        assert all(one.closed for one in waiting)


async def test_the_list_has_pages_and_cursors_of_its_own(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session, stranger = await where.session(), await where.session()
        ids = [await begin(session) for _ in range(45)]
        seen: list[JsonValue] = []
        params: JsonObject = {}
        for _ in range(3):
            page = (await session.ask("tasks/list", params)).result
            seen += [one["taskId"] for one in tasks_of(page)]
            params = {"cursor": page.get("nextCursor")}
        assert seen == ids
        assert params["cursor"] is None
        cursor = (await session.ask("tasks/list")).result["nextCursor"]
        bad: list[tuple[Session, JsonValue]] = [(session, ""), (session, "1.x"), (session, 7), (stranger, cursor)]
        for asker, one in bad:
            refused = await asker.ask("tasks/list", {"cursor": one})
            assert (refused.error["code"], refused.error["message"]) == (-32602, "invalid cursor")


async def test_a_server_that_does_not_say_how_a_task_stands_does_not_hold_up_the_list(
    autojump_clock: MockClock,
) -> None:
    async def hangs(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(1000)
        return {}

    server = ScriptedTasks()
    backend = server.backend()
    backend.handlers["tasks/get"] = hangs
    async with scripted_gateway(backend) as where:
        session = await where.session()
        task_id = await begin(session)
        began_at = trio.current_time()
        listed = tasks_of((await session.ask("tasks/list")).result)
        assert trio.current_time() - began_at == pytest.approx(2)
        assert listed == [{**server.tasks[0].shown, "taskId": task_id}]
        backend.up = False
        assert len(tasks_of((await session.ask("tasks/list")).result)) == 1


async def test_questions_of_a_task_are_asked_while_its_result_is_awaited(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session = await where.session(elicitation={})
        task_id = await begin(session)
        task = server.tasks[0]
        waiting = session.begin("tasks/result", {"taskId": task_id})
        asks: JsonObject = {"message": "colour?", "requestedSchema": {}, "_meta": of_task(task.id)}
        task.says(notice("notifications/message", level="info", data="x", _meta=of_task(task.id)))
        task.says(question("elicitation/create", b"7", asks))
        await waiting.until(lambda: len(waiting.messages) == 2)
        log, asked = waiting.messages
        assert (log["method"], related(log)) == ("notifications/message", {"taskId": task_id})
        assert (asked["method"], related(asked)) == ("elicitation/create", {"taskId": task_id})
        answer: JsonObject = {"action": "accept", "content": {"c": "blue"}, "_meta": of_task(task_id)}
        await session.respond(asked["id"], result=answer)
        said = orjson.loads(task.link.said[-1])
        assert said == {"jsonrpc": "2.0", "id": 7, "result": {**answer, "_meta": of_task(task.id)}}
        task.finish()
        await waiting.until(lambda: waiting.closed)


async def test_a_question_that_comes_elsewhere_finds_the_wait_for_its_task(autojump_clock: MockClock) -> None:
    """On a pipe nothing but the task's id says where it belongs."""
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(transport="stdio")) as where:
        session = await where.session(elicitation={})
        task_id = await begin(session)
        task = server.tasks[0]
        waiting = session.begin("tasks/result", {"taskId": task_id})
        await trio.sleep(1)
        await task.link.say(question("elicitation/create", b"7", {"message": "?", "_meta": of_task(task.id)}))
        await task.link.say(question("elicitation/create", b"8", {"message": "?", "_meta": of_task("task-9")}))
        await task.link.say(question("elicitation/create", b"9", {"message": "?", "_meta": {RELATED: 1}}))
        await waiting.until(lambda: waiting.messages)
        assert [related(one) for one in waiting.messages] == [{"taskId": task_id}]
        assert [orjson.loads(one)["id"] for one in task.link.said] == [8, 9]  # nobody is there for these
        task.finish()
        await waiting.until(lambda: waiting.closed)


async def test_requests_related_to_a_task_are_so_at_the_server_too(autojump_clock: MockClock) -> None:
    server = ScriptedTasks(by_id_alone=True)
    async with scripted_gateway(server.backend()) as where:
        session, stranger = await where.session(), await where.session()
        task_id = await begin(session)
        params: JsonObject = {"name": "read", "_meta": {**of_task(task_id), "k": 1}}
        await session.ask("tools/call", params)
        seen = [asked for link in server.tasks[0].link.backend.links for asked in link.asked]
        assert seen[-1][1]["_meta"] == {**of_task(server.tasks[0].id), "k": 1}
        await stranger.ask("tools/call", params)
        seen = [asked for link in server.tasks[0].link.backend.links for asked in link.asked]
        assert seen[-1][1]["_meta"] == {"k": 1}  # it must not learn of a task that is not the caller's


async def test_the_progress_of_a_task_goes_on_under_the_clients_token(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session = await where.session()
        token = 'p"\u00fc'
        task_id = await begin(session, _meta={"progressToken": token})
        task = server.tasks[0]
        meta = task.params["_meta"]
        assert isinstance(meta, dict)
        upstream = meta["progressToken"]
        assert isinstance(upstream, str)
        stream = session.stream()
        await trio.sleep(1)
        await session.call("read")
        await trio.sleep(1)
        await task.link.say(notice("notifications/progress", progressToken=upstream, progress=1))
        await task.link.say(notice("notifications/progress", progressToken="task:1:nonsense", progress=1))
        waiting = session.begin("tasks/result", {"taskId": task_id, "_meta": {"progressToken": 5}})
        task.says(notice("notifications/progress", progressToken=upstream, progress=2))
        task.says(notice("notifications/progress", progressToken="task:1:{}", progress=3))
        await waiting.until(lambda: len(waiting.messages) == 2)
        heard = [one["params"] for reply in (stream, waiting) for one in reply.messages]
        assert [(one["progressToken"], one["progress"]) for one in heard] == [(token, 1), (token, 2), (5, 3)]  # type: ignore[index,call-overload]  # JSON
        task.finish()
        await waiting.until(lambda: waiting.closed)


async def test_a_notice_that_says_something_twice_costs_no_session(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session = await where.session()
        stream = session.stream()
        await trio.sleep(1)
        await begin(session)
        link = server.tasks[0].link
        await trio.sleep(1)
        twice = notice("notifications/message", level="info", data="x", _meta=of_task("t"))
        raw = twice.raw.replace(b'"taskId":"t"', b'"taskId":"t","taskId":"u"')
        await link.say(attrs.evolve(twice, raw=raw))
        await link.say(notice("notifications/message", level="info", data="y"))
        await trio.sleep(1)
        assert [one["params"] for one in stream.messages] == [{"level": "info", "data": "y"}]
        assert not link.closed


async def test_uris_in_a_tasks_result_are_mapped_as_in_a_calls(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(), prefixes={"files": "f_"}) as where:
        session = await where.session()
        task_id = await begin(session, name="f_read")
        server.tasks[0].finish(result={"content": [{"type": "resource_link", "uri": "memo://one", "name": "one"}]})
        found = (await session.ask("tasks/result", {"taskId": task_id})).result
        assert found["content"] == [{"type": "resource_link", "uri": "memo://files/one", "name": "one"}]


async def test_another_session_of_the_same_principal_reaches_the_task_where_it_runs(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        ann = attrs.evolve(where, principal=Principal(subject="ann", digest=b"ann-ann-"))
        eve = attrs.evolve(where, principal=Principal(subject="eve", digest=b"eve-eve-"))
        task_id = await begin(await ann.session())
        other = await ann.session()
        assert (await other.ask("tasks/get", {"taskId": task_id})).result["taskId"] == task_id
        assert [one["taskId"] for one in tasks_of((await other.ask("tasks/list")).result)] == [task_id]
        await other.end()
        assert (await (await ann.session()).ask("tasks/get", {"taskId": task_id})).result["taskId"] == task_id
        for stranger in (await eve.session(), await where.session()):
            assert (await stranger.ask("tasks/get", {"taskId": task_id})).error["message"] == "Task not found"


async def test_changes_are_told_to_the_client_whose_task_it_is(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session = await where.session()
        stream = session.stream()
        await trio.sleep(1)
        task_id = await begin(session)
        task = server.tasks[0]
        await trio.sleep(1)
        task.status = "input_required"
        await task.link.say(task.status_notice())
        await task.link.say(notice("notifications/tasks/status", taskId="task-9", status="working"))
        await task.link.say(notice("notifications/tasks/status", taskId=3))
        await trio.sleep(1)
        assert [one["params"] for one in stream.messages] == [{**task.shown, "taskId": task_id}]
        waiting = session.begin("tasks/result", {"taskId": task_id})
        task.says(task.status_notice())
        task.says(notice("notifications/tasks/status", taskId="task-9", status="working"))
        await waiting.until(lambda: waiting.messages)
        assert waiting.messages[0]["params"] == {**task.shown, "taskId": task_id}
        old = await where.session("2025-06-18")
        old.stream()
        task.finish()
        await waiting.until(lambda: waiting.closed)


async def test_the_result_is_awaited_until_the_absolute_limit_and_leaving_it_cancels_no_task(
    autojump_clock: MockClock,
) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(), timeouts=Timeouts(call_s=10, max_s=100)) as where:
        session = await where.session()
        task_id = await begin(session)
        began_at = trio.current_time()
        late = await session.ask("tasks/result", {"taskId": task_id})
        assert trio.current_time() - began_at == pytest.approx(100)
        assert late.error["code"] == -33504
        assert late.error["data"]["limit"] == "max"  # type: ignore[index,call-overload]  # JSON
        left = session.begin("tasks/result", {"taskId": task_id}, request_id="mine")
        await trio.sleep(1)
        await session.cancel("mine")
        await left.until(lambda: left.closed)
        assert (await session.ask("tasks/get", {"taskId": task_id})).result["status"] == "working"


async def used_links(where: ScriptedGateway, server: ScriptedTasks) -> list[bool]:
    await trio.sleep(1)
    return [task.link.closed for task in server.tasks]


@pytest.mark.parametrize(
    "ttl, open_after_s",
    [(1_800_000, 1_800), (None, HELD_S), (7_200_000, HELD_S), (1_000, 1)],
    ids=["its ttl", "no ttl", "a long ttl", "a short one"],
)
async def test_an_upstream_session_with_a_live_task_is_not_idle(
    ttl: JsonValue, open_after_s: float, autojump_clock: MockClock
) -> None:
    server = ScriptedTasks()
    sessions = SessionsSpec(signing_keys=(b"0123456789abcdef",), idle_s=60, lifetime_s=90_000)
    async with scripted_gateway(server.backend(), sessions=sessions) as where:
        session = await where.session()
        task_id = await begin(session, ttl)
        await trio.sleep(max(open_after_s - 5, 0.5))
        assert await used_links(where, server) == [False]
        if open_after_s > IDLE_S:  # its client session has left memory long ago
            assert len(where.gateway.context.sessions) == 0
            found = await session.ask("tasks/get", {"taskId": task_id})
            assert found.result["taskId"] == task_id
        await trio.sleep(2 * IDLE_S + 10)
        assert await used_links(where, server) == [True]
        assert (await session.ask("tasks/get", {"taskId": task_id})).error["code"] == -32602


async def test_nor_is_a_process(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(transport="stdio")) as where:
        session = await where.session(elicitation={})
        await begin(session, 1_200_000)
        await trio.sleep(1_190)
        assert await used_links(where, server) == [False]
        await trio.sleep(2 * IDLE_S)
        assert await used_links(where, server) == [True]


async def test_a_cancelled_task_holds_nothing_and_ending_the_session_ends_all(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session, other = await where.session(), await where.session()
        task_id = await begin(session, None)
        await session.ask("tasks/cancel", {"taskId": task_id})
        await begin(other, None)
        await trio.sleep(2 * IDLE_S + 10)
        assert await used_links(where, server) == [True, False]
        await other.end()
        assert await used_links(where, server) == [True, True]
        assert len(where.gateway.context.tasks) == 1  # the cancelled one, until the end of its life


async def test_sessions_with_tasks_are_not_evicted_unless_they_have_half_of_the_places(
    autojump_clock: MockClock,
) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend(), backend_limits=BackendLimits(upstream_sessions=4)) as where:
        holders = [await where.session() for _ in range(2)]
        for holder in holders:
            await begin(holder, None)
            await trio.sleep(1)
        for _ in range(3):
            assert "content" in (await (await where.session()).call("read")).result
            await trio.sleep(1)
        assert await used_links(where, server) == [False, False]
        for _ in range(4):
            holder = await where.session()
            await begin(holder, None)
            await trio.sleep(1)
        assert [task.link.closed for task in server.tasks] == [True, True, False, False, False, False]


async def test_a_client_has_a_bounded_number_of_tasks_in_the_book(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        session = await where.session()
        ids = [await begin(session) for _ in range(MAX_OF_ONE)]
        server.tasks[5].finish()
        await session.ask("tasks/get", {"taskId": ids[5]})
        more = [await begin(session), await begin(session)]
        kept = [one.id for one in where.gateway.context.tasks.of(next(iter(where.gateway.context.tasks._book)))]
        assert kept == [*ids[1:5], *ids[6:], *more]
        assert (await session.ask("tasks/get", {"taskId": ids[0]})).result["taskId"] == ids[0]


async def test_a_client_without_tasks_in_its_revision_has_none(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    async with scripted_gateway(server.backend()) as where:
        old = await where.session("2025-06-18")
        params: JsonObject = {"name": "read", "task": {"ttl": 1}}
        assert "content" in (await old.ask("tools/call", params)).result
        assert (await old.ask("tasks/list")).error["code"] == -32601
        assert "content" in (await where.modern("tools/call", params)).result
        assert server.tasks == []
        assert (await where.modern("tasks/list")).status == 404


@pytest.mark.parametrize("era", [V2025_06_18, V2025_11_25, V2026_07_28], ids=["2025-06-18", "2025-11-25", "2026"])
async def test_nor_has_one_at_a_server_without_them(era: Era, autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    plain = ScriptedBackend(key=BackendKey("plain"), era=era, tools=[tool("write")])
    async with scripted_gateway(server.backend(), plain) as where:
        session = await where.session()
        assert (await session.ask("tools/call", {"name": "write", "task": {}})).result == {"content": []}
        assert "task" not in plain.links[-1].asked[-1][1]


async def test_a_tool_that_is_only_a_task_says_so_to_clients_of_the_other_era(autojump_clock: MockClock) -> None:
    server = ScriptedTasks()
    backend = server.backend()
    backend.tools = [{**tool("read"), "execution": {"taskSupport": "required"}}]
    async with scripted_gateway(backend) as where:
        refused = await where.modern("tools/call", {"name": "read"})
        assert (refused.status, refused.error["code"]) == (200, -32602)
        assert "2025-11-25" in str(refused.error["message"])
        assert "not bridged" in str(refused.error["message"])
        assert backend.asked("tools/call") == 0
        await begin(await where.session())


async def test_what_cannot_be_a_tasks_id_is_the_servers_fault(autojump_clock: MockClock) -> None:
    async def odd(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"task": {"taskId": params.get("arguments"), "status": "working"}}

    backend = ScriptedTasks().backend()
    backend.handlers["tools/call"] = odd
    async with scripted_gateway(backend) as where:
        session = await where.session()
        call: JsonObject = {"name": "read", "task": {}}
        too_long = await session.ask("tools/call", {**call, "arguments": "x" * 2000})
        assert too_long.error["code"] == -33520
        none = await session.ask("tools/call", {**call, "arguments": 3})
        assert none.result == {"task": {"taskId": 3, "status": "working"}}
        assert (await session.ask("tasks/list")).result == {"tasks": []}


async def test_a_task_outlives_a_restart_where_the_server_knows_it_by_its_id_alone(
    autojump_clock: MockClock,
) -> None:
    async def after(server: ScriptedTasks, keys: tuple[bytes, bytes]) -> RecordedReply:
        backend = server.backend()
        async with scripted_gateway(backend, sessions=SessionsSpec(signing_keys=keys[:1])) as where:
            session = await where.session()
            task_id = await begin(session)
        async with scripted_gateway(server.backend(), sessions=SessionsSpec(signing_keys=keys[1:])) as where:
            session.where = where
            found = await session.ask("tasks/get", {"taskId": task_id})
            if "result" in found.answer:
                assert found.result["taskId"] == task_id
                assert tasks_of((await session.ask("tasks/list")).result)[0]["taskId"] == task_id
            return found

    same, other = b"0123456789abcdef", b"fedcba9876543210"
    assert (await after(ScriptedTasks(by_id_alone=True), (same, same))).result["status"] == "working"
    assert (await after(ScriptedTasks(), (same, same))).error["code"] == -32602
    assert (await after(ScriptedTasks(by_id_alone=True), (same, other))).status == 404
