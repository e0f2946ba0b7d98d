"""What a 2025 backend asks a modern client beside its call: on the standalone stream, as some SDKs do by default."""

import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear, Inbound
from mcp_gateway.backends.upstream_sessions import IDLE_S
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import ASKABLE, CALL, ScriptedBackend, ScriptedLink, caller, deaf, question, running

MODERN = caller(None, ASKABLE)


async def ask_on_stream(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    assert link.stream is not None, "the stream is open before the first call is sent"
    await link.stream.send(question("sampling/createMessage"))
    await trio.sleep(1.0)
    return {"content": []}


async def test_the_only_call_of_a_modern_client_hears_what_is_asked_on_the_stream(autojump_clock: MockClock) -> None:
    scripted, heard = ScriptedBackend(handlers={"tools/call": ask_on_stream}), list[str]()

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    async with running(scripted) as backend:
        await backend.exchange(MODERN, CALL, hear)
    assert heard == ["sampling/createMessage"]


async def test_a_question_that_could_belong_to_either_of_two_calls_is_refused(autojump_clock: MockClock) -> None:
    scripted, heard = ScriptedBackend(), list[str]()

    async def slowly(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(10.0)
        return {"content": []}

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    scripted.handlers["tools/call"] = slowly
    async with running(scripted) as backend, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(backend.exchange, MODERN, CALL, hear)
        await trio.sleep(5.0)
        await scripted.links[1].say(question("sampling/createMessage"))
        await trio.sleep(1.0)
        assert [b"-32601" in said for said in scripted.links[1].said] == [True]
    assert heard == []


async def test_a_held_stream_does_not_keep_an_unused_session(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await backend.exchange(MODERN, CALL, deaf)
        assert scripted.links[1].stream is not None
        await trio.sleep(IDLE_S + 1)
        assert scripted.links[1].closed


async def test_a_backend_without_a_stream_keeps_nobody_waiting(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(streams=False)
    async with running(scripted) as backend:
        began_at = trio.current_time()
        await backend.exchange(MODERN, CALL, deaf)
        assert trio.current_time() == began_at


async def test_what_is_asked_on_the_stream_is_refused_at_once_for_a_client_that_cannot_be_asked(
    autojump_clock: MockClock,
) -> None:
    async def ask_and_wait(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        assert link.stream is not None, "the stream is open before the first call is sent"
        await link.stream.send(question("sampling/createMessage"))
        while not any(b"-32601" in said for said in link.said):  # noqa: ASYNC110  # the clock is virtual
            await trio.sleep(0.01)
        return {"content": []}

    scripted = ScriptedBackend(handlers={"tools/call": ask_and_wait})
    async with running(scripted) as backend:
        began_at = trio.current_time()
        await backend.exchange(caller(None), CALL, deaf)
        assert trio.current_time() - began_at < 1.0
        await backend.exchange(caller(None), CALL, deaf)
        assert scripted.asked("GET") == 2  # the gateway's own one and that of the session which such clients share
