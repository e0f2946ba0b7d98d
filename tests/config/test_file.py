"""Good configurations become specs; files are read with all that they name."""

import json
from pathlib import Path

import attrs
import pytest

from mcp_gateway.config.file import MAX_FILE_BYTES, fingerprint, load, load_with_sources, read_spec
from mcp_gateway.config.spec import (
    BackendLimits,
    DrainSpec,
    GatewayEntry,
    GatewayLimits,
    GatewaySpec,
    HealthSpec,
    HttpSpec,
    HttpTarget,
    ItemFilter,
    ServerSpec,
    SessionsSpec,
    StdioTarget,
    Timeouts,
    TlsSpec,
    TransportKind,
    VirtualServerSpec,
)
from mcp_gateway.errors import ConfigError
from mcp_gateway.values import BackendKey, GatewayName

EVERYTHING = """\
servers:
  - name: time
    url: http://127.0.0.1:9001/mcp?key=1
    transport: streamable-http
    protocol: 2025-11-25
    prefix: t_
    state: disabled
    headers: {X-Team: red, X-Key: {env: TOKEN}}
    forwardHeaders: [X-Request-Id]
    credential: {env: TOKEN}
    tls: {insecureSkipVerify: true, serverName: time.example.com}
    connect: 10.96.3.7
    proxy: http://user:secret@proxy:3128
    tools: {include: ["get_*"], exclude: [get_secret]}
    survey: off
    timeouts: {connect: 1s, start: 90s, call: 2m, input: 1h, max: 2h, list: 500ms}
    limits: {concurrency: 1, responseBytes: 1MiB, eventBytes: 1024, upstreamSessions: 2, processes: 3}
    health: {interval: 10s, failures: 5, graceWhenDown: 0s}
    tags: [a, b]
    category: [c]
    hint: what time it is
    instructions: none
  - name: team-a/files
    command: [npx, -y, server-files, 8]
    env: {DEBUG: 1, TOKEN: {env: TOKEN}}
    cwd: /tmp
    toolPrefix: ""
virtualServers:
  - {name: finance, tools: [t_get_time], prompts: [anything], resources: ["file:///x"]}
gateways:
  - name: mcp-test/mcp-extension
    hosts: [MCP.example.com, "*.mcp.local", 10.0.0.1, "[::1]"]
    servers: [time]
    virtualServers: [finance]
    logLevel: warn
  - {name: rest, logLevel: debug}
sessions: {lifetime: 12h, idle: 10m, signingKeys: [{env: KEY}, {value: an older key of 24 by}], store: memory}
http:
  allowedHosts: ["*", a.example.com, "a.example.com:8443", "[::1]:80", "*.b.example.com"]
  allowedOrigins: ["*", "https://app.example.com", "http://*.example.com:8080"]
  publicUrl: https://mcp.example.com/
  keepAlive: 5s
drain: {settle: 5s, grace: 0}
instructions: be kind
limits:
  bodyBytes: 1MiB
  connections: 1
  sessions: 2
  streamsPerSession: 3
  inFlight: 4
  replayBytes: 1KiB
  replayTotal: 2KiB
  replayAge: 1m
"""
ENVIRON = {"TOKEN": "Bearer hunter2", "KEY": "0123456789abcdef"}

