"""Reference 1.2 (T8, T16, T24, T25) and 1.4: what is answered in which form, by what the client takes."""

import pytest
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import JsonObject
from tests.conformance.rule_steps import error_of
from tests.support.scripted_gateway import scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink

JSON, SSE, NONE = "application/json", "text/event-stream", ""

ACCEPTS = [
    ("application/json, text/event-stream", JSON),
    ("text/event-stream, application/json", JSON),
    ("application/json", JSON),
    ("APPLICATION/JSON", JSON),
    ("application/json;profile=x;q=0.1", JSON),
    ("application/*", JSON),
    ("*/*", JSON),
    ("text/event-stream", SSE),
    ("text/*", SSE),
    # "The most specific reference has precedence." -- RFC 9110 12.5.1
    ("application/json;q=0, */*", SSE),
    ("*/*;q=0, application/json", JSON),
    ("application/json; q = 0.000, text/event-stream", SSE),
    ("application/*;q=0, application/json", JSON),
    ("text/event-stream;q=0, */*", JSON),
    ("application/json;q=0", NONE),
    ("*/*;q=0", NONE),
    ("text/html", NONE),
    (" , ;", NONE),
]


@pytest.mark.parametrize("accept, form", ACCEPTS)
async def test_T25_accept_decides_the_form_and_406_is_for_neither(
    autojump_clock: MockClock, accept: str, form: str
) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        modern = await where.modern("tools/call", {"name": "read"}, headers={"Accept": accept})
        legacy = await (await where.session("2025-06-18")).ask("tools/call", {"name": "read"}, Accept=accept)
        for reply in (modern, legacy):
            assert reply.status == (200 if form else 406)
            assert reply.header(b"content-type") == (form or JSON)


async def test_T25_listen_has_no_other_form_than_a_stream(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        listen: JsonObject = {"notifications": {}}
        reply = await where.modern("subscriptions/listen", listen, headers={"Accept": JSON}, id="mine")
        assert (reply.status, reply.answer["id"], error_of(reply)["code"]) == (406, "mine", -32600)
        assert where.gateway.streams == 0


@pytest.mark.parametrize("code, status", [(-32601, 404), (-32021, 400), (-32602, 200)])
async def test_T16_T24_an_error_keeps_its_status_for_who_takes_only_streams(
    autojump_clock: MockClock, code: int, status: int
) -> None:
    async def refuse(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(code)

    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, handlers={"tools/call": refuse})) as where:
        reply = await where.modern("tools/call", {"name": "read"}, headers={"Accept": SSE})
        assert (reply.status, error_of(reply)["code"]) == (status, code)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON;x=y"])
async def test_T25_parameters_of_the_content_type_do_not_matter(autojump_clock: MockClock, kind: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.modern("tools/list", headers={"Content-Type": kind})).status == 200
        assert (await (await where.session()).ask("ping", Content_Type=kind)).status == 200


@pytest.mark.parametrize("kind", ["", "text/json", "application/x+json", "application/json, text/plain", "json"])
async def test_T25_another_content_type_is_415_in_every_era(autojump_clock: MockClock, kind: str) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        assert (await where.modern("tools/list", headers={"Content-Type": kind})).status == 415
        assert (await (await where.session()).ask("ping", Content_Type=kind)).status == 415
