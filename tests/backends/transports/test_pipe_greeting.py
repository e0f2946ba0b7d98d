"""Tests of ``pipe_greeting``: the era of a pipe, found without side effects."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import ClientIdentity, Hello, Inbound
from mcp_gateway.backends.transports.era_probe import PROBE_S
from mcp_gateway.backends.transports.greeting import MESSAGE_CHARS
from mcp_gateway.backends.transports.pipe import PipeLink, nobody_cares, open_pipe
from mcp_gateway.backends.transports.pipe_greeting import greet, probe_and_greet
from mcp_gateway.config.spec import BackendLimits
from mcp_gateway.errors import BackendGone, BackendProtocol, BackendRefused
from mcp_gateway.protocol.eras import ERAS, NEWEST_LEGACY, NEWEST_MODERN
from tests.support.scripted_pipe import KEY, ScriptedPipe

IDENTITY = ClientIdentity(capabilities=b'{"roots":{}}', info=b'{"name":"c","version":"9"}')
DISCOVERED: dict[str, object] = {
    "result": {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s"}},
    }
}
LEGACY_METHODS = ["initialize", "notifications/initialized"]
Reply: TypeAlias = dict[str, object] | None
Greet: TypeAlias = Callable[[PipeLink, ClientIdentity], Awaitable[Hello]]


def initialized(version: object = "2025-11-25") -> dict[str, object]:
    return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "s"}}}


def error(code: int, **more: object) -> dict[str, object]:
    return {"error": {"code": code, "message": "no", **more}}


async def nobody(message: Inbound) -> None:
    raise AssertionError(message)


@asynccontextmanager
async def linked(pipe: ScriptedPipe) -> AsyncIterator[PipeLink]:
    limits = BackendLimits()
    async with open_pipe(pipe, key=KEY, limits=limits, shared=True, unattributed=nobody, on_lost=nobody_cares) as link:
        yield link


async def converse(pipe: ScriptedPipe, replies: list[Reply], how: Greet = probe_and_greet) -> Hello | Exception:
    """Greet a backend that answers its requests by ``replies``, None meaning not at all."""
    outcome: list[Hello | Exception] = []

    async with linked(pipe) as link, trio.open_nursery() as nursery:

        async def serve() -> None:
            answered = 0
            while True:
                sent = await pipe.heard(answered + 1)
                reply = replies[answered] if answered < len(replies) else None
                if reply is not None and "id" in sent[answered]:
                    pipe.say(id=sent[answered]["id"], **reply)
                answered += 1

        nursery.start_soon(serve)
        try:
            outcome.append(await how(link, IDENTITY))
        except (BackendRefused, BackendProtocol, BackendGone) as refused:
            outcome.append(refused)
        nursery.cancel_scope.cancel("test")
    return outcome[0]


async def methods(pipe: ScriptedPipe) -> list[object]:
    return [message["method"] for message in await pipe.heard(0)]


async def test_a_modern_server_needs_one_question(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    hello = await converse(pipe, [DISCOVERED])
    assert hello == Hello(era=NEWEST_MODERN, capabilities={"tools": {}}, server_info={"name": "s"})
    assert await methods(pipe) == ["server/discover"]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(error(-32601), id="method not found"),
        pytest.param(error(-32602), id="invalid params"),
        pytest.param(error(-32000), id="server not initialized"),
        pytest.param(error(-32022, data={"supported": ["2025-11-25"]}), id="legacy versions only"),
        pytest.param({"result": {}}, id="a result that says nothing"),
        pytest.param(None, id="no answer"),
    ],
)
async def test_whatever_is_not_recognised_as_modern_is_legacy(autojump_clock: MockClock, reply: Reply) -> None:
    pipe = ScriptedPipe()
    hello = await converse(pipe, [reply, initialized()])
    assert hello == Hello(era=NEWEST_LEGACY, capabilities={"tools": {}}, server_info={"name": "s"})
    assert await methods(pipe) == ["server/discover", "initialize", "notifications/initialized"]
    assert trio.current_time() == pytest.approx(PROBE_S if reply is None else 0.0)
    sent = await pipe.heard(3)
    assert sent[1]["params"] == {
        "protocolVersion": "2025-11-25",
        "capabilities": {"roots": {}},
        "clientInfo": {"name": "c", "version": "9"},
    }


async def test_a_modern_server_that_refuses_the_probe_cannot_be_spoken_to(autojump_clock: MockClock) -> None:
    outcome = await converse(ScriptedPipe(), [error(-32021)])
    assert isinstance(outcome, BackendProtocol)


async def test_a_slow_modern_server_is_asked_again_when_it_refuses_initialize(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    hello = await converse(pipe, [None, error(-32022), DISCOVERED])
    assert isinstance(hello, Hello)
    assert hello.era is NEWEST_MODERN
    assert await methods(pipe) == ["server/discover", "initialize", "server/discover"]


async def test_a_refusal_stays_one_when_the_second_probe_finds_nothing(autojump_clock: MockClock) -> None:
    outcome = await converse(ScriptedPipe(), [None, error(-32603), error(-32601)])
    assert isinstance(outcome, BackendRefused)
    assert outcome.code == -32603


async def test_a_refused_handshake_says_what_the_backend_said(autojump_clock: MockClock) -> None:
    refusal: dict[str, object] = {"error": {"code": -1, "message": "x" * 9999, "data": {"a": 1}}}
    outcome = await converse(ScriptedPipe(), [error(-32601), refusal])
    assert isinstance(outcome, BackendRefused)
    assert (outcome.code, len(outcome.message), outcome.data) == (-1, MESSAGE_CHARS, {"a": 1})


async def test_an_error_without_code_and_message_is_a_refusal_too(autojump_clock: MockClock) -> None:
    outcome = await converse(ScriptedPipe(), [error(-32601), {"error": {}}])
    assert isinstance(outcome, BackendRefused)


@pytest.mark.parametrize("result", [{"protocolVersion": "1999-01-01"}, {"protocolVersion": 1}, {}, [], "x" * 2**21])
async def test_an_answer_in_no_revision_of_ours_ends_the_conversation(
    autojump_clock: MockClock, result: object
) -> None:
    outcome = await converse(ScriptedPipe(), [error(-32601), {"result": result}])
    assert isinstance(outcome, BackendProtocol)


async def test_odd_capabilities_and_instructions_count_as_none(autojump_clock: MockClock) -> None:
    odd: Reply = {"result": {"protocolVersion": "2025-06-18", "capabilities": [], "instructions": 1}}
    assert await converse(ScriptedPipe(), [error(-32601), odd]) == Hello(era=ERAS["2025-06-18"], capabilities={})


@pytest.mark.parametrize(
    "pinned, replies, expected",
    [
        pytest.param(
            "2025-03-26", [initialized("2025-03-26")], ["initialize", "notifications/initialized"], id="legacy"
        ),
        pytest.param("2026-07-28", [DISCOVERED], ["server/discover"], id="modern"),
        pytest.param(None, [initialized()], LEGACY_METHODS, id="without a probe"),
    ],
)
async def test_a_pinned_revision_is_not_probed(
    autojump_clock: MockClock, pinned: str | None, replies: list[Reply], expected: list[str]
) -> None:
    pipe = ScriptedPipe()
    hello = await converse(pipe, replies, lambda link, identity: greet(link, identity, pinned=pinned))
    assert isinstance(hello, Hello)
    assert hello.era.version == (pinned or "2025-11-25")
    assert await methods(pipe) == expected


async def test_a_pinned_modern_revision_that_is_not_spoken_is_an_error(autojump_clock: MockClock) -> None:
    outcome = await converse(
        ScriptedPipe(), [error(-32601)], lambda link, identity: greet(link, identity, pinned="2026-07-28")
    )
    assert isinstance(outcome, BackendProtocol)
    assert "2026-07-28" in str(outcome)


async def test_the_version_of_the_caller_is_the_one_offered(autojump_clock: MockClock) -> None:
    pipe = ScriptedPipe()
    identity = ClientIdentity(version="2025-06-18")
    await converse(pipe, [initialized("2025-06-18")], lambda link, _: greet(link, identity, pinned=None))
    sent = await pipe.heard(1)
    assert isinstance(sent[0]["params"], dict)
    assert sent[0]["params"]["protocolVersion"] == "2025-06-18"
