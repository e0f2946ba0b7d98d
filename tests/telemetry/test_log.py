"""Logging through one queue and one thread."""

import io
import logging
import threading
import time
import warnings
from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.telemetry.log import (
    QUEUE_LINES,
    TRACEBACK_CHARS,
    VALUE_CHARS,
    Drain,
    QueueHandler,
    json_line,
    plain,
    setup,
    text_line,
)
from mcp_gateway.telemetry.trace import gateway, note_request, request_id, trace_id

logger = logging.getLogger("mcp_gateway.test")


def record(message: str = "hello", **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "a.b", "levelname": "INFO", "created": 1.5, "msg": message, **extra})


def one_line(form: Callable[[logging.LogRecord], str], message: object = "hello", **extra: object) -> str:
    line = form(record(str(message), **extra))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    return line


def test_a_line_for_people() -> None:
    line = one_line(text_line, server="ns/time", duration_s=0.5, why="two words", tools=["a", "b"], none=None)
    assert line == (
        "1970-01-01T00:00:01.500Z INFO    hello server=ns/time duration_s=0.5"
        ' why="two words" tools="[\\"a\\",\\"b\\"]" none=null (a.b)\n'
    )


def test_a_line_for_machines() -> None:
    line = orjson.loads(
        one_line(json_line, server="time", level="a field of that name", context=("r1", "t1", "team/mcp"))
    )
    assert line == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "info",
        "logger": "a.b",
        "message": "hello",
        "server": "time",
        "field_level": "a field of that name",
        "request_id": "r1",
        "trace_id": "t1",
        "gateway": "team/mcp",
    }


@pytest.mark.parametrize("form", [text_line, json_line])
def test_no_value_can_forge_a_line(form: Callable[[logging.LogRecord], str]) -> None:
    line = one_line(form, message="a\nb\x1b[31m", why='x\r\n2026 INFO forged "', odd="\u2028\ud800")
    assert "\x1b" not in line