TIME = ServerSpec(
    key=BackendKey("time"),
    target=HttpTarget(
        url="http://127.0.0.1:9001/mcp?key=1",
        connect="10.96.3.7",
        proxy="http://user:secret@proxy:3128",
        tls=TlsSpec(insecure_skip_verify=True, server_name="time.example.com"),
        headers=(("X-Team", "red"), ("X-Key", "Bearer hunter2")),
        forward_headers=("x-request-id",),
        credential="Bearer hunter2",
    ),
    transport=TransportKind.STREAMABLE_HTTP,
    protocol="2025-11-25",
    prefix="t_",
    enabled=False,
    tools=ItemFilter(include=("get_*",), exclude=("get_secret",)),
    survey=False,
    timeouts=Timeouts(connect_s=1.0, start_s=90.0, call_s=120.0, input_s=3600.0, max_s=7200.0, list_s=0.5),
    limits=BackendLimits(concurrency=1, response_bytes=2**20, event_bytes=1024, upstream_sessions=2, processes=3),
    health=HealthSpec(interval_s=10.0, failures=5, grace_when_down_s=0.0),
    tags=("a", "b"),
    category=("c",),
    hint="what time it is",
    own_instructions=False,
)
FILES = ServerSpec(
    key=BackendKey("team-a/files"),
    target=StdioTarget(
        command=("npx", "-y", "server-files", "8"),
        env=(("DEBUG", "1"), ("TOKEN", "Bearer hunter2")),
        cwd="/tmp",
    ),
    transport=TransportKind.STDIO,
    prefix="",
)
SPEC = GatewaySpec(
    servers=(TIME, FILES),
    virtual_servers=(
        VirtualServerSpec(name="finance", tools=("t_get_time",), prompts=("anything",), resources=("file:///x",)),
    ),
    gateways=(
        GatewayEntry(
            name=GatewayName("mcp-test/mcp-extension"),
            hosts=("mcp.example.com", "*.mcp.local", "10.0.0.1", "[::1]"),
            servers=(BackendKey("time"),),
            virtual_servers=("finance",),
            log_level="warning",
        ),
        GatewayEntry(name=GatewayName("rest"), log_level="debug"),
    ),
    sessions=SessionsSpec(
        lifetime_s=12 * 3600.0, idle_s=600.0, signing_keys=(b"0123456789abcdef", b"an older key of 24 by")
    ),
    http=HttpSpec(
        allowed_hosts=("*", "a.example.com", "a.example.com:8443", "[::1]:80", "*.b.example.com"),
        allowed_origins=("*", "https://app.example.com", "http://*.example.com:8080"),
        public_url="https://mcp.example.com",
        keep_alive_s=5.0,
    ),
    drain=DrainSpec(settle_s=5.0, grace_s=0.0),
    limits=GatewayLimits(
        body_bytes=2**20,
        connections=1,
        sessions=2,
        streams_per_session=3,
        in_flight=4,
        replay_bytes=1024,
        replay_total_bytes=2048,
        replay_age_s=60.0,
    ),
    instructions="be kind",
)


