"""A filter of tools is obeyed as it was meant, or refuses its server; it is never ignored."""

import json

import pytest

from mcp_gateway.config.file import read_spec
from mcp_gateway.config.spec import GatewaySpec, ItemFilter
from mcp_gateway.errors import ConfigError
from mcp_gateway.routing.names import passes
from mcp_gateway.values import JsonObject, JsonValue


def read(settings: JsonObject) -> GatewaySpec:
    return read_spec(json.dumps(settings, indent=1), "mcp.json", {}, lambda name: b"")


def filter_of(entry: JsonObject) -> ItemFilter:
    return read({"mcpServers": {"a": {"command": "x", **entry}}}).servers[0].tools


def shown(entry: JsonObject) -> list[str]:
    chosen = filter_of(entry)
    return [name for name in ("get_time", "set_time", "delete") if passes(name, chosen)]


@pytest.mark.parametrize(
    "entry, names",
    [
        pytest.param({}, ["get_time", "set_time", "delete"], id="no filter"),
        pytest.param({"tools": {"exclude": ["delete"]}}, ["get_time", "set_time"], id="ours"),
        pytest.param({"tools": ["*"]}, ["get_time", "set_time", "delete"], id="Copilot: all"),
        pytest.param({"tools": ["get_time"]}, ["get_time"], id="Copilot: some"),
        pytest.param({"tools": []}, [], id="an empty list shows none"),
        pytest.param({"includeTools": ["get_time", "delete"]}, ["get_time", "delete"], id="includeTools"),
        pytest.param({"include_tools": ["delete"]}, ["delete"], id="include_tools"),
        pytest.param({"includeTools": []}, [], id="an empty includeTools"),
        pytest.param({"excludeTools": ["delete"]}, ["get_time", "set_time"], id="excludeTools"),
        pytest.param({"exclude_tools": ["delete"]}, ["get_time", "set_time"], id="exclude_tools"),
        pytest.param({"enabledTools": ["set_time"]}, ["set_time"], id="enabledTools"),
        pytest.param({"enabled_tools": ["set_time"]}, ["set_time"], id="enabled_tools"),
        pytest.param({"disabledTools": ["set_time"]}, ["get_time", "delete"], id="disabledTools"),
        pytest.param({"disabled_tools": ["set_time"]}, ["get_time", "delete"], id="disabled_tools"),
        pytest.param({"disabledTools": []}, ["get_time", "set_time", "delete"], id="nothing disabled"),
        pytest.param({"allowedTools": ["get_time"]}, ["get_time"], id="allowedTools"),
        pytest.param({"allowed_tools": ["get_time"]}, ["get_time"], id="allowed_tools"),
        pytest.param(
            {"includeTools": ["get_time", "delete"], "excludeTools": ["delete"], "disabledTools": ["x"]},
            ["get_time"],
            id="hiding goes before showing",
        ),
        pytest.param(
            {"tools": {"include": ["*_time"]}, "excludeTools": ["set_time"]}, ["get_time"], id="ours and another's"
        ),
        pytest.param(
            {"autoApprove": ["get_time"], "alwaysAllow": ["x"], "trust": True},
            ["get_time", "set_time", "delete"],
            id="what decides when a user is asked is no filter",
        ),
    ],
)
def test_a_filter_is_obeyed(entry: JsonObject, names: list[str]) -> None:
    assert shown(entry) == names


NOT_UNDERSTOOD = "a filter of tools that is not understood; write tools: {include: [...], exclude: [...]}"