@given(st.text(), st.recursive(st.none() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
def test_anything_can_be_logged(name: str, value: object) -> None:
    for form in (text_line, json_line):
        one_line(form, value=value, more={name: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": "Bearer abcdef123456"},
        {"Authorization": "abcdef123456"},
        {"headers": {"Cookie": "abcdef123456"}},
        {"headers": [(b"mcp-session-id", b"abcdef123456")]},
        {"headers": [("x-team", "red"), ("Set-Cookie", "abcdef123456")]},
        {"MCP_Session_Id": "abcdef123456"},
        {"why": "refused: Bearer abcdef123456"},
        {"why": "header Mcp-Session-Id: abcdef123456"},
        {"why": "{'authorization': 'abcdef123456'}"},
        {"message": "GET / authorization: Basic abcdef123456=="},
        {"a": {"b": {"c": {"d": {"e": {"token": "Bearer abcdef123456"}}}}}},
        {"client_secret": "abcdef123456"},
    ],
)
@pytest.mark.parametrize("form", [text_line, json_line])
def test_secrets_are_hidden_as_the_last_line_of_defence(
    form: Callable[[logging.LogRecord], str], fields: dict[str, object]
) -> None:
    line = one_line(form, **fields)
    assert "abcdef123456" not in line
    assert "[hidden]" in line


def test_long_values_are_cut_and_say_so() -> None:
    shown = plain("x" * (VALUE_CHARS + 7))
    assert isinstance(shown, str)
    assert shown.endswith("x[7 cut]")
    many = plain(range(1000))
    assert isinstance(many, list)
    assert len(many) == 50
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    assert len(orjson.dumps(plain(deep))) < 500


def test_a_traceback_is_shown_from_its_end() -> None:
    try:
        raise ValueError("x" * TRACEBACK_CHARS + " the end")
    except ValueError as exc:
        info = (ValueError, exc, exc.__traceback__)
    line = orjson.loads(json_line(record(exc_info=info)))
    assert line["traceback"].startswith("[")
    assert line["traceback"].endswith(" the end")
    assert text_line(record(exc_info=info)).endswith(" the end\n")


def test_what_is_logged_in_the_block_is_written_when_it_ends() -> None:
    stream = io.StringIO()
    before = logging.getLogger().handlers[:]
    with setup("json", "info", stream):
        tokens = request_id.set("r9"), trace_id.set("t9")
        logger.debug("too low")
        logger.info("Discovered tools", extra={"server": "time", "tools": 3})
        request_id.reset(tokens[0])
        trace_id.reset(tokens[1])
        logging.getLogger("library").warning("%s of %d", "one", 2)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning("shown as a line", UserWarning, "f.py", 1)
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines[:2]] == ["Discovered tools", "one of 2"]
    assert (lines[0]["server"], lines[0]["tools"], lines[0]["request_id"], lines[0]["trace_id"]) == (
        "time",
        3,
        "r9",
        "t9",
    )
    assert "shown as a line" in lines[2]["message"]
    assert logging.getLogger().handlers == before


def test_an_unknown_level_is_refused_and_changes_nothing() -> None:
    before = logging.getLogger().handlers[:]
    with pytest.raises(ValueError, match="LOUD"), setup("text", "loud", io.StringIO()):
        pass
    assert logging.getLogger().handlers == before


class Slow(io.StringIO):
    """A pipe whose reader reads only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = threading.Event()

    def write(self, text: str) -> int:
        self.reads.wait()
        return super().write(text)


def test_a_reader_that_does_not_read_costs_lines_but_never_blocks() -> None:
    stream = Slow()
    with setup("text", "info", stream) as drain:
        began = time.monotonic()
        for _ in range(QUEUE_LINES + 100):
            logger.info("one of many")
        assert time.monotonic() - began < 10
        assert drain.dropped >= 99  # one is in the thread's hands
        stream.reads.set()
    lines = stream.getvalue().splitlines()
    assert len(lines) == QUEUE_LINES + 101 - drain.dropped
    assert "log lines dropped lines=" in lines[-1]


def test_a_reader_that_has_gone_is_no_error() -> None:
    stream = io.StringIO()
    with setup("text", "info", stream) as drain:
        stream.close()
        logger.info("to nobody")
    assert drain.dropped == 1


def test_a_library_with_a_bad_format_does_not_fail_its_caller() -> None:
    drain = Drain()
    QueueHandler(drain).handle(logging.LogRecord("x", logging.INFO, "f", 1, "%d things", ("many",), None))
    queued = drain.lines.get_nowait()
    assert queued is not None
    assert queued.getMessage() == "%d things (its arguments do not fit)"


def test_of_libraries_only_what_needs_a_human_is_written() -> None:
    """Their debug lines hold the heads of requests and answers."""
    stream = io.StringIO()
    with setup("text", "DEBUG", stream):
        logging.getLogger("httpcore2.http11").debug("receive_response_headers.complete")
        logging.getLogger("httpx2").info("HTTP Request: GET https://cluster/api")
        logging.getLogger("httpx2").warning("odd")
        logger.debug("ours")
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["odd", "ours"]


def test_a_gateway_may_be_spoken_of_more_or_less_than_the_rest() -> None:
    request_id.set("")
    stream = io.StringIO()
    with setup("text", "info", stream) as drain:
        drain.distinguish({"loud": "debug", "quiet": "error"}, {"behind-loud": "debug", "behind-quiet": "error"})
        for place in ("loud", "quiet", "other"):
            gateway.set(place)
            logger.debug("details at %s", place)
            logger.info("news at %s", place)
            logger.debug("of a server", extra={"backend": "behind-loud"})
            logger.error("trouble at %s", place)
        note_request({b"x-request-id": b"7"})  # the next request of the connection: nobody knows yet where it goes
        for server in ("behind-loud", "behind-quiet", "another"):
            logger.debug("details of %s", server, extra={"backend": server})
            logger.info("news of %s", server, extra={"backend": server})
        logger.info("of the process")
        drain.distinguish({}, {})
        gateway.set("loud")
        logger.debug("forgotten")
    request_id.set("")
    gateway.set(None)
    said = [line.split(" (", 1)[0].split(maxsplit=2)[2] for line in stream.getvalue().splitlines()]
    assert said == [
        "details at loud gateway=loud",
        "news at loud gateway=loud",
        "of a server backend=behind-loud gateway=loud",
        "trouble at loud gateway=loud",
        "trouble at quiet gateway=quiet",
        "news at other gateway=other",
        "trouble at other gateway=other",
        "details of behind-loud backend=behind-loud request_id=7",
        "news of behind-loud backend=behind-loud request_id=7",
        "news of another backend=another request_id=7",
        "of the process request_id=7",
    ]


def test_a_level_of_its_own_changes_nothing_of_the_lines_of_libraries() -> None:
    stream = io.StringIO()
    with setup("text", "info", stream) as drain:
        drain.distinguish({"loud": "debug"}, {})
        gateway.set("loud")
        logging.getLogger("library").info("chatter")
        logging.getLogger("library").warning("trouble")
    gateway.set(None)
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["trouble"]
