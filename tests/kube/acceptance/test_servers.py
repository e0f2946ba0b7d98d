"""Registering, changing and removing servers, as clients see it. Numbers are those of docs/kubernetes-acceptance.md."""

import json
import signal

import pytest
import trio

from tests.kube.acceptance.conftest import Running
from tests.support.kube.documents import secret
from tests.support.kube.place import Place, until
from tests.support.raw_client import Exchange, Message

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]

ROUTE = "HTTPRoute"


def parents(place: Place, route: str) -> list[dict[str, str]]:
    """What we say in the status of a route: type and status of each condition, for each parent."""
    status = place.objects.get(ROUTE, place.name, route).get("status", {})
    return [{one["type"]: one["status"] for one in entry["conditions"]} for entry in status.get("parents", ())]


async def test_two_servers_are_listed_with_their_prefixes_called_and_taken_back(place: Place) -> None:
    """K-01, K-02, K-03."""
    for name in ("one", "two"):
        place.serve(name)
        place.register(name, f"{name}_")
    await place.ready("one", "two")
    assert {"one_greet", "two_greet"} <= await place.names()
    assert await place.call("one_greet", name="e2e") == "Hi e2e, this is one"
    assert parents(place, "one")[0]["Programmed"] == "True"
    place.unregister("one")
    await place.hides("one_greet")
    await until(lambda: not parents(place, "one"))
    assert "two_greet" in await place.names()


async def test_a_server_on_a_path_of_its_own_is_found_there(place: Place) -> None:
    """K-05."""
    place.serve("special", path="/v1/special/mcp")
    place.register("special", "s_", path="/v1/special/mcp")
    await place.ready("special")
    assert await place.call("s_echo", text="here") == '{"text": "here"}'


async def test_a_wrong_credential_is_said_and_a_corrected_one_serves(place: Place) -> None:
    """K-06."""
    place.apply(secret(place.name, "key", token="Bearer wrong"))
    place.serve("guarded", authorization="Bearer right")
    place.register("guarded", "g_", credentialRef={"name": "key"})
    await until(lambda: place.said("Connected", "guarded")[1] == "AuthenticationFailed")
    assert place.said("Ready", "guarded")[0] == "False"
    assert not await place.names()
    place.apply(secret(place.name, "key", token="Bearer right"))
    await place.ready("guarded")
    assert "g_greet" in await place.names()


async def test_a_server_of_an_unknown_revision_is_reported_and_not_listed(place: Place) -> None:
    """K-18, K-183: Ready tells the truth, with the reason."""
    place.serve("broken", version="2021-11-05")
    place.serve("good")
    place.register("broken", "b_")
    place.register("good", "g_")
    await until(lambda: place.said("Connected", "broken")[1] == "ProtocolError")
    assert "2021-11-05" in place.said("Ready", "broken")[2]
    await place.ready("good")
    assert {name[:2] for name in await place.names()} == {"g_"}


async def test_of_two_registrations_with_one_prefix_the_older_serves(place: Place) -> None:
    """K-19, K-31."""
    place.serve("server", prompts=["greet"])
    place.register("older", "p_", to="server")
    await place.ready("older")
    place.register("younger", "p_", to="server")
    await until(lambda: place.said("Ready", "younger")[1] == "PrefixConflict")
    assert "conflict" in place.said("Ready", "younger")[2]
    assert f"{place.name}/older" in place.said("Ready", "younger")[2]
    assert place.is_ready("older")
    assert "p_greet" in await place.names()
    place.unregister("older")
    await place.ready("younger")


async def test_servers_without_prefixes_are_served_under_their_own_names(place: Place) -> None:
    """K-20, K-27: of a name that two have, the older's is shown; a prefix given later shows the other's too."""
    for name in ("first", "second"):
        place.serve(name, tools=[{"name": f"only_{name}", "inputSchema": {"type": "object"}}])
    place.register("first")
    await place.ready("first")
    place.register("second")
    await place.ready("second")
    assert {"only_first", "only_second", "greet"} <= await place.names()
    assert await place.call("only_second") == "only_second of second"
    assert await place.call("greet", name="x") == "Hi x, this is first"
    place.register("second", "server2_")
    await place.shows("greet", "server2_greet")
    assert await place.call("greet", name="x") == "Hi x, this is first"
    assert await place.call("server2_greet", name="x") == "Hi x, this is second"


