"""Every request of both eras, sent to servers of other makers directly and through the gateway, and compared as bytes.

What differs must stand in ``comparison/reasons.py``; ``docs/conformance.md`` shows the same list to people. How SDKs
see the same servers is ``test_differential``'s.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tests.peers.comparison.differences import compare
from tests.peers.comparison.reasons import REASONS, Reason
from tests.peers.comparison.sides import Seen, Side, belongs, http_side, line_side, sse_side
from tests.peers.comparison.steps import (
    WITHOUT_ROOTS,
    Step,
    Things,
    handshakes,
    legacy_http,
    legacy_messages,
    modern_http,
    modern_messages,
)
from tests.support import peers
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.timeout(60)]

EVERYTHING: Final = Things(
    calls={
        "a tool": ("echo", {"message": "größer 😀"}),
        "with wrong arguments": ("echo", {"message": 1}),
        "for structure": ("get-structured-content", {"location": "Chicago"}),
        "for an image": ("get-tiny-image", {}),
        "for links": ("get-resource-links", {"count": 3}),
        "for a resource": ("get-resource-reference", {"resourceType": "Text", "resourceId": 1}),
        "for annotations": ("get-annotated-message", {"messageType": "error", "includeImage": True}),
    },
    slow=("trigger-long-running-operation", {"duration": 0.1, "steps": 2}),
    prompts={
        "a prompt": {"name": "simple-prompt"},
        "a prompt with arguments": {"name": "args-prompt", "arguments": {"city": "Berlin", "state": "BE"}},
        "a prompt without its arguments": {"name": "args-prompt"},
    },
    resources={
        "a resource": "demo://resource/static/document/features.md",
        "by a template": "demo://resource/dynamic/text/1",
        "by a template, wrongly": "demo://resource/dynamic/text/nothing",
    },
    completions={
        "a prompt's argument": {
            "ref": {"type": "ref/prompt", "name": "completable-prompt"},
            "argument": {"name": "department", "value": "S"},
        },
        "a template's": {
            "ref": {"type": "ref/resource", "uri": "demo://resource/dynamic/text/{resourceId}"},
            "argument": {"name": "resourceId", "value": "1"},
        },
        "nobody's": {"ref": {"type": "ref/prompt", "name": "nobody's"}, "argument": {"name": "x", "value": ""}},
    },
)
FASTMCP: Final = Things(
    calls={
        "a tool": ("echo", {"text": "größer 😀"}),
        "with wrong arguments": ("add", {"a": "x"}),
        "for structure": ("add", {"a": 1, "b": 2}),
        "that fails": ("fail", {"why": "on purpose"}),
    },
    slow=("slow", {"seconds": 0.1, "steps": 2}),
    prompts={
        "a prompt": {"name": "greet", "arguments": {"name": "Ada"}},
        "a prompt without its arguments": {"name": "greet"},
    },
    resources={"a resource": "peer://note", "by a template": "peer://note/7", "nothing": "peer://nothing/at/all"},
    completions={
        "a prompt's argument": {
            "ref": {"type": "ref/prompt", "name": "greet"},
            "argument": {"name": "name", "value": "A"},
        },
        "a template's": {
            "ref": {"type": "ref/resource", "uri": "peer://note/{number}"},
            "argument": {"name": "number", "value": "G"},
        },
        "nobody's": {"ref": {"type": "ref/prompt", "name": "nobody's"}, "argument": {"name": "x", "value": ""}},
    },
)


class Findings:
    """What differed at one server, and what of it is explained."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.unexplained: list[str] = []
        self.used: set[Reason] = set()

    async def compare(
        self, era: str, direct: Side, through: Side, steps: Sequence[tuple[Step, Step]], *, one_stream: bool = False
    ) -> None:
        """Send each pair of steps, one directly and one through.

        Args:
            one_stream: the server says everything on one stream; what belongs to no request comes when it does.
        """
        for one, other in steps:
            where = f"{self.server}, {era}: {other.label}"
            ours, theirs = await direct.send(one), await through.send(other)
            if one_stream:
                theirs = attrs.evolve(theirs, messages=tuple(filter(belongs, theirs.messages)))
            for what in compare(ours, theirs):
                reason = next((each for each in REASONS if each.explains(where, what)), None)
                if reason is None:
                    self.unexplained.append(f"{where} | {what}")
                else:
                    self.used.add(reason)

    def judge(self) -> None:
        """Fail for what no reason explains, and for reasons of this server alone that explain nothing."""
        assert not self.unexplained, "\n".join(self.unexplained)
        own = [reason for reason in REASONS if reason.where.startswith(f"^{self.server},".replace("+", r"\+"))]
        stale = [f"{reason.where} | {reason.what}" for reason in own if reason not in self.used]
        assert stale == [], f"explains nothing: {stale}"


def twice(steps: Sequence[Step]) -> list[tuple[Step, Step]]:
    return [(step, step) for step in steps]


def entry(url: str) -> list[dict[str, str]]:
    """No prefix, so that names and URIs are the server's own."""
    return [{"name": "peer", "url": url, "prefix": ""}]


