"""The tasks extension of 2026-07-28, end to end."""

import attrs
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.auth.principal import Principal
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewaySpec, SessionsSpec, VirtualServerSpec
from mcp_gateway.protocol.eras import V2025_11_25
from mcp_gateway.values import BackendKey, JsonObject, JsonValue
from tests.support.scripted_gateway import RecordedReply, ScriptedGateway, scripted_gateway
from tests.support.scripted_link import Handler, ScriptedBackend, ScriptedLink, server, tool
from tests.support.scripted_modern_tasks import DECLARED, EXTENSION, ModernTasks
from tests.support.scripted_tasks import ScriptedTasks

FILES = BackendKey("files")


async def begin(where: ScriptedGateway, name: str = "read") -> str:
    """Begin a task; its id as the client knows it."""
    return str((await where.modern("tools/call", {"name": name}, capabilities=DECLARED)).result["taskId"])


async def about(where: ScriptedGateway, method: str, task_id: JsonValue, **more: JsonValue) -> RecordedReply:
    """One request about a task, with the header that it must have."""
    headers: JsonObject = {"Mcp-Name": task_id} if isinstance(task_id, str) else {}
    return await where.modern(method, {"taskId": task_id, **more}, capabilities=DECLARED, headers=headers)


async def test_a_task_runs_from_its_beginning_to_its_result_under_an_id_of_ours(autojump_clock: MockClock) -> None:
    server, other = ModernTasks(), ScriptedBackend(key=BackendKey("other"), tools=[tool("write")])
    backend = server.backend()
    async with scripted_gateway(backend, other, prefixes={"files": "f_", "other": "o_"}) as where:
        created = await where.modern("tools/call", {"name": "f_read"}, capabilities=DECLARED)
        task, task_id = server.tasks[0], created.result["taskId"]
        assert task_id != task.id
        shown = created.result
        assert "io.modelcontextprotocol/serverInfo" in str(shown.pop("_meta"))
        assert shown == {"resultType": "task", **task.shown, "taskId": task_id}
        working = (await about(where, "tasks/get", task_id)).result
        assert (working["taskId"], working["status"], working["ttlMs"]) == (task_id, "working", 60_000)
        assert working["resultType"] == "complete"
        task.state = {"status": "input_required", "inputRequests": {"name": {"method": "elicitation/create"}}}
        asked = (await about(where, "tasks/get", task_id)).result
        assert asked["inputRequests"] == {"name": {"method": "elicitation/create"}}
        answers: JsonObject = {"name": {"action": "accept", "content": {"x": 1}}}
        told = (await about(where, "tasks/update", task_id, inputResponses=answers)).result
        assert (told["resultType"], task.answers) == ("complete", [answers])
        task.state = {"status": "completed", "result": {"content": [], "isError": True}}
        done = (await about(where, "tasks/get", task_id)).result
        assert (done["status"], done["result"]) == ("completed", {"content": [], "isError": True})
        task.state = {"status": "failed", "error": {"code": -32603, "message": "no"}}
        assert (await about(where, "tasks/get", task_id)).result["error"] == {"code": -32603, "message": "no"}
        assert (await about(where, "tasks/cancel", task_id)).result["resultType"] == "complete"
        assert task.cancelled == 1
        named = [
            (method, given.get(b"Mcp-Name"))
            for link in backend.links
            for (method, _), given in zip(link.asked, link.headers, strict=True)
            if method.startswith("tasks/")
        ]
        assert set(named) == {(method, b"task-1") for method in ("tasks/get", "tasks/update", "tasks/cancel")}


async def test_uris_in_what_a_task_ends_with_and_asks_are_mapped(autojump_clock: MockClock) -> None:
    server = ModernTasks()
    async with scripted_gateway(server.backend(), prefixes={"files": "f_"}) as where:
        task_id = await begin(where, "f_read")
        link: JsonObject = {"type": "resource_link", "uri": "memo://one", "name": "one"}
        message: JsonObject = {"role": "user", "content": link}
        asks: JsonObject = {"method": "sampling/createMessage", "params": {"messages": [message]}}
        task = server.tasks[0]
        task.state = {"status": "completed", "result": {"content": [link]}, "inputRequests": {"k": asks}}
        shown = (await about(where, "tasks/get", task_id)).result
        assert str(shown).count("memo://files/one") == 2
        assert "memo://one" not in str(shown)
        answer: JsonObject = {"k": {"role": "assistant", "content": {**link, "uri": "memo://files/one"}}}
        await about(where, "tasks/update", task_id, inputResponses=answer)
        assert "memo://one" in str(task.answers)