async def test_prompts_have_the_prefix_too_and_go_with_their_registration(place: Place) -> None:
    """K-21, K-22, K-26."""
    place.serve("server", prompts=["greet"])
    place.register("a", "s1a_", to="server")
    place.register("b", "s1b_", to="server")
    await place.ready("a", "b")
    assert await place.names("prompts") == {"s1a_greet", "s1b_greet"}
    async with place.client2025() as client:
        await client.initialize()
        found = await client.ask("prompts/get", name="s1a_greet", arguments={"name": "e2e"})
        assert found["result"]["messages"][0]["content"]["text"] == "Say hi to e2e"
        exchange = await client.start("prompts/get", name="unknown")
        assert exchange.status == 200
        assert (await exchange.response())["error"]["code"] == -32602
    place.unregister("a")

    async def gone() -> bool:
        return await place.names("prompts") == {"s1b_greet"}

    await until(gone)


async def test_a_disabled_server_is_hidden_and_comes_back_enabled(place: Place) -> None:
    """K-28."""
    place.serve("server")
    place.register("server", "s_")
    await place.ready("server")
    place.register("server", "s_", state="Disabled")
    await until(lambda: place.said("Ready", "server")[:2] == ("False", "Disabled"))
    await place.hides("s_greet")
    place.register("server", "s_", state="Enabled")
    await place.ready("server")
    assert "s_greet" in await place.names()


async def next_changes(stream: Exchange, kinds: set[str]) -> None:
    """Read notifications until each of these lists has been said to have changed."""
    missing = {f"notifications/{kind}/list_changed" for kind in kinds}
    with trio.fail_after(10):
        while missing:
            message: Message | None = await stream.next()
            assert message is not None, (stream.status, stream.headers)
            missing.discard(message.get("method", ""))


async def test_every_connected_client_hears_of_a_new_server_and_of_a_tool_that_grows(home: Place) -> None:
    """K-13, K-14."""
    home.serve("first")
    home.register("first", "f_")
    await home.ready("first")
    async with home.client2025() as one, home.client2025() as other:
        streams = []
        for client in (one, other):
            await client.initialize()
            streams.append(await client.stream())
        home.serve("second", prompts=["greet"])
        home.register("second", "s_")
        for stream in streams:
            await next_changes(stream, {"tools", "prompts"})
        assert "s_greet" in await one.list()
        await one.call("s_add_tool", {"name": "grown"})
        for stream in streams:
            await next_changes(stream, {"tools"})
        assert "s_grown" in await other.list()


async def test_a_server_that_goes_is_told_and_its_tools_come_back_with_it(home: Place) -> None:
    """K-15: calls meanwhile say that the server is gone; the names go after ``graceWhenDown``."""
    server = home.serve("fading")
    home.register("fading", "x_", health={"interval": "1s", "failures": 1, "graceWhenDown": "1s"})
    await home.ready("fading")
    async with home.client2025() as client:
        await client.initialize()
        stream = await client.stream()
        server.stop()
        await next_changes(stream, {"tools"})
        assert "x_greet" not in await client.list()
        assert "error" in await client.call("x_greet")
        await until(lambda: home.said("Ready", "fading")[0] == "False")
        home.start("fading")
        await next_changes(stream, {"tools"})
        assert "x_greet" in await client.list()
    await home.ready("fading")


async def test_after_a_restart_of_the_data_plane_the_same_is_served(place: Place, running: Running) -> None:
    """K-29; K-10 without a store: a session goes on after the restart."""
    place.serve("server", prompts=["greet"])
    place.register("server", "s_")
    await place.ready("server")
    async with place.client2025() as client:
        await client.initialize()
        before = await client.list(), await client.list("prompts")
        running.data_plane.end(signal.SIGKILL)
        running.data_plane.again()

        async def listening() -> bool:
            try:
                return bool(await place.names())
            except OSError:
                return False

        await until(listening, 30)
        assert (await client.list(), await client.list("prompts")) == before
        assert "Hi again" in json.dumps(await client.call("s_greet", {"name": "again"}))
    assert place.is_ready("server"), place.objects.get("MCPServerRegistration", place.name, "server")["status"]
