"""A client that has a process of its own, beside the one that all share."""

import pytest
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject
from tests.support.scripted_gateway import scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink

LISTED: JsonObject = {"uri": "memo://files", "name": "one"}


def with_resources(era: Era, *, everywhere: bool, code: int) -> ScriptedBackend:
    """Its processes list a resource that only the first of them has, unless ``everywhere``."""

    async def listed(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"resources": [LISTED], "resultType": "complete", "ttlMs": 0}

    async def read(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        number = link.backend.links.index(link)
        if number and not everywhere:
            raise Refusal(code)
        return {"contents": [{"uri": params["uri"], "text": f"of process {number}"}], "resultType": "complete"}

    legacy = V2025_11_25 if era.modern else None
    return ScriptedBackend(
        transport="stdio",
        era=era,
        legacy=legacy,
        capabilities={"resources": {}},
        handlers={"resources/list": listed, "resources/read": read},
    )


@pytest.mark.parametrize("era", [V2025_11_25, V2026_07_28])
@pytest.mark.parametrize("code", [-32002, -32602])
async def test_what_its_own_process_does_not_have_is_read_from_the_one_that_listed_it(
    autojump_clock: MockClock, era: Era, code: int
) -> None:
    scripted = with_resources(era, everywhere=False, code=code)
    async with scripted_gateway(scripted) as where:
        session = await where.session(sampling={})
        reply = await session.ask("resources/read", {"uri": "memo://files"})
        assert reply.result["contents"] == [{"uri": "memo://files", "text": "of process 0"}]
        assert len(scripted.links) == 2


async def test_what_its_own_process_has_is_read_there(autojump_clock: MockClock) -> None:
    async with scripted_gateway(with_resources(V2025_11_25, everywhere=True, code=0)) as where:
        session = await where.session(sampling={})
        reply = await session.ask("resources/read", {"uri": "memo://files"})
        assert reply.result["contents"] == [{"uri": "memo://files", "text": "of process 1"}]


async def test_what_no_process_has_is_missing(autojump_clock: MockClock) -> None:
    scripted = with_resources(V2025_11_25, everywhere=False, code=-32002)
    async with scripted_gateway(scripted) as where:
        scripted.handlers["resources/read"] = missing
        session = await where.session(sampling={})
        reply = await session.ask("resources/read", {"uri": "memo://files"})
        assert reply.error["code"] == -32002
        assert scripted.asked("resources/read") == 2


async def missing(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
    raise Refusal(-32002)
