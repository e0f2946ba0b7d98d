"""The looks with the eyes of more capable clients: when, in which order, and what their failure means."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import orjson
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.capability_probe import EVERYTHING, REFUSED, SINGLE, WHOLE_S
from mcp_gateway.backends.status import status_of
from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import BackendLimits, HealthSpec, Timeouts
from mcp_gateway.errors import BackendGone, BackendProtocol, Executed, GatewayError
from mcp_gateway.protocol.capabilities import object_of
from mcp_gateway.protocol.eras import V2026_07_28, Family
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.scripted_link import (
    ASKABLE,
    Published,
    ScriptedBackend,
    ScriptedLink,
    caller,
    notice,
    question,
    ready,
    running,
    tool,
)

SAMPLING, FORM, URL, BOTH, ROOTS = SINGLE
HOUR = HealthSpec(interval_s=3600.0)
CHANGED = notice("notifications/tools/list_changed")


def varying(granted: frozenset[str]) -> list[JsonObject]:
    """As server-everything has it: some tools for everybody, one for each thing that a client can do."""
    kinds = [("sample", SAMPLING), ("form", FORM), ("url", URL), ("modes", BOTH), ("roots", ROOTS)]
    return [tool("first"), *(tool(name) for name, needs in kinds if needs <= granted), tool("last")]


def needs(backend: Backend) -> dict[str, tuple[frozenset[str], ...]]:
    """What each tool that is served needs, in order."""
    listings = backend.snapshot.lists(Family.LEGACY)
    return {} if listings is None else {item.name: item.required for item in listings[Kind.TOOLS].items}


def prompts_of(backend: Backend) -> list[str]:
    listings = backend.snapshot.lists(Family.LEGACY)
    return [] if listings is None else [item.name for item in listings[Kind.PROMPTS].items]


def declared(links: Iterable[ScriptedLink]) -> list[JsonObject]:
    return [orjson.loads(link.identity.capabilities) for link in links]


def reasons(backend: Backend) -> list[str]:
    return [problem.reason for problem in backend.snapshot.problems]


VARYING = {
    "first": (),
    "sample": (SAMPLING,),
    "form": (FORM,),
    "url": (URL,),
    "modes": (BOTH,),
    "roots": (ROOTS,),
    "last": (),
}
PLAIN = {"first": (), "last": ()}


async def test_a_server_that_shows_everybody_the_same_costs_one_session(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(600)
        assert declared(scripted.surveys) == [object_of(EVERYTHING)]
        assert [method for _, method in scripted.surveyed] == ["GET", "tools/list"]
        assert scripted.surveys[0].closed
        assert needs(backend) == {"read": ()}
        assert reasons(backend) == []


async def test_the_first_publication_has_what_each_kind_of_client_is_shown(autojump_clock: MockClock) -> None:
    scripted, published = ScriptedBackend(shown=varying), Published()
    async with running(scripted, published) as backend:
        await ready(backend)
        assert published.lists() == [tuple(VARYING)]
        assert needs(backend) == VARYING
        assert declared(scripted.surveys) == [object_of(one) for one in (EVERYTHING, *SINGLE)]
        assert all(link.closed for link in scripted.surveys)
        report = status_of(backend, lambda at: at)
        assert report["for_some_clients"] == 5
        assert report["counts"] == {"tools": 7, "prompts": 0, "resources": 0, "templates": 0}


async def test_never_more_than_one_session_of_a_survey_is_open(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(shown=varying)
    open_at_once: list[int] = []

    async def count(link: ScriptedLink) -> None:
        open_at_once.append(sum(1 for other in scripted.surveys if not other.closed))
        await trio.sleep(0.1)

    scripted.on_survey = count
    async with running(scripted) as backend:
        await ready(backend)
    assert open_at_once == [1] * 6


async def test_a_slow_survey_holds_up_the_first_list_for_one_limit_and_is_added_when_it_ends(
    autojump_clock: MockClock,
) -> None:
    scripted, published = ScriptedBackend(shown=varying), Published()

    async def slow(link: ScriptedLink) -> None:
        await trio.sleep(2)

    scripted.on_survey = slow
    async with running(scripted, published, timeouts=Timeouts(list_s=3.0)) as backend:
        await ready(backend)
        assert trio.current_time() == pytest.approx(3.0, abs=0.1)
        assert needs(backend) == PLAIN
        await trio.sleep(10)
        assert needs(backend) == VARYING
    assert published.lists() == [tuple(PLAIN), tuple(VARYING)]


async def hang(link: ScriptedLink) -> None:
    await trio.sleep_forever()


def failing(error: Callable[[ScriptedLink], GatewayError]) -> Callable[[ScriptedLink], object]:
    async def fail(link: ScriptedLink) -> None:
        await trio.lowlevel.checkpoint()
        raise error(link)

    return fail


@pytest.mark.parametrize(
    "on_survey, why",
    [
        pytest.param(hang, "connect limit of 5 s reached", id="hangs in initialize"),
        pytest.param(
            failing(lambda link: BackendProtocol(backend=link.backend.key, why="HTTP 400", status=400)),
            "HTTP 400",
            id="refuses a second session",
        ),
        pytest.param(
            failing(lambda link: BackendGone(backend=link.backend.key, why="reset", executed=Executed.NO)),
            "reset",
            id="dies",
        ),
    ],
)
async def test_a_survey_that_fails_is_one_problem_and_no_failure_of_the_server(
    autojump_clock: MockClock, on_survey: Callable[[ScriptedLink], object], why: str
) -> None:
    scripted = ScriptedBackend(shown=varying)
    scripted.on_survey = on_survey  # type: ignore[assignment]  # what is awaited returns nothing
    async with running(scripted) as backend:
        await ready(backend)
        assert needs(backend) == PLAIN
        (reason,) = reasons(backend)
        assert why in reason
        assert backend.supervisor.machine.failures == 0
        assert len(scripted.links) == 1
        scripted.on_survey = None
        await trio.sleep(31)  # the next reading of the lists is the next occasion
        assert needs(backend) == VARYING
        assert reasons(backend) == []


async def test_what_was_found_stands_while_later_surveys_fail(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(shown=varying)
    async with running(scripted) as backend:
        await ready(backend)
        scripted.on_survey = hang
        await trio.sleep(10)
        await scripted.shout(CHANGED)
        await trio.sleep(10)
        assert len(reasons(backend)) == 1
        assert needs(backend) == VARYING


async def test_a_list_that_a_survey_cannot_read_costs_the_findings_of_no_other(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(shown=varying, capabilities={"tools": {}, "prompts": {}})
    broken: list[str] = ["prompts"]

    async def prompts(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        capable = link.identity.capabilities != b"{}"
        some: list[JsonValue] = [{"name": name} for name in ("p", "q")[: 1 + capable]]
        return {"prompts": None if capable and "prompts" in broken else some}

    scripted.handlers["prompts/list"] = prompts
    async with running(scripted) as backend:
        await ready(backend)
        assert needs(backend) == VARYING
        assert any(reason.startswith("prompts/list: not an array") for reason in reasons(backend))
        assert prompts_of(backend) == ["p"]
        broken.clear()
        backend.supervisor.refresh()
        await trio.sleep(10)
        broken.append("prompts")
        backend.supervisor.refresh()
        await trio.sleep(60)
        assert prompts_of(backend) == ["p", "q"]  # what was found before stands
        assert needs(backend) == VARYING


async def test_a_survey_that_reads_no_list_at_all_has_failed(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def tools(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.lowlevel.checkpoint()
        return {"tools": None if link in scripted.surveys else [tool("read")]}

    scripted.handlers["tools/list"] = tools
    async with running(scripted) as backend:
        await ready(backend)
        (reason,) = reasons(backend)
        assert "was not found out" in reason
        assert "not an array" in reason


async def test_a_whole_survey_has_a_deadline(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()

    async def trickle(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if link in scripted.surveys:
            await trio.sleep(4)
            return {"tools": [], "nextCursor": f"{trio.current_time()}"}
        return {"tools": []}

    scripted.handlers["tools/list"] = trickle
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(WHOLE_S)
        assert scripted.surveys[0].closed
        assert scripted.surveys[0].cancelled == 1
        assert "limit of 30 s reached" in reasons(backend)[0]


async def test_a_survey_does_not_outlive_the_connection_or_the_backend(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(goodbye_s=1.0)
    scripted.on_survey = hang
    async with running(scripted) as backend:
        await trio.sleep(1)
        assert len(scripted.surveys) == 1
        backend.close("test")
        await backend.gone.wait()
        assert scripted.surveys[0].closed
    assert trio.current_time() == pytest.approx(2.0, abs=0.1)


# --- occasions -------------------------------------------------------------------------------------------------------


async def test_a_notice_that_changes_nothing_for_the_base_causes_a_survey(autojump_clock: MockClock) -> None:
    """Callers' sessions hear of changes that the gateway's own one is not shown."""
    scripted, published = ScriptedBackend(shown=varying), Published()
    async with running(scripted, published, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(10)
        scripted.shown = lambda granted: [*varying(granted), *([tool("more")] if "sampling" in granted else [])]
        await scripted.shout(CHANGED)
        await trio.sleep(3)
        assert needs(backend) == VARYING | {"more": (SAMPLING,)}


async def test_a_change_that_a_later_discovery_finds_causes_a_survey(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        await trio.sleep(35)
        assert len(scripted.surveys) == 1
        scripted.shown = varying
        await trio.sleep(30)
        assert needs(backend) == VARYING


async def test_a_tool_that_is_gone_for_everybody_does_not_come_back_as_one_for_some(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(shown=varying)
    async with running(scripted) as backend:
        await ready(backend)
        scripted.on_survey = hang
        scripted.shown = lambda granted: varying(granted)[:-1]
        await trio.sleep(31)
        assert "last" not in needs(backend)


async def test_a_storm_of_notices_causes_few_surveys_and_fewer_the_less_they_find(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        for _ in range(3000):
            await scripted.shout(CHANGED)
            await trio.sleep(0.1)
        begun = [at for at, method in scripted.surveyed if method == "GET"]
        gaps = [round(later - earlier) for earlier, later in pairwise(begun)]
        assert gaps[:3] == [10, 20, 40]
        assert set(gaps[3:]) == {60}


async def test_a_survey_that_makes_the_server_shout_does_not_go_round_in_circles(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(shown=varying)

    async def shout(link: ScriptedLink) -> None:
        await scripted.links[0].say(CHANGED)

    scripted.on_survey = shout
    async with running(scripted, health=HOUR) as backend:
        await ready(backend)
        await trio.sleep(600)
        assert len(scripted.surveys) <= 6 * 14


async def test_every_new_connection_is_surveyed(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend()
    async with running(scripted) as backend:
        await ready(backend)
        scripted.shown = varying
        scripted.forget_sessions()
        await trio.sleep(35)
        await ready(backend)
        assert needs(backend) == VARYING


# --- who is surveyed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scripted",
    [
        pytest.param(ScriptedBackend(sessionless=True), id="no sessions"),
        pytest.param(ScriptedBackend(era=V2026_07_28), id="2026"),
        pytest.param(ScriptedBackend(era=V2026_07_28, transport="stdio"), id="a 2026 process"),
    ],
)
async def test_who_cannot_vary_by_session_is_never_surveyed(
    autojump_clock: MockClock, scripted: ScriptedBackend
) -> None:
    async with running(scripted) as backend:
        await ready(backend)
        await scripted.shout(CHANGED)
        await trio.sleep(100)
    assert scripted.surveys == []


@pytest.mark.parametrize(
    "transport, asked_for, surveyed",
    [
        pytest.param("streamable-http", None, True, id="HTTP"),
        pytest.param("streamable-http", False, False, id="HTTP, off"),
        pytest.param("sse", None, True, id="HTTP+SSE"),
        pytest.param("sse", False, False, id="HTTP+SSE, off"),
        pytest.param("stdio", None, False, id="a process"),
        pytest.param("stdio", True, True, id="a process, on"),
    ],
)
async def test_processes_are_surveyed_only_if_asked_for_and_others_unless_told_not_to(
    autojump_clock: MockClock, transport: str, asked_for: bool | None, surveyed: bool
) -> None:
    scripted = ScriptedBackend(transport=transport, shown=varying)
    async with running(scripted, survey=asked_for) as backend:
        await ready(backend)
        await scripted.shout(CHANGED)
        await trio.sleep(100)
        assert needs(backend) == (VARYING if surveyed else PLAIN)
        assert len(scripted.links) == 1
        assert bool(scripted.surveys) is surveyed


@pytest.mark.parametrize("transport", ["stdio", "sse"])
async def test_a_pipe_is_surveyed_once_after_its_list_is_published(autojump_clock: MockClock, transport: str) -> None:
    scripted, published = ScriptedBackend(transport=transport, shown=varying), Published()
    async with running(scripted, published, survey=True) as backend:
        await ready(backend)
        assert scripted.surveys == []
        await trio.sleep(5)
        assert needs(backend) == VARYING
        await scripted.links[0].say(CHANGED)
        await trio.sleep(100)
        assert len(scripted.surveys) == 6
        scripted.links[0].die("exit status 1")
        await trio.sleep(5)
        assert len(scripted.surveys) == 12
    assert published.lists() == [tuple(PLAIN), tuple(VARYING)]


async def test_a_survey_takes_no_process_from_a_caller(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio", shown=varying)
    async with running(scripted, limits=BackendLimits(processes=1), survey=True) as backend:
        await ready(backend)
        await backend.link_for(caller("a", ASKABLE))
        await trio.sleep(5)
        assert scripted.surveys == []
        assert "limits.processes = 1" in reasons(backend)[0]
        assert backend.reach.shared_for_lack == 0


async def test_a_process_that_dies_in_its_survey_is_nobody_elses_affair(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")

    async def die(link: ScriptedLink) -> None:
        link.die("exit status 3")

    scripted.on_survey = die
    async with running(scripted, survey=True) as backend:
        await ready(backend)
        await trio.sleep(3)
        assert "exit status 3" in reasons(backend)[0]
        assert len(scripted.open_links) == 1
        assert backend.supervisor.restarts == 0


# --- what is asked meanwhile -----------------------------------------------------------------------------------------

QUESTIONS: list[tuple[str, JsonObject]] = [
    ("ping", {"result": {}}),
    ("roots/list", {"result": {"roots": []}}),
    ("elicitation/create", {"result": {"action": "cancel"}}),
    (
        "sampling/createMessage",
        {"error": {"code": REFUSED, "message": "User rejected sampling request"}},
    ),
    ("tasks/list", {"error": {"code": -32601, "message": "Method not found"}}),
]


@pytest.mark.parametrize("transport", ["streamable-http", "stdio"])
async def test_questions_on_a_surveys_session_are_answered_for_nobody(
    autojump_clock: MockClock, transport: str
) -> None:
    scripted = ScriptedBackend(transport=transport)

    async def curious(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if link in scripted.surveys:
            for number, (method, _) in enumerate(QUESTIONS):
                await link.say(question(method, b"%d" % number))
            await link.say(CHANGED)
            await hear(question("ping", b'"with the call"'))
        return {"tools": []}

    scripted.handlers["tools/list"] = curious
    async with running(scripted, health=HOUR, survey=True) as backend:
        await ready(backend)
        await trio.sleep(20)
        said = {message["id"]: message for message in map(orjson.loads, scripted.surveys[0].said)}
        for number, (_, expected) in enumerate(QUESTIONS):
            assert said[number] == {"jsonrpc": "2.0", "id": number, **expected}
        assert said["with the call"]["result"] == {}
        assert len(said) == len(QUESTIONS) + 1
        assert scripted.asked("tools/list") == 1  # what a survey hears of changes is no news


async def test_a_question_that_comes_while_the_session_is_left_is_no_failure(autojump_clock: MockClock) -> None:
    scripted = ScriptedBackend(transport="stdio")

    async def ask_too_late(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        if link in scripted.surveys:
            link.closed = True  # the pipe is closed on our side, and still brings what was said before
            await link.unattributed(question("roots/list"))
            link.closed = False
        return {"tools": [tool("read")]}

    scripted.handlers["tools/list"] = ask_too_late
    async with running(scripted, survey=True) as backend:
        await ready(backend)
        await trio.sleep(5)
        assert len(scripted.surveys) == 1
        assert reasons(backend) == []
