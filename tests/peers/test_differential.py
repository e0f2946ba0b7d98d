"""The same script, played against a server directly and through the gateway: nothing differs but names and ids."""

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias

import attrs
import pytest
import trio

from tests.support import peers
from tests.support.gateway import running_gateway
from tests.support.script import Played, Step, play, play_mcp1

pytestmark = [
    pytest.mark.wire,
    pytest.mark.slow,
    pytest.mark.timeout(60),
    # What the newest revision has no more, gateways carry nevertheless.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]

Start: TypeAlias = Callable[[], AbstractAsyncContextManager[peers.Peer]]

SERVER: Final = "peer"
PREFIX: Final = "peer_"
CLIENTS: Final = ("legacy", "mcp1", "modern")
"""The second major version of the SDK in both eras, and the first."""


@attrs.frozen(kw_only=True)
class Names:
    """What things are called at one address."""

    url: str
    prefix: str = ""
    authority: str = ""
    """The gateway's own part of a URI that it had to map."""

    def name(self, name: str) -> str:
        return self.prefix + name

    def uri(self, uri: str) -> str:
        return uri.replace("://", f"://{self.authority}", 1)

    def normal(self, played: Played) -> Played:
        """The outcome with the server's own names, and without ids and what only one era has."""
        text = json.dumps(played)
        if self.authority:
            text = text.replace(f"://{self.authority}", "://")
        if self.prefix:
            text = text.replace(f'"name": "{self.prefix}', '"name": "')
        for pattern, word in CHANGING.items():
            text = re.sub(pattern, word, text)
        cleaned: Played = bare(json.loads(text))
        return cleaned


def bare(value: Any) -> Any:  # noqa: ANN401  # any JSON
    """Without the members that name the server, and without those that one family of revisions does not have."""
    match value:
        case dict():
            meta = {key: item for key, item in value.get("_meta", {}).items() if "modelcontextprotocol" not in key}
            rest = {key: bare(item) for key, item in value.items() if key not in ERA_MEMBERS}
            return {**rest, "_meta": meta} if meta else rest
        case list():
            return [bare(item) for item in value]
        case _:
            return value


ERA_MEMBERS: Final = {"_meta", "resultType", "ttlMs", "cacheScope", "elicitationId"}
CHANGING: Final = {
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}": "UUID",
    r"\d+:\d\d:\d\d [AP]M": "TIME",
    r'"code": -32002': '"code": -32602',
    r"peer://note/(legacy|mcp1|modern)": "peer://note/mine",
}
"""What is another one each time or for each client, and "resource not found", which has another code in each era."""
TELLING: Final = ("mcp1", "mcp2", "everything")
"""Who tells subscribers of updates. FastMCP does so in neither era, and without sessions there is no stream for it."""
UNHEARD: Final = {
    # Late answers to a call that was given up, which the first SDK reports and every server words otherwise.
    "": frozenset({"trouble"}),
    "everything": frozenset[str](),
}
"""What is not compared, by server."""
UNSAID: Final = re.compile(r"Received (Subscribe|Unsubscribe) Resource")
"""Logs of server-everything beside its answers to subscriptions: a 2026 client has no such request, and no place where
it could hear them."""


def frame_steps(names: Names, client: str, *, stateful: bool, subscribes: bool) -> list[Step]:
    """For the servers that share ``frame.py``; without a session (and without streams) nobody is asked or told."""
    call: list[Step] = [
        ["call", names.name("echo"), {"text": "größer 😀"}],
        ["call", names.name("add"), {"a": 2, "b": 3}],
        ["call", names.name("add"), {"a": "no number"}],
        ["call", names.name("fail"), {"why": "on purpose"}],
        ["call", names.name("blob"), {"size": 100_000}],
        ["call", names.name("logs"), {"count": 3}],
        ["call", names.name("slow"), {"seconds": 0.1, "steps": 3, "label": "quick"}],
    ]
    label = f"given up {names.url}"
    session: list[Step] = [
        ["hear", "log", 3],
        ["hear", "progress", 4],
        ["call", names.name("ask"), {}],
        ["call", names.name("sample"), {}],
        ["call", names.name("roots"), {}],
        ["cancel", names.name("slow"), {"seconds": 20, "steps": 1, "label": label}],
        ["until", names.name("journal"), "cancelled", label],
    ]
    mine = f"peer://note/{client}"  # all clients play at the same time
    told: list[Step] = [
        ["subscribe", names.uri(mine)],
        ["call", names.name("touch"), {"uri": "peer://note/nobodys"}],
        ["call", names.name("touch"), {"uri": mine}],
        ["hear", "updated", 1],
        ["unsubscribe", names.uri(mine)],
        ["call", names.name("touch"), {"uri": mine}],
    ]
    return [
        *(["list", kind] for kind in ("tools", "prompts", "resources", "templates")),
        *call,
        *(session if stateful else []),
        *(told if subscribes else []),
        ["read", names.uri("peer://note")],
        ["read", names.uri("peer://note/7")],
        ["read", names.uri("peer://nothing/at/all")],
        ["get", names.name("greet"), {"name": "Ada"}],
        ["get", names.name("greet"), {}],
        ["complete", {"type": "ref/prompt", "name": names.name("greet")}, {"name": "name", "value": "A"}, {}],
        [
            "complete",
            {"type": "ref/resource", "uri": names.uri("peer://note/{number}")},
            {"name": "number", "value": "G"},
            {},
        ],
    ]


