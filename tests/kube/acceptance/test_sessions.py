"""Sessions of clients and the gateway's own with servers. Numbers are those of docs/kubernetes-acceptance.md."""

import json

import pytest
import trio

from tests.support.kube.mcp_server import MODERN
from tests.support.kube.place import Place
from tests.support.raw_client import Client2025

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]


async def headers_of(client: Client2025, tool: str = "s_headers") -> dict[str, str]:
    """The headers that a server got with a call."""
    answer = await client.call(tool)
    found: dict[str, str] = json.loads(answer["result"]["content"][0]["text"])
    return found


async def test_a_client_has_one_session_with_a_server_that_is_not_its_own_and_a_new_one_next_time(place: Place) -> None:
    """K-07, K-08, K-11."""
    place.serve("server")
    place.register("server", "s_")
    await place.ready("server")
    seen: list[set[str]] = []
    own: set[str] = set()
    for _ in range(2):
        async with place.client2025() as client:
            await client.initialize()
            own.add(client.session_id)
            answers: list[dict[str, str]] = []

            async def call(client: Client2025 = client, answers: list[dict[str, str]] = answers) -> None:
                answers.append(await headers_of(client))

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(call)
            seen.append({one["mcp-session-id"] for one in answers})
            assert len(answers) == 20
            await client.delete()
    assert [len(ids) for ids in seen] == [1, 1]
    assert len(own) == 2
    assert len(own | seen[0] | seen[1]) == 4


async def test_who_changes_how_a_server_is_shown_ends_no_session_with_it(place: Place) -> None:
    place.serve("server")
    place.register("server", "s_")
    await place.ready("server")
    async with place.client2025() as client:
        await client.initialize()
        before = (await headers_of(client))["mcp-session-id"]
        place.register("server", "s_", tools={"exclude": ["add_tool"]}, hint="for tests")
        await place.hides("s_add_tool")
        await place.ready("server")
        assert (await headers_of(client))["mcp-session-id"] == before


async def test_answers_of_many_calls_at_once_come_from_the_right_servers(place: Place) -> None:
    """K-09."""
    names = ("one", "two", "three")
    for name in names:
        place.serve(name)
        place.register(name, f"{name}_")
    await place.ready(*names)
    async with place.client2025() as client:
        await client.initialize()

        async def call(name: str, number: int) -> None:
            answer = await client.call(f"{name}_greet", {"name": str(number)})
            assert answer["result"]["content"][0]["text"] == f"Hi {number}, this is {name}"

        for number in range(5):
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(call, name, number)


async def test_servers_of_both_eras_are_served_to_clients_of_both(place: Place) -> None:
    """K-30, K-150, K-151, K-152, K-153, K-159, K-160, K-166, K-167, K-168, K-169, K-170: bridged, not split."""
    place.serve("old", prompts=["greet"])
    place.serve("new", version=MODERN, prompts=["greet"])
    place.register("old", "sf_")
    place.register("new")
    await place.ready("old", "new")
    async with place.client2026() as modern, place.client2025() as legacy:
        assert MODERN in (await modern.ask("server/discover"))["result"]["supportedVersions"]
        assert (await legacy.initialize())["protocolVersion"] == "2025-11-25"
        for client in (modern, legacy):
            assert {"sf_greet", "greet"} <= set(await client.list())
            assert set(await client.list("prompts")) == {"sf_greet", "greet"}
            for tool, server in (("sf_greet", "old"), ("greet", "new")):
                answer = await client.call(tool, {"name": "you"})
                assert answer["result"]["content"][0]["text"] == f"Hi you, this is {server}"
            for prompt in ("sf_greet", "greet"):
                found = await client.ask("prompts/get", name=prompt, arguments={"name": "you"})
                assert found["result"]["messages"][0]["content"]["text"] == "Say hi to you"
        for kind in ("tools", "prompts"):
            listed = (await modern.ask(f"{kind}/list"))["result"]
            assert isinstance(listed["ttlMs"], int)
            assert listed["cacheScope"] in {"public", "private"}
            assert not {"ttlMs", "cacheScope"} & (await legacy.ask(f"{kind}/list"))["result"].keys()


async def test_what_is_sent_arrives_as_it_was_sent(place: Place) -> None:
    """K-180, K-181, K-182: a request of a megabyte and its answer, nested and odd values with it."""
    server = place.serve("server")
    place.register("server", "s_")
    await place.ready("server")
    arguments = {"text": "x" * 2**20, "nested": {"a": [1, 2.5, None, {"b": "ä\u2028"}], "big": 2**53 + 1, "": []}}
    async with place.client2025() as client:
        await client.initialize()
        answer = await client.call("s_echo", arguments)
    assert json.loads(answer["result"]["content"][0]["text"]) == arguments
    (sent,) = [json.loads(body) for body in server.seen if b'"tools/call"' in body]
    assert sent["params"]["name"] == "echo"
    assert sent["params"]["arguments"] == arguments
