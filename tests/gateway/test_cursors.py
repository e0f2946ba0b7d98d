"""Pages of long lists: cursors name the list, its generation and where it is seen, and are good for nothing else."""

import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, SessionsSpec, VirtualServerSpec
from mcp_gateway.routing import listing_views
from mcp_gateway.values import GatewayName, JsonObject, JsonValue
from tests.support.raw_client import Message
from tests.support.scripted_gateway import ScriptedGateway, modern_request, scripted_gateway
from tests.support.scripted_link import ScriptedBackend, ScriptedLink, notice, tool

NAMES = [f"t{number}" for number in range(8)]
SPEC = GatewaySpec(
    virtual_servers=(VirtualServerSpec(name="few", tools=tuple(NAMES)), VirtualServerSpec(name="two", tools=("t0",))),
    gateways=(GatewayEntry(name=GatewayName("one")), GatewayEntry(name=GatewayName("two"), hosts=("two.example",))),
    sessions=SessionsSpec(signing_keys=(b"0123456789abcdef",)),
)


def backend() -> ScriptedBackend:
    async def prompts(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        return {"prompts": [{"name": name} for name in NAMES]}

    capabilities: JsonObject = {"tools": {"listChanged": True}, "prompts": {}}
    tools = [tool(name) for name in NAMES]
    return ScriptedBackend(capabilities=capabilities, tools=tools, handlers={"prompts/list": prompts})


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_views, "PAGE_ITEMS", 3)


async def listed(
    where: ScriptedGateway,
    cursor: JsonValue = None,
    *,
    kind: str = "tools",
    path: str = "/mcp",
    host: str = "127.0.0.1",
) -> Message:
    """One page, as a 2026 client gets it."""
    params: JsonObject = {} if cursor is None else {"cursor": cursor}
    headers, body = modern_request(f"{kind}/list", params)
    return (await where.send("POST", headers={**headers, "Host": host}, body=body, path=path)).answer


def refused(answer: Message) -> bool:
    return bool(answer.get("error", {}).get("code") == -32602)


async def test_the_pages_hold_every_item_once_for_clients_of_both_eras(autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend()) as where:
        session = await where.session()
        found: dict[str, list[str]] = {"old": [], "new": []}
        for era, names in found.items():
            cursor: JsonValue = None
            for _ in range(3):
                params: JsonObject = {} if cursor is None else {"cursor": cursor}
                reply = await (
                    session.ask("tools/list", params) if era == "old" else where.modern("tools/list", params)
                )
                page: Message = reply.result
                names += [one["name"] for one in page["tools"]]
                cursor = page.get("nextCursor")
            assert cursor is None
        assert found == {"old": NAMES, "new": NAMES}


async def test_a_cursor_is_good_for_its_own_list_in_its_own_place_only(autojump_clock: MockClock) -> None:
    async with scripted_gateway(backend(), spec=SPEC) as where:
        cursor = (await listed(where))["result"]["nextCursor"]
        for path, host in (("/mcp/vs/few", "127.0.0.1"), ("/mcp", "two.example"), ("/mcp/vs/few", "two.example")):
            assert refused(await listed(where, cursor, path=path, host=host))
        for kind in ("prompts", "resources", "resources/templates"):
            assert refused(await listed(where, cursor, kind=kind))
        changed = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
        wrong: list[JsonValue] = [changed, cursor + "=", cursor[2:], "", "1.", 7, {}, True]
        for one in wrong:
            assert refused(await listed(where, one))
        assert [one["name"] for one in (await listed(where, cursor))["result"]["tools"]] == NAMES[3:6]


async def test_a_list_that_changes_between_two_pages_begins_again(autojump_clock: MockClock) -> None:
    changing = backend()
    async with scripted_gateway(changing) as where:
        cursor = (await listed(where))["result"]["nextCursor"]
        prompts = (await listed(where, kind="prompts"))["result"]["nextCursor"]
        changing.tools.append(tool("t8"))
        await changing.shout(notice("notifications/tools/list_changed"))
        await trio.sleep(3)
        assert refused(await listed(where, cursor))
        assert "result" in await listed(where, prompts, kind="prompts")  # that list is the same
        assert "result" in await listed(where, (await listed(where))["result"]["nextCursor"])