def everything_steps(names: Names, *, modern: bool) -> list[Step]:
    """For server-everything, with the tools that it lists only to clients who can be asked something.

    Shortly after a session has begun it asks for the roots: the first call takes long enough to be under way then,
    because a 2026 client can be asked nothing else. To a client without tasks it lists one tool that needs them.
    """
    url = {"url": "https://example.com/", "elicitationId": "e1", "message": "open it"}
    document = names.uri("demo://resource/static/document/features.md")
    return [
        *(["list", kind] for kind in ("tools", "prompts", "resources", "templates")),
        ["level", "debug"],
        ["call", names.name("trigger-long-running-operation"), {"duration": 1, "steps": 1}],
        ["hear", "roots", 1],
        ["call", names.name("get-roots-list"), {}],
        ["call", names.name("trigger-elicitation-request"), {}],
        ["call", names.name("trigger-sampling-request"), {"prompt": "say hello", "maxTokens": 10}],
        ["call", names.name("trigger-sampling-request"), {}],
        ["call", names.name("trigger-url-elicitation"), url],
        ["call", names.name("echo"), {"message": "hello"}],
        ["call", names.name("echo"), {}],
        ["call", names.name("get-sum"), {"a": 2, "b": 3}],
        ["call", names.name("get-annotated-message"), {"messageType": "error", "includeImage": True}],
        ["call", names.name("get-structured-content"), {"location": "Chicago"}],
        ["call", names.name("get-resource-links"), {"count": 3}],
        ["call", names.name("get-resource-reference"), {"resourceType": "Text", "resourceId": 1}],
        ["call", names.name("get-tiny-image"), {}],
        ["call", names.name("trigger-long-running-operation"), {"duration": 0.1, "steps": 2}],
        ["hear", "progress", 3],
        ["read", document],
        ["read", names.uri("demo://resource/dynamic/text/nothing")],
        ["get", names.name("simple-prompt"), {}],
        ["get", names.name("args-prompt"), {"city": "Berlin", "state": "BE"}],
        ["get", names.name("args-prompt"), {}],
        [
            "complete",
            {"type": "ref/prompt", "name": names.name("completable-prompt")},
            {"name": "department", "value": "S"},
            {},
        ],
        [
            "complete",
            {"type": "ref/prompt", "name": names.name("completable-prompt")},
            {"name": "name", "value": "D"},
            {"department": "Sales"},
        ],
        [
            "complete",
            {"type": "ref/resource", "uri": names.uri("demo://resource/dynamic/text/{resourceId}")},
            {"name": "resourceId", "value": "1"},
            {},
        ],
        ["subscribe", document],
        ["call", names.name("toggle-subscriber-updates"), {}],
        ["hear", "updated", 1],
        ["call", names.name("toggle-subscriber-updates"), {}],
        ["unsubscribe", document],
        # -32042, the 2025 way to send a client elsewhere first; for a 2026 client it becomes a question and a retry.
        *([] if modern else [["call", names.name("trigger-url-elicitation"), {**url, "errorPath": True}]]),
        # A tool that runs as a task of 2025 only, which the gateway says to a client of 2026 in its own words.
        *([] if modern else [["call", names.name("simulate-research-query"), {"topic": "nothing"}]]),
    ]


@asynccontextmanager
async def three_ways(peer: peers.Peer) -> AsyncIterator[tuple[Names, Names, Names]]:
    """The server itself, and two gateways in front of it: one without a prefix, one with."""
    plain = {"name": SERVER, "url": peer.url, "prefix": ""}
    async with (
        running_gateway([plain]) as first,
        running_gateway([{"name": SERVER, "url": peer.url, "prefix": PREFIX}]) as second,
    ):
        yield (
            Names(url=peer.url),
            Names(url=first.url),
            Names(url=second.url, prefix=PREFIX, authority=f"{SERVER}/"),
        )