@pytest.mark.parametrize(
    "key, value, what",
    [
        pytest.param(key, ["x"], NOT_UNDERSTOOD, id=key)
        for key in (
            "toolFilter", "tool_filter", "toolsAllowed", "blockedTools", "denyTools", "toolDenylist", "denied_tools",
            "enableTools", "disable-tools", "INCLUDETOOLS", "excludedTools", "available_tools", "hiddenTools",
            "toolWhitelist", "alwaysAllowTools", "tool.filters",
        )
    ]
    + [
        pytest.param("includeTools", "get_time", "must be a list, not text", id="text"),
        pytest.param("excludeTools", {"delete": True}, "must be a list, not a mapping", id="mapping"),
        pytest.param("disabledTools", None, "must be a list, not nothing", id="nothing"),
        pytest.param("tools", "*", "must be a mapping, not text", id="tools as text"),
    ],
)  # fmt: skip  # a table
def test_a_filter_that_is_not_understood_refuses_its_server(key: str, value: JsonValue, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        filter_of({key: value})
    assert [(mistake.path, mistake.line, mistake.what) for mistake in refused.value.mistakes] == [
        (f"mcpServers.a.{key}", 5, what)
    ]


@pytest.mark.parametrize(
    "entry, at, what",
    [
        ({"includeTools": ["run(ls)"]}, "includeTools[0]", "names arguments too"),
        ({"disabledTools": ["mcp__a__delete"]}, "disabledTools[0]", "must be the server's own name of a tool"),
        ({"excludeTools": [""]}, "excludeTools[0]", "must not be empty"),
        ({"excludeTools": [{"name": "delete"}]}, "excludeTools[0]", "must be text, not a mapping"),
        ({"tools": {"delete": False}}, "tools.delete", "unknown key"),
        ({"tools": ["a"], "includeTools": ["b"]}, "includeTools", "tools and includeTools are two ways"),
        ({"enabledTools": ["a"], "enabled_tools": ["b"]}, "enabled_tools", "enabledTools and enabled_tools are two"),
    ],
)
def test_a_filter_that_is_understood_in_part_refuses_its_server(entry: JsonObject, at: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        filter_of(entry)
    (mistake,) = refused.value.mistakes
    assert mistake.path == f"mcpServers.a.{at}"
    assert mistake.what.startswith(what)


# --- filters of whole files ----------------------------------------------------------------------------------------


def running(mcp: JsonValue) -> list[str]:
    servers: JsonObject = {name: {"command": "x"} for name in ("GitHub (work)", "time", "files")}
    return [server.key for server in read({"mcp": mcp, "mcpServers": servers}).servers if server.enabled]


@pytest.mark.parametrize(
    "mcp, names",
    [
        pytest.param({}, ["github-work", "time", "files"], id="no filter"),
        pytest.param({"allowed": ["time", "GitHub (work)"]}, ["github-work", "time"], id="allowed"),
        pytest.param({"allowed": []}, [], id="none is allowed"),
        pytest.param({"excluded": ["time", "elsewhere"]}, ["github-work", "files"], id="excluded"),
        pytest.param(
            {"allowed": ["time", "files"], "excluded": ["time"]}, ["files"], id="excluded goes before allowed"
        ),
    ],
)
def test_the_servers_that_a_file_excludes_are_disabled(mcp: JsonValue, names: list[str]) -> None:
    assert running(mcp) == names


@pytest.mark.parametrize(
    "top, at, what",
    [
        ({"mcp": {"allowed": "time"}}, "mcp.allowed", "must be a list, not text"),
        ({"mcp": {"serverCommand": "x"}}, "mcp.serverCommand", "unknown key"),
        ({"mcp": ["time"]}, "mcp", "must be a mapping, not a list"),
        ({"allowMCPServers": ["time"]}, "allowMCPServers", "unknown key"),
        ({"excludeTools": ["x"]}, "excludeTools", "unknown key"),
        ({"disabledMcpjsonServers": ["x"]}, "disabledMcpjsonServers", "unknown key"),
    ],
)
def test_a_filter_of_the_file_that_is_not_understood_refuses_the_file(top: JsonObject, at: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read({**top, "mcpServers": {"time": {"command": "x"}}})
    assert refused.value.mistakes[0].path == at
    assert refused.value.mistakes[0].what.startswith(what)


@pytest.mark.parametrize(
    "entry, enabled",
    [
        ({}, True),
        ({"enabled": True, "disabled": False, "state": "enabled"}, True),
        ({"enabled": False}, False),
        ({"disabled": True}, False),
        ({"state": "disabled", "disabled": False}, False),
        ({"enabled": False, "disabled": False}, False),
        ({"enabled": True, "disabled": True}, False),
    ],
)
def test_a_server_runs_only_if_nothing_in_its_entry_says_otherwise(entry: JsonObject, enabled: bool) -> None:
    (server,) = read({"mcpServers": {"a": {"command": "x", **entry}}}).servers
    assert server.enabled is enabled