@pytest.mark.peers
async def test_fastmcp_answers_through_the_gateway_as_directly() -> None:
    findings = Findings("FastMCP")
    async with peers.fastmcp4_server() as peer, running_gateway(entry(peer.url)) as running:
        async with http_side(peer.url) as direct, http_side(running.url) as through:
            await findings.compare("handshake", direct, through, twice(handshakes()))
            sessions = await direct.opened(), await through.opened()
            await findings.compare("2025", *sessions, twice([*legacy_messages(FASTMCP), *legacy_http()]))
            await findings.compare("2026", direct, through, twice([*modern_messages(FASTMCP), *modern_http(FASTMCP)]))
    findings.judge()


@pytest.mark.node
async def test_server_everything_answers_through_the_gateway_as_directly() -> None:
    findings = Findings("server-everything over HTTP")
    async with peers.everything_server() as peer, running_gateway(entry(peer.url)) as running:
        async with http_side(peer.url) as direct, http_side(running.url) as through:
            await findings.compare("handshake", direct, through, twice(handshakes()))
            await findings.compare("bridged", await direct.opened(WITHOUT_ROOTS), through, bridged(EVERYTHING))
            sessions = await direct.opened(), await through.opened()
            await findings.compare("2025", *sessions, twice([*legacy_messages(EVERYTHING), *legacy_http()]))
    findings.judge()


def bridged(things: Things) -> list[tuple[Step, Step]]:
    """What a 2025 server says itself, beside what a 2026 client hears of it."""
    own = {step.label: step for step in legacy_messages(things)}
    return [(own[step.label], step) for step in modern_messages(things, WITHOUT_ROOTS) if step.label in own]


@pytest.mark.node
async def test_server_everything_answers_through_the_gateway_as_on_its_pipe() -> None:
    findings = Findings("server-everything on a pipe")
    command = peers.everything_command()
    server = {"name": "peer", "command": [str(word) for word in command], "prefix": ""}
    async with running_gateway([server]) as running, line_side(command) as direct, http_side(running.url) as through:
        steps = [step for step in legacy_messages(EVERYTHING) if step.plain]
        await findings.compare("2025", direct, await through.opened(), twice(steps), one_stream=True)
    findings.judge()


@pytest.mark.node
async def test_server_everything_answers_through_the_gateway_as_over_http_and_sse() -> None:
    findings = Findings("server-everything over HTTP+SSE")
    async with peers.everything_server("sse") as peer, running_gateway(entry(peer.url)) as running:
        async with sse_side(peer.url) as direct, http_side(running.url) as through:
            steps = [step for step in legacy_messages(EVERYTHING) if step.plain]
            await findings.compare("2025", direct, await through.opened(), twice(steps), one_stream=True)
    findings.judge()


def test_each_reason_stands_in_the_documentation() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "conformance.md").read_text().split())
    assert [reason.why for reason in REASONS if reason.why not in text] == []


@pytest.mark.parametrize(
    "direct, through, seen",
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({"status": 200}, {"status": 404}, ["status 200, through 404"], id="status"),
        pytest.param(
            {"status": 200, "headers": {"allow": "GET"}}, {"status": 200}, ["allow GET, through None"], id="header"
        ),
        pytest.param(
            {"messages": (b"{}", b'{"id":1,"result":{}}')},
            {"messages": (b'{"id":1,"result":{}}',)},
            ["messages ['no message', 'result'], through ['result']"],
            id="messages",
        ),
        pytest.param(
            {"messages": (b'{"id":1,"result":{"a":1.0,"b":[]}}',)},
            {"messages": (b'{"result":{"a": 1.0,"b":[]},"id":1}',)},
            ["result written anew"],
            id="bytes alone",
        ),
        pytest.param(
            {"messages": (b'{"result":{"a":[{"b":1}]}}',)},
            {"messages": (b'{"result":{"a":[{"b":1.0,"c":2}]}}',)},
            ["result.a[0].b 1, through 1.0", "result.a[0].c only through: 2"],
            id="values",
        ),
        pytest.param(
            {"messages": (b'{"result":[{"name":"a","x":1},{"name":"b"}]}',)},
            {"messages": (b'{"result":[{"name":"b"},{"name":"a","x":2}]}',)},
            ["result in another order", "result[a].x 1, through 2"],
            id="order",
        ),
    ],
)
def test_what_differs_is_seen(direct: dict[str, Any], through: dict[str, Any], seen: list[str]) -> None:
    assert compare(Seen(**direct), Seen(**through)) == seen


def test_no_reason_explains_an_answer_that_is_another_one() -> None:
    told = ("result.content[0].text 1, through 2", "error.code -32602, through -33504", "result only directly")
    where = (
        "FastMCP, 2025: call a tool",
        "server-everything over HTTP, 2025: read a resource",
        "FastMCP, 2026: get a prompt",
    )
    explained = [(here, what) for here in where for what in told for reason in REASONS if reason.explains(here, what)]
    assert explained == []