def steps_of(server: str, names: Names, client: str) -> list[Step]:
    if server == "everything":
        return everything_steps(names, modern=client == "modern")
    return frame_steps(names, client, stateful=server != "mcp1 stateless", subscribes=server in TELLING)


async def play_all(client: str, server: str, ways: Sequence[Names]) -> list[Played]:
    """The normalised outcomes of one client, one for each way."""
    scripts = [(way.url, steps_of(server, way, client)) for way in ways]
    if client == "mcp1":
        played = await play_mcp1(scripts)
    else:
        mode = "2026-07-28" if client == "modern" else "legacy"
        played = [await play(url, steps, mode) for url, steps in scripts]
    outcomes = [way.normal(one) for way, one in zip(ways, played, strict=True)]
    for outcome in outcomes:
        for kind in UNHEARD.get(server, UNHEARD[""]):
            outcome["heard"].pop(kind, None)
    return outcomes


def for_2026(played: Played) -> Played:
    """What a 2026 client hears of it."""
    heard = dict(played["heard"])
    if "log" in heard:
        heard["log"] = [one for one in heard["log"] if not UNSAID.match(str(one["data"]))]
    return {**played, "heard": heard}


def compare(steps: Sequence[Step], expected: Sequence[Played], got: Played) -> list[str]:
    """Every difference, for people.

    Args:
        expected: what the server itself says; several where it speaks both eras and says another thing in each.
    """
    found = []
    for place, (step, through) in enumerate(zip(steps, got["results"], strict=True)):
        # One era's script may have more steps at its end.
        direct = [one["results"][place] for one in expected if place < len(one["results"])]
        if through not in direct:
            found.append(f"{step}:\n  direct  {direct}\n  through {through}")
    for kind in sorted({*expected[0]["heard"], *got["heard"]}):
        direct = [one["heard"].get(kind) for one in expected]
        if got["heard"].get(kind) not in direct:
            found.append(f"heard {kind}:\n  direct  {direct}\n  through {got['heard'].get(kind)}")
    return found


async def differences(server: str, ways: tuple[Names, Names, Names], *, speaks_modern: bool) -> list[str]:
    """Play every client's script every way, and compare."""
    direct, plain, prefixed = ways
    reference: dict[str, Played] = {}
    through: dict[str, list[Played]] = {}

    async def run(client: str) -> None:
        # A modern client cannot use a legacy server directly: it has to get what a legacy client gets.
        mine = ways if client != "modern" or speaks_modern else (plain, prefixed)
        played = await play_all(client, server, mine)
        if len(mine) == 3:
            reference[client] = played.pop(0)
        through[client] = played

    async with trio.open_nursery() as nursery:
        for client in CLIENTS:
            nursery.start_soon(run, client)
    found = []
    for client in CLIENTS:
        steps = steps_of(server, direct, client)
        own = reference.get(client) or for_2026(reference["legacy"])
        expected = [own, reference["modern"]] if speaks_modern else [own]
        for way, one in zip((plain, prefixed), through[client], strict=True):
            found += [f"{client}, prefix {way.prefix!r}, {text}" for text in compare(steps, expected, one)]
            if server in TELLING and len(one["heard"].get("updated", ())) != 1:
                found.append(f"{client}, prefix {way.prefix!r}, was told of {one['heard'].get('updated')}")
    return found


@pytest.mark.parametrize(
    "server, start, speaks_modern",
    [
        pytest.param("mcp2", lambda: peers.mcp2_server(), True, id="mcp 2", marks=pytest.mark.peers),
        pytest.param("mcp1", lambda: peers.mcp1_server(), False, id="mcp 1", marks=pytest.mark.peers),
        pytest.param(
            "mcp1 stateless",
            lambda: peers.mcp1_server("--stateless", "--json"),
            False,
            id="mcp 1 without sessions",
            marks=pytest.mark.peers,
        ),
        pytest.param("fastmcp4", lambda: peers.fastmcp4_server(), True, id="FastMCP 4", marks=pytest.mark.peers),
        pytest.param(
            "everything",
            lambda: peers.everything_server(),
            False,
            id="server-everything",
            marks=[pytest.mark.peers, pytest.mark.node],
        ),
    ],
)
async def test_a_script_gives_the_same_through_the_gateway(server: str, start: Start, speaks_modern: bool) -> None:
    async with start() as peer, three_ways(peer) as ways:
        found = await differences(server, ways, speaks_modern=speaks_modern)
    assert not found, "\n".join(found)