def no_files(path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


def read(text: str) -> GatewaySpec:
    return read_spec(text, "gateway.yaml", ENVIRON, no_files)


def test_every_setting_reaches_the_spec() -> None:
    assert read(EVERYTHING) == SPEC


def test_secrets_do_not_show_in_the_repr() -> None:
    assert "hunter2" not in repr(read(EVERYTHING))
    assert "0123456789abcdef" not in repr(read(EVERYTHING))


def test_what_is_left_out_has_its_default() -> None:
    spec = read("servers:\n  - {name: time, url: http://127.0.0.1:9001/mcp}\n")
    target = HttpTarget(url="http://127.0.0.1:9001/mcp")
    assert spec == GatewaySpec(servers=(ServerSpec(key=BackendKey("time"), target=target, prefix="time_"),))


@pytest.mark.parametrize(
    "text, survey", [("on", True), ("off", False), ("true", True), ("false", False), ("'on'", True)]
)
def test_a_survey_is_switched_in_the_words_of_either_language(text: str, survey: bool) -> None:
    (server,) = read(f"servers: [{{name: a, command: [x], survey: {text}}}]").servers
    assert server.survey is survey


def test_the_default_prefix_has_no_slash() -> None:
    assert read("servers: [{name: team-a/time, url: 'http://a'}]").servers[0].prefix == "team-a_time_"


def test_no_servers_is_a_configuration_too() -> None:
    assert read("servers: []") == GatewaySpec()
    assert read('{"mcpServers": {}}') == GatewaySpec()


def test_equal_prefixes_in_different_gateways_and_empty_ones_are_no_clash() -> None:
    spec = read(
        "servers:\n"
        "  - {name: a, url: 'http://a', prefix: x}\n"
        "  - {name: b, url: 'http://b', prefix: x}\n"
        "  - {name: c, url: 'http://c', prefix: ''}\n"
        "  - {name: d, url: 'http://d', prefix: ''}\n"
        "gateways: [{name: one, servers: [a, c, d]}, {name: two, servers: [b]}]\n"
    )
    assert [server.prefix for server in spec.servers] == ["x", "x", "", ""]


def test_json_and_yaml_give_the_same_spec() -> None:
    settings = {"servers": [{"name": "time", "url": "http://a", "timeouts": {"call": "5s"}}], "drain": {"grace": "1s"}}
    yaml = "servers: [{name: time, url: 'http://a', timeouts: {call: 5s}}]\ndrain: {grace: 1s}\n"
    assert read(json.dumps(settings, indent="\t")) == read(yaml)


def test_the_file_of_a_desktop_client_is_accepted_as_it_is() -> None:
    spec = read(
        json.dumps(
            {
                "globalShortcut": "",
                "mcpServers": {
                    "GitHub (work)": {
                        "type": "stdio",
                        "command": "npx",
                        "args": ["-y", "server-github", "${LEFT_ALONE}"],
                        "env": {"TOKEN": "${TOKEN}", "HOST": "${HOST:-example.com}"},
                        "timeout": 60,
                        "autoApprove": ["x"],
                        "somethingNew": {},
                    },
                    "remote": {
                        "type": "http",
                        "url": "https://${HOST:-example.com}/mcp",
                        "headers": {"authorization": "${env:TOKEN}", "Accept": "*/*", "X-Team": "red"},
                        "env": {},
                        "disabled": True,
                    },
                    "old": {"type": "sse", "url": "http://a/sse"},
                    "program": {"command": ["uvx", "x"]},
                },
            }
        )
    )
    github, remote, old, program = spec.servers
    assert github == ServerSpec(
        key=BackendKey("github-work"),
        target=StdioTarget(
            command=("npx", "-y", "server-github", "${LEFT_ALONE}"),
            env=(("TOKEN", "Bearer hunter2"), ("HOST", "example.com")),
        ),
        transport=TransportKind.STDIO,
        prefix="github-work_",
    )
    assert remote == ServerSpec(
        key=BackendKey("remote"),
        target=HttpTarget(url="https://example.com/mcp", headers=(("X-Team", "red"),), credential="Bearer hunter2"),
        prefix="remote_",
        enabled=False,
    )
    assert old.transport is TransportKind.SSE
    assert program.target == StdioTarget(command=("uvx", "x"))


def test_secret_files_are_found_beside_the_configuration_and_watched(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"Bearer hunter2\r\n")
    config = tmp_path / "gateway.yaml"
    config.write_text("servers: [{name: a, url: 'https://a', credential: {file: token}}]")
    loaded = load_with_sources(config, {})
    target = loaded.spec.servers[0].target
    assert isinstance(target, HttpTarget)
    assert target.credential == "Bearer hunter2"
    assert loaded.sources == (config, tmp_path / "token")
    assert fingerprint(loaded.sources) == loaded.fingerprint


def test_a_changed_secret_changes_the_fingerprint_and_the_spec(tmp_path: Path) -> None:
    config, token = tmp_path / "gateway.yaml", tmp_path / "token"
    token.write_bytes(b"one")
    config.write_text(f"servers: [{{name: a, url: 'https://a', credential: {{file: {token}}}}}]")
    before = load_with_sources(config, {})
    token.write_bytes(b"two")
    assert fingerprint(before.sources) != before.fingerprint
    assert load(config, {}) != before.spec


def test_a_missing_secret_is_watched_too(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("servers: [{name: a, url: 'https://a', credential: {file: token}}]")
    loaded = load_with_sources(config, {})
    with pytest.raises(ConfigError, match="cannot read file token"):
        _ = loaded.spec
    (tmp_path / "token").write_text("x")
    assert fingerprint(loaded.sources) != loaded.fingerprint


@pytest.mark.parametrize(
    "content, what",
    [
        pytest.param(None, "cannot read the file: No such file or directory", id="missing"),
        pytest.param(b"a: \xff", "the file is not UTF-8 text", id="not text"),
        pytest.param(b"#" * (MAX_FILE_BYTES + 1), "cannot read the file: larger than 1 MiB", id="too large"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, content: bytes | None, what: str) -> None:
    config = tmp_path / "gateway.yaml"
    if content is not None:
        config.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load(config, {})
    assert str(refused.value) == f"{config}: (top level): {what}"


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})


def test_a_certificate_authority_is_read_from_a_file(tmp_path: Path) -> None:
    pem = (Path(__file__).parent / "ca.pem").read_text()
    (tmp_path / "ca.pem").write_text(pem)
    config = tmp_path / "gateway.yaml"
    config.write_text("servers: [{name: a, url: 'https://a', tls: {ca: {file: ca.pem}}}]")
    target = load(config, {}).servers[0].target
    assert isinstance(target, HttpTarget)
    assert target.tls == attrs.evolve(TlsSpec(), ca_pem=pem.strip())