async def test_the_extension_is_advertised_to_those_who_can_have_it(autojump_clock: MockClock) -> None:
    old = ScriptedBackend(key=BackendKey("old"), tools=[], capabilities={"tools": {}, "extensions": {EXTENSION: {}}})
    async with scripted_gateway(ModernTasks().backend(), old) as where:
        capabilities = (await where.modern("server/discover")).result["capabilities"]
        assert EXTENSION in str(capabilities)
        session = await where.session()
        assert EXTENSION not in str(session.hello["capabilities"])
        assert "'tasks'" not in str(session.hello["capabilities"])
    async with scripted_gateway(old) as where:
        assert EXTENSION not in str((await where.modern("server/discover")).result["capabilities"])
        for method in ("tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list"):
            missing = await about(where, method, "x")
            assert (missing.status, missing.error["code"]) == (404, -32601)


async def test_who_does_not_declare_it_has_no_tasks(autojump_clock: MockClock) -> None:
    server = ModernTasks()
    async with scripted_gateway(server.backend()) as where:
        task_id = await begin(where)
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            for one in (task_id, "forged"):
                lacking = await where.modern(method, {"taskId": one}, headers={"Mcp-Name": one})
                assert (lacking.status, lacking.error["code"]) == (400, -32021)
                assert lacking.error["data"] == {"requiredCapabilities": DECLARED}
        refused = await where.modern("tools/call", {"name": "read"})
        assert (refused.status, refused.error["code"]) == (400, -32021)
        assert refused.error["data"] == {"requiredCapabilities": DECLARED}
        wanted: JsonObject = {"notifications": {"taskIds": [task_id]}}
        deaf = await where.modern("subscriptions/listen", wanted)
        assert (deaf.status, deaf.error["code"]) == (400, -32021)
        listening = where.modern_soon("subscriptions/listen", wanted, capabilities=DECLARED)
        await listening.until(lambda: listening.messages)
        assert "taskIds" not in str(listening.messages[0])
        listening.leave()


async def test_forged_and_foreign_ids_go_nowhere(autojump_clock: MockClock) -> None:
    server = ModernTasks()
    backend = server.backend()
    async with scripted_gateway(backend) as where:
        task_id = await begin(where)
        stranger = attrs.evolve(where, principal=Principal(subject="eve", digest=b"eve-eve-"))
        asked = len(backend.log)
        for client, one in ((where, "task-1"), (where, task_id[:-2]), (stranger, task_id)):
            unknown = await about(client, "tasks/get", one)
            assert (unknown.status, unknown.error) == (200, {"code": -32602, "message": "Task not found"})
            for method in ("tasks/update", "tasks/cancel"):
                told = (await about(client, method, one, inputResponses={})).result
                told.pop("_meta")
                assert told == {"resultType": "complete"}
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            bad = await about(where, method, 7)
            assert (bad.error["code"], bad.error["message"]) == (-32602, "params.taskId must be a string")
        assert len(backend.log) == asked
        session = await where.session()
        assert (await session.ask("tasks/get", {"taskId": task_id})).error["code"] == -32601
        assert (await about(where, "tasks/get", task_id)).result["taskId"] == task_id


async def test_mcp_name_is_the_tasks_id(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ModernTasks().backend()) as where:
        task_id = await begin(where)
        for headers in ({}, {"Mcp-Name": "other"}):
            given: JsonObject = dict(headers)
            lie = await where.modern("tasks/get", {"taskId": task_id}, capabilities=DECLARED, headers=given)
            assert (lie.status, lie.error["code"]) == (400, -32020)


