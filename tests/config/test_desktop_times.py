"""The times of desktop clients: each with its own unit, and none is taken for what it is not."""

import json

import pytest

from mcp_gateway.config.file import read_with_notes
from mcp_gateway.config.spec import Timeouts
from mcp_gateway.errors import ConfigError
from mcp_gateway.values import JsonObject, JsonValue

UNKNOWN = (
    "is ignored: nothing says whether it means seconds or milliseconds; "
    "write timeouts: {call: 60s} for the limit of a call"
)
NO_TIME = "is ignored: it is no time; write timeouts: {call: 60s} for the limit of a call"


def read(entry: JsonObject) -> tuple[Timeouts, list[tuple[str, int | None, str]]]:
    text = json.dumps({"mcpServers": {"a": {"command": "x"} | entry}}, indent=1)
    spec, notes = read_with_notes(text, "mcp.json", {}, lambda name: b"")
    return spec.servers[0].timeouts, [(note.path, note.line, note.what) for note in notes]


@pytest.mark.parametrize(
    "entry, timeouts",
    [
        pytest.param({}, Timeouts(), id="none"),
        pytest.param({"startup_timeout_sec": 120}, Timeouts(start_s=120.0), id="Codex: start"),
        pytest.param({"startup_timeout_sec": 7.5}, Timeouts(start_s=7.5), id="Codex: a part of a second"),
        pytest.param({"startup_timeout_ms": 20_000}, Timeouts(start_s=20.0), id="Codex: start in milliseconds"),
        pytest.param({"tool_timeout_sec": 90}, Timeouts(call_s=90.0), id="Codex: call"),
        pytest.param({"initTimeout": 90_000}, Timeouts(start_s=90.0), id="LibreChat: start"),
        pytest.param(
            {"initTimeout": 90_000, "timeout": 30_000}, Timeouts(start_s=90.0, call_s=30.0), id="LibreChat: both"
        ),
        pytest.param({"trust": False, "timeout": 30_000}, Timeouts(call_s=30.0), id="Gemini"),
        pytest.param({"excludeTools": [], "trust": True, "timeout": 30_000}, Timeouts(call_s=30.0), id="Gemini twice"),
        pytest.param({"alwaysAllow": [], "timeout": 30}, Timeouts(call_s=30.0), id="Roo Code"),
        pytest.param({"timeout": "90s"}, Timeouts(call_s=90.0), id="its unit stands behind it"),
        pytest.param({"tool_timeout_sec": 1800}, Timeouts(call_s=1800.0, max_s=1800.0), id="longer than any call"),
        pytest.param(
            {"startup_timeout_sec": 120, "tool_timeout_sec": 90, "timeouts": {"call": "5s"}},
            Timeouts(start_s=120.0, call_s=5.0),
            id="our own words go first",
        ),
    ],
)
def test_a_time_with_a_known_unit_is_taken(entry: JsonObject, timeouts: Timeouts) -> None:
    assert read(entry) == (timeouts, [])


@pytest.mark.parametrize(
    "entry, what",
    [
        pytest.param({"timeout": 60}, UNKNOWN, id="seconds or milliseconds"),
        pytest.param({"timeout": 60_000}, UNKNOWN, id="a large number proves nothing"),
        pytest.param({"timeout": "60"}, UNKNOWN, id="text without a unit"),
        pytest.param({"timeout": None}, UNKNOWN, id="nothing"),
        pytest.param({"timeout": 60, "autoApprove": []}, UNKNOWN, id="two clients write this"),
        pytest.param({"timeout": 60, "alwaysAllow": [], "trust": True}, UNKNOWN, id="two clients at once"),
        pytest.param({"timeout": 0, "trust": True}, NO_TIME, id="no time at all"),
        pytest.param({"timeout": True, "trust": True}, NO_TIME, id="no number"),
        pytest.param({"timeout": 1e300, "trust": True}, NO_TIME, id="for ever"),
    ],
)
def test_any_other_timeout_is_ignored_with_a_note(entry: JsonObject, what: str) -> None:
    assert read(entry) == (Timeouts(), [("mcpServers.a.timeout", 5, what)])


@pytest.mark.parametrize(
    "key, value, what",
    [
        ("startup_timeout_sec", "120", "must be a number of seconds above 0"),
        ("startup_timeout_sec", 0, "must be a number of seconds above 0"),
        ("initTimeout", -1, "must be a number of milliseconds above 0"),
        ("initTimeout", True, "must be a number of milliseconds above 0"),
        ("tool_timeout_sec", None, "must be a number of seconds above 0"),
    ],
)
def test_a_time_that_is_none_is_a_mistake(key: str, value: JsonValue, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read({key: value})
    (mistake,) = refused.value.mistakes
    assert (mistake.path, mistake.line) == (f"mcpServers.a.{key}", 5)
    assert mistake.what.startswith(what)


def test_a_file_of_gemini_tells_the_unit_of_all_its_entries() -> None:
    servers: JsonObject = {
        "a": {"command": "x", "timeout": 30_000},
        "b": {"command": "x", "alwaysAllow": [], "timeout": 9},
    }
    text = json.dumps({"mcp": {"excluded": []}, "mcpServers": servers})
    spec, notes = read_with_notes(text, "settings.json", {}, lambda name: b"")
    assert [server.timeouts for server in spec.servers] == [Timeouts(call_s=30.0), Timeouts()]
    assert [note.path for note in notes] == ["mcpServers.b.timeout"]


def test_two_times_for_one_thing_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="startup_timeout_sec and startup_timeout_ms are two ways"):
        read({"startup_timeout_sec": 1, "startup_timeout_ms": 1000})
