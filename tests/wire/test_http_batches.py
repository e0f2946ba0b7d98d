"""Arrays of messages from a 2025-03-26 backend, which its clients "MUST support receiving" (basic/index, Batching)."""

import pytest
import trio

from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.errors import BackendProtocol
from tests.support.http_links import PROGRESS, Handler, answer_call, events, fixed, legacy, legacy_link, nothing
from tests.support.http_links import call as outgoing
from tests.support.raw_http import RawConnection, RawRequest, event, response, result

pytestmark = pytest.mark.wire

OLD = "2025-03-26"
QUESTION = b'{"jsonrpc":"2.0","id":"q","method":"roots/list"}'
ANSWER = b'{"ok":true}'


def batch(*messages: bytes) -> bytes:
    return b"[%b]" % b", ".join(messages)


async def in_one_body(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(response(batch(PROGRESS, QUESTION, result(request.rpc_id, ANSWER))))


async def answer_first(connection: RawConnection, request: RawRequest) -> None:
    await connection.send(response(batch(result(request.rpc_id, ANSWER), PROGRESS)))


in_events = events(
    event(batch(PROGRESS, QUESTION)), lambda rpc_id: event(batch(result(rpc_id, ANSWER), PROGRESS)), event(b"junk")
)


@pytest.mark.parametrize(
    "on_call, methods",
    [
        pytest.param(in_one_body, ["notifications/progress", "roots/list"], id="one body"),
        pytest.param(answer_first, [], id="the answer first"),
        pytest.param(in_events, ["notifications/progress", "roots/list"], id="events"),
    ],
)
async def test_an_array_is_as_good_as_its_messages(on_call: Handler, methods: list[str]) -> None:
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    async with legacy_link(legacy(on_call, version=OLD)) as (link, _):
        answer = await link.exchange(outgoing(), hear)
        assert (answer.raw, heard) == (result(2, ANSWER), methods)


async def test_an_array_on_the_listen_stream_too() -> None:
    heard: list[str] = []

    async def hear(inbound: Inbound) -> None:
        heard.append(inbound.method)

    on_get = events(event(batch(PROGRESS, result(9), QUESTION)))
    async with legacy_link(legacy(answer_call, version=OLD, on_get=on_get)) as (link, _):
        await link.listen(hear, trio.Event())
        assert heard == ["notifications/progress", "roots/list"]
        assert link.unasked == 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[]", id="empty"),
        pytest.param(b"[1]", id="no message"),
        pytest.param(batch(*[b"{}"] * 101), id="too many"),
        pytest.param(batch(PROGRESS), id="no answer"),
        pytest.param(batch(batch(result(2))), id="an array in an array"),
        pytest.param(batch(result(2))[:-1], id="cut"),
    ],
)
@pytest.mark.parametrize("as_events", [False, True])
async def test_an_array_that_is_no_batch_breaks_the_protocol(body: bytes, as_events: bool) -> None:
    async def hear(inbound: Inbound) -> None:
        """Progress."""

    on_call = events(event(body)) if as_events else fixed(body)
    async with legacy_link(legacy(on_call, version=OLD)) as (link, _):
        with pytest.raises(BackendProtocol):
            await link.exchange(outgoing(), hear)


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_newer_revisions_have_no_batches(version: str) -> None:
    async with legacy_link(legacy(in_one_body, version=version)) as (link, _):
        with pytest.raises(BackendProtocol):
            await link.exchange(outgoing(), nothing)