async def test_a_virtual_server_knows_its_own_tasks(autojump_clock: MockClock) -> None:
    scripted = ModernTasks()
    backend, other = scripted.backend(), ModernTasks().backend("other")
    other.tools = [tool("write")]
    spec = GatewaySpec(
        servers=(server(backend), server(other)),
        virtual_servers=(
            VirtualServerSpec(name="some", tools=("read",)),
            VirtualServerSpec(name="rest", tools=("write",)),
        ),
        sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",)),
    )
    async with scripted_gateway(backend, other, spec=spec) as where:
        task_id = await begin(where)
        narrowed: JsonObject = {"Mcp-Name": task_id}
        params: JsonObject = {"taskId": task_id}
        for virtual, code in (("some", None), ("rest", -32602)):
            headers: JsonObject = {**narrowed, "X-MCP-Virtualserver": virtual}
            reply = await where.modern("tasks/get", params, capabilities=DECLARED, headers=headers)
            found = reply.answer.get("error")
            assert (found["code"] if isinstance(found, dict) else None) == code


async def test_between_the_eras_tasks_are_not_bridged(autojump_clock: MockClock) -> None:
    """A 2025 client is told why it cannot have what only a task of 2026 gives; a 2025 server hears of no tasks."""
    old = ScriptedBackend(key=BackendKey("old"), era=V2025_11_25, tools=[tool("write")])
    async with scripted_gateway(ModernTasks().backend(), old) as where:
        for extensions in ({}, DECLARED["extensions"]):
            session = await where.session(tasks={"list": {}}, extensions=extensions)
            refused = await session.call("read")
            assert (refused.status, refused.error["code"]) == (200, -32021)
            assert "2026-07-28 only" in str(refused.error["message"])
            assert "not bridged" in str(refused.error["message"])
        assert "content" in (await where.modern("tools/call", {"name": "write"}, capabilities=DECLARED)).result


async def test_a_server_of_both_eras_gives_each_client_the_tasks_of_its_own(autojump_clock: MockClock) -> None:
    older, newer = ScriptedTasks(), ModernTasks()
    backend, old = newer.backend(), older.backend()
    backend.legacy = V2025_11_25
    backend.capabilities = {**old.capabilities, **backend.capabilities}
    backend.tools = [{**tool("read"), "execution": {"taskSupport": "required"}}]

    def either(method: str) -> Handler:
        async def handle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
            handlers = backend_handlers if link.era.modern else old.handlers
            return await handlers[method](link, params, hear)

        return handle

    backend_handlers = dict(backend.handlers)
    backend.handlers = {method: either(method) for method in {*backend_handlers, *old.handlers}}
    async with scripted_gateway(backend) as where:
        session = await where.session()
        assert "tasks" in str(session.hello["capabilities"])
        begun = (await session.ask("tools/call", {"name": "read", "task": {}})).result["task"]
        assert isinstance(begun, dict)
        assert (await session.ask("tasks/get", {"taskId": begun["taskId"]})).result["status"] == "working"
        task_id = await begin(where)
        assert (await about(where, "tasks/get", task_id)).result["status"] == "working"
        assert (len(older.tasks), len(newer.tasks)) == (1, 1)
        assert (await about(where, "tasks/get", begun["taskId"])).error["code"] == -32602
        assert (await session.ask("tasks/get", {"taskId": task_id})).error["code"] == -32602


@pytest.mark.parametrize("capabilities", [{}, {"extensions": {"a/b": {}}}])
async def test_a_task_for_somebody_who_has_none_breaks_the_protocol(
    capabilities: JsonObject, autojump_clock: MockClock
) -> None:
    async def begins(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"resultType": "task", "taskId": "t", "status": "working"}

    backend = ModernTasks().backend()
    backend.capabilities = {"tools": {}, "extensions": {EXTENSION: {}, "a/b": {}}}
    backend.handlers["tools/call"] = begins
    async with scripted_gateway(backend) as where:
        broken = await where.modern("tools/call", {"name": "read"}, capabilities=capabilities)
        assert broken.error["code"] == -33520


async def test_a_task_outlives_a_restart_of_the_gateway(autojump_clock: MockClock) -> None:
    scripted = ModernTasks()
    async with scripted_gateway(scripted.backend()) as where:
        task_id = await begin(where)
    async with scripted_gateway(scripted.backend()) as where:
        assert (await about(where, "tasks/get", task_id)).result["status"] == "working"
