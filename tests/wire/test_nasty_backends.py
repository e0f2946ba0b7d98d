"""One nasty server among ten: the other nine, and those who use them, notice nothing; and the gateway tells the truth.

Proves invariants 7 and 10 on real sockets, over HTTP; processes are in ``test_nasty_processes``.
"""

from typing import Final

import pytest
import trio

from tests.support import nasty, restless
from tests.support.bystanders import among_nine, initialized, nine_and, nobody_notices, said, status_of, until_state
from tests.support.nasty import Misdeed, always, calls
from tests.support.raw_client import Message
from tests.support.raw_http import RawConnection, serve_raw

pytestmark = [pytest.mark.wire, pytest.mark.brisk]

PROTOCOL: Final = {"reason": "backend_protocol", "executed": "unknown"}
GONE: Final = {"reason": "backend_gone", "executed": "unknown"}
LATE: Final = {"reason": "backend_timeout", "executed": "unknown", "limit": "call"}
BODY: Final = {"reason": "too_large", "executed": "unknown", "limit": "limits.responseBytes"}
EVENT: Final = {"reason": "too_large", "executed": "unknown", "limit": "limits.eventBytes"}
BUSY: Final = {"reason": "backend_busy", "executed": "no", "retryAfterMs": 7000}
AUTH: Final = {"reason": "backend_auth", "executed": "no"}

MISDEEDS: Final = [
    pytest.param(nasty.never_answers, LATE, "did not answer", id="never answers"),
    pytest.param(nasty.one_byte_a_second, LATE, "did not answer", id="one byte a second"),
    pytest.param(nasty.a_head_byte_by_byte, LATE, "did not answer", id="a head byte by byte"),
    pytest.param(nasty.dies_mid_answer, GONE, "the connection was", id="dies mid-answer"),
    pytest.param(nasty.dies_before_the_answer, GONE, "the connection was", id="dies before the answer"),
    pytest.param(nasty.a_hundred_megabytes, BODY, "limits.responseBytes = 1048576", id="100 MB"),
    pytest.param(nasty.a_hundred_megabytes_unannounced, BODY, "limits.responseBytes = 1048576", id="100 MB in chunks"),
    pytest.param(nasty.an_endless_head, PROTOCOL, "65536 bytes", id="an endless head"),
    pytest.param(nasty.a_line_of_64_mib, EVENT, "limits.eventBytes = 1048576", id="a line of 64 MiB"),
    pytest.param(nasty.an_endless_event, EVENT, "limits.eventBytes = 1048576", id="an endless event"),
    pytest.param(nasty.events_without_end, LATE, "did not answer", id="events without end"),
    pytest.param(nasty.comments_without_end, LATE, "did not answer", id="comments without end"),
    pytest.param(nasty.a_stream_without_the_answer, PROTOCOL, "the answer", id="a stream without the answer"),
    pytest.param(nasty.half_a_message, PROTOCOL, "not JSON-RPC", id="half a message"),
    pytest.param(nasty.not_json, PROTOCOL, "not JSON-RPC", id="not JSON"),
    pytest.param(nasty.an_array, PROTOCOL, "not JSON-RPC", id="an array"),
    pytest.param(nasty.a_wrong_id, PROTOCOL, "another id", id="a wrong id"),
    pytest.param(nasty.a_text_id, PROTOCOL, "another id", id="a text id"),
    pytest.param(nasty.no_id, PROTOCOL, "without an id", id="no id"),
    pytest.param(nasty.two_ids, PROTOCOL, "not JSON-RPC", id="two ids"),
    pytest.param(nasty.html, PROTOCOL, "with text/html", id="HTML with 200"),
    pytest.param(nasty.zipped, PROTOCOL, "a content coding", id="gzip"),
    pytest.param(nasty.zipped_in_secret, PROTOCOL, "not JSON-RPC", id="gzip that is not declared"),
    pytest.param(nasty.unauthorized, AUTH, "credential (HTTP 401)", id="401"),
    pytest.param(nasty.too_many, BUSY, "busy (HTTP 429)", id="429"),
    pytest.param(nasty.unavailable, BUSY, "busy (HTTP 503)", id="503"),
    pytest.param(nasty.broken, PROTOCOL, "HTTP 500", id="500"),
]


@pytest.mark.parametrize("misdeed, expected, why", MISDEEDS)
async def test_a_call_of_a_nasty_server_gets_the_precise_error_and_nobody_else_notices(
    misdeed: Misdeed, expected: Message, why: str
) -> None:
    async with among_nine(misdeed, calls) as running, initialized(running) as client:
        answers: dict[str, Message] = {}

        async def call(name: str) -> None:
            answers[name] = await client.call(f"{name}_echo", {"x": 1})

        with trio.fail_after(5.0):  # the call's own 0.5 s, and 2 s for telling a server that does not listen
            async with trio.open_nursery() as nursery:
                for name in ("old", "new"):
                    nursery.start_soon(call, name)
                await nobody_notices(running, {"old_echo", "new_echo"})
        for name, answer in answers.items():
            assert answer["error"]["data"] == {"server": name, **expected}
        await nobody_notices(running, {"old_echo", "new_echo"})


@pytest.mark.parametrize("misdeed, expected, why", MISDEEDS)
async def test_a_server_that_is_nasty_from_the_start_is_down_with_the_reason_and_nobody_else_notices(
    misdeed: Misdeed, expected: Message, why: str
) -> None:
    async with among_nine(misdeed, always, names=["bad"], failures=1) as running:
        await nobody_notices(running, set())
        told = await status_of(running, "bad")
        assert told["state"] == "down"
        assert told["circuit"] == "open"
        assert why in said(told)
        await nobody_notices(running, set())


# --- answers that are merely strange ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "misdeed",
    [
        pytest.param(nasty.the_answer_twice, id="the answer twice"),
        pytest.param(nasty.two_responses, id="two responses for one request"),
        pytest.param(nasty.closes_at_once, id="closes idle connections at once"),
    ],
)
async def test_what_is_only_strange_gives_right_answers_every_time(misdeed: Misdeed) -> None:
    async with among_nine(misdeed, calls) as running, initialized(running) as client:
        for number in range(10):
            for name in ("old", "new"):
                answer = await client.call(f"{name}_echo", {"x": number})
                text = answer["result"]["content"][0]["text"]
                assert text in {"hello", f"{name}:{number}"}
        await nobody_notices(running, {"old_echo", "new_echo"})


async def test_a_redirect_is_refused_and_the_other_host_never_hears_of_it() -> None:
    async def never(connection: RawConnection) -> None:
        raise AssertionError("the redirect was followed")

    async with serve_raw(never) as other:
        async with among_nine(nasty.redirect_to(other.url), calls) as running, initialized(running) as client:
            for name in ("old", "new"):
                answer = await client.call(f"{name}_echo")
                assert answer["error"]["data"] == {"server": name, **PROTOCOL}
                assert other.url not in answer["error"]["message"]
            await nobody_notices(running, {"old_echo", "new_echo"})
        async with among_nine(nasty.redirect_to(other.url), always, names=["bad"], failures=1) as running:
            assert "redirect" in said(await status_of(running, "bad"))
            await nobody_notices(running, set())
        assert other.connections == 0


# --- connections -----------------------------------------------------------------------------------------------------


async def test_a_server_that_refuses_connections_is_down_with_the_reason() -> None:
    async with serve_raw(refuses) as closed:
        url = closed.url
    async with nine_and([{"name": "bad", "url": url, **nasty.QUICK, "health": {"failures": 1}}]) as running:
        await nobody_notices(running, set())
        told = await status_of(running, "bad")
        assert told["state"] == "down"
        assert "Connection refused" in said(told)
        assert told["next_try_unix_s"] is not None


async def refuses(connection: RawConnection) -> None:
    """Never reached."""


async def test_a_server_that_goes_away_says_so_at_once_and_keeps_its_names_for_its_grace() -> None:
    async with trio.open_nursery() as nursery:
        entry = await nursery.start(restless.until_told, "bad")
        async with nine_and([{**entry.entry, "health": {"interval": "1s", "failures": 2}}]) as running:
            async with initialized(running) as client:
                assert "result" in await client.call("bad_echo")
                entry.leave.set()
                await entry.left.wait()
                answer = await client.call("bad_echo")
                assert answer["error"]["data"] == {"server": "bad", "reason": "backend_gone", "executed": "no"}
                await nobody_notices(running, {"bad_echo"})
                await until_state(running, "bad", "down")  # the probes fail too
                assert "Connection refused" in said(await status_of(running, "bad"))
                answer = await client.call("bad_echo")
                assert answer["error"]["data"].items() >= {"reason": "backend_down", "executed": "no"}.items()
                assert 0 <= answer["error"]["data"].get("retryAfterMs", 0) <= 30_000
                await nobody_notices(running, {"bad_echo"})


async def test_a_server_that_flaps_every_second_costs_the_others_nothing_and_nobody_a_storm() -> None:
    async with restless.flapping("flap", 1.0) as entry, nine_and([entry]) as running, initialized(running) as client:
        stream = await client.stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.all)
            outcomes = set()
            began_at = trio.current_time()
            while trio.current_time() < began_at + 3.0:
                await nobody_notices(running, {"flap_echo"})
                answer = await client.call("flap_echo", {"x": 1})
                outcomes.add(answer["error"]["data"]["reason"] if "error" in answer else "ok")
                assert (await status_of(running, "flap"))["state"] in {"ready", "degraded", "down"}
                await trio.sleep(0.1)  # three periods of real time
            nursery.cancel_scope.cancel("seen enough")
        assert {"ok"} < outcomes <= {"ok", "backend_gone", "backend_down"}
        assert [each for each in stream.events if each.get("data")] == []  # the list never changed


async def test_a_hundred_hanging_calls_of_one_server_keep_nobody_else_waiting() -> None:
    limits = {"concurrency": 8, "responseBytes": "1MiB", "eventBytes": "1MiB"}
    async with among_nine(nasty.never_answers, calls, limits=limits) as running, initialized(running) as client:
        answers: list[Message] = []

        async def call(name: str) -> None:
            answers.append(await client.call(f"{name}_echo"))

        async with trio.open_nursery() as nursery:
            for name in ("old", "new") * 50:
                nursery.start_soon(call, name)
            for _ in range(3):
                await nobody_notices(running, {"old_echo", "new_echo"})
        told = [answer["error"]["data"] for answer in answers]
        assert {each["reason"] for each in told} == {"backend_timeout"}
        assert {(each["limit"], each["executed"]) for each in told} == {("call", "unknown"), ("queue", "no")}
        for name in ("old", "new"):
            assert (await status_of(running, name))["in_flight"] == 0
