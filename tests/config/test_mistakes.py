"""Every mistake in a configuration is found at once, with its path and line."""

import json
import sys
from collections.abc import Mapping

import pytest

from mcp_gateway.config.file import read_spec
from mcp_gateway.errors import ConfigError

ENVIRON: Mapping[str, str] = {"TOKEN": "Bearer hunter2", "EMPTY": "", "LINES": "hunter2\nX-Evil: 1", "SHORT": "hunter2"}
FILES: Mapping[str, bytes] = {
    "token": b"Bearer hunter2\n",
    "empty": b"\n",
    "binary": b"hunter2\xff",
    "not-a-certificate.pem": b"-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n",
}


def read_file(path: str) -> bytes:
    if "\0" in path:
        raise ValueError("embedded null byte")
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


def mistakes(text: str) -> list[tuple[str, int | None, str]]:
    with pytest.raises(ConfigError) as refused:
        read_spec(text, "gateway.yaml", ENVIRON, read_file)
    assert "hunter2" not in str(refused.value)
    return [(mistake.path, mistake.line, mistake.what) for mistake in refused.value.mistakes]


def server(settings: str) -> str:
    """A configuration of one server; the settings begin on line 4."""
    return f"servers:\n  - name: time\n    url: http://127.0.0.1:9001/mcp\n    {settings}\n"


def child(settings: str) -> str:
    """The same with a child process."""
    return f"servers:\n  - name: time\n    command: [uvx, mcp-server-time]\n    {settings}\n"


TOP_LEVEL = [
    pytest.param("[]", "", 1, "must be a mapping, not a list", id="list"),
    pytest.param("limits: {}", "", 1, "servers is required", id="no servers"),
    pytest.param("servers:\n", "servers", 1, "must be a list, not nothing", id="servers empty, perhaps half written"),
    pytest.param("servers: {a: 1}", "servers", 1, "must be a list, not a mapping", id="servers as a mapping"),
    pytest.param("servers: [a]", "servers[0]", 1, "must be a mapping, not text", id="a server that is text"),
    pytest.param("servers: []\nlimit: {}", "limit", 2, "unknown key; did you mean limits?", id="near key"),
    pytest.param(
        "servers: []\nvirtual_servers: []",
        "virtual_servers",
        2,
        "unknown key; did you mean virtualServers?",
        id="snake case",
    ),
    pytest.param("servers: []\nzzz: 1", "zzz", 2, "unknown key", id="unknown key"),
    pytest.param("servers: []\nservers: []", "servers", 2, "is already set on line 1", id="duplicate key"),
    pytest.param("servers: []\nauth: {}", "auth", 2, "auth is reserved; this version has no authorization", id="auth"),
    pytest.param(
        "servers: []\ninstructions: 5",
        "instructions",
        2,
        "must be text, not a number; put it in quotes",
        id="number for text",
    ),
    pytest.param("servers: []\nmcpServers: {}", "servers", 1, "servers and mcpServers are two ways", id="both forms"),
]

SERVERS = [
    pytest.param("servers:\n  - url: http://a/mcp", "servers[0]", 2, "name is required", id="no name"),
    pytest.param(
        "servers:\n  - name: Time\n    url: http://a",
        "servers[0].name",
        2,
        "must be lower-case letters",
        id="upper case name",
    ),
    pytest.param(
        "servers:\n  - name: a/b/c\n    url: http://a",
        "servers[0].name",
        2,
        "must be lower-case letters",
        id="two slashes",
    ),
    pytest.param("servers:\n  - name: a", "servers[0]", 2, "needs either url or command", id="neither url nor command"),
    pytest.param(server("command: [x]"), "servers[0].command", 4, "a server has either url or command", id="both"),
    pytest.param(server("prefix: 'a b'"), "servers[0].prefix", 4, "must be at most 64 letters", id="prefix charset"),
    pytest.param(server("prefix: " + "a" * 65), "servers[0].prefix", 4, "must be at most 64 letters", id="long prefix"),
    pytest.param(
        server("{prefix: a}".strip("{}") + "\n    toolPrefix: b"),
        "servers[0].toolPrefix",
        5,
        "toolPrefix is another name for prefix",
        id="prefix twice",
    ),
    pytest.param(server("state: on"), "servers[0].state", 4, "must be one of enabled, disabled", id="state"),
    pytest.param(
        server("state: disable"),
        "servers[0].state",
        4,
        "must be one of enabled, disabled; did you mean disabled?",
        id="near state",
    ),
    pytest.param(
        server("transport: http"), "servers[0].transport", 4, "must be one of auto, streamable-http", id="kind"
    ),
    pytest.param(
        server("transport: stdio"),
        "servers[0].transport",
        4,
        "stdio does not fit a server with url",
        id="stdio with url",
    ),
    pytest.param(
        child("transport: sse"),
        "servers[0].transport",
        4,
        "sse does not fit a server with command",
        id="sse with command",
    ),
    pytest.param(
        server("protocol: 2025-11-26"), "servers[0].protocol", 4, "must be one of auto, 2024-11-05", id="version"
    ),
    pytest.param(
        server("tools: {include: all}"), "servers[0].tools.include", 4, "must be a list, not text", id="globs"
    ),
    pytest.param(server("tools: {only: []}"), "servers[0].tools.only", 4, "unknown key", id="unknown filter"),
    pytest.param(server("tags: [a, a]"), "servers[0].tags[1]", 4, "stands in this list twice", id="tag twice"),
    pytest.param(server("tags: ['']"), "servers[0].tags[0]", 4, "must not be empty", id="empty tag"),
    pytest.param(server("hint: {}"), "servers[0].hint", 4, "must be text, not a mapping", id="hint"),
    pytest.param(
        server("instructions: Ask nicely."),
        "servers[0].instructions",
        4,
        "must be one of own, none",
        id="instructions of a server",
    ),
    pytest.param(
        server("forward_headers: []"),
        "servers[0].forward_headers",
        4,
        "unknown key; did you mean forwardHeaders?",
        id="near server key",
    ),
    pytest.param(child("env: [A=b]"), "servers[0].env", 4, "must be a mapping, not a list", id="env as a list"),
    pytest.param(
        child("env: {'A=B': c}"), "servers[0].env.A=B", 4, "is no name of an environment variable", id="env name"
    ),
    pytest.param(child("env: {A: [b]}"), "servers[0].env.A", 4, "must be text, not a list", id="env value"),
    pytest.param(child('env: {A: "b\\0c"}'), "servers[0].env.A", 4, "must not contain a NUL", id="NUL in env"),
    pytest.param(
        child("env: {A: {env: NOPE}}"),
        "servers[0].env.A",
        4,
        "environment variable NOPE is not set",
        id="env of the child from a variable",
    ),
    pytest.param(child("args: {a: b}"), "servers[0].args", 4, "must be a list, not a mapping", id="args"),
    pytest.param(
        "servers: [{name: a, command: uvx x}]",
        "servers[0].command",
        1,
        "must be a list of a program",
        id="command as text",
    ),
    pytest.param("servers: [{name: a, command: []}]", "servers[0].command", 1, "must name a program", id="no program"),
    pytest.param(
        "servers: [{name: a, command: ['']}]", "servers[0].command", 1, "must name a program", id="empty program"
    ),
    *[
        pytest.param(
            child(f"{key}: {value}"), f"servers[0].{key}", 4, f"{key} is for servers with url", id=f"{key} on stdio"
        )
        for key, value in {
            "headers": "{A: b}",
            "forwardHeaders": "[a]",
            "credential": "{value: hunter2}",
            "tls": "{}",
            "connect": "10.0.0.1",
            "proxy": "http://p",
        }.items()
    ],
    *[
        pytest.param(
            server(f"{key}: {value}"), f"servers[0].{key}", 4, f"{key} is for servers with command", id=f"{key} on url"
        )
        for key, value in {"args": "[a]", "env": "{A: b}", "cwd": "/"}.items()
    ],
]

URLS = [
    pytest.param(f"servers:\n  - name: a\n    url: {url}", "servers[0].url", 3, what, id=id_)
    for url, what, id_ in [
        ("5", "must be text", "number"),
        ("ftp://a/", "must be a URL that begins with http:// or https://", "scheme"),
        ("127.0.0.1:9001", "must be a URL that begins with", "no scheme"),
        ("http:///mcp", "must be a URL with a host", "no host"),
        ("http://a b/", "must be a URL without spaces", "space"),
        ('"http://a/\\r\\nX: 1"', "must be a URL without spaces", "line break"),
        ("http://ä/", "must be a URL without spaces and only of ASCII", "not ASCII"),
        ("http://a:99999/", "must be a URL; its host or port", "port too large"),
        ("http://a:0/", "must be a URL with a host", "port zero"),
        ("http://[::1/", "must be a URL; its host or port", "bracket"),
        ("http://-a-/", "must be a URL with a host", "no host name"),
        ("http://user:hunter2@a/", "must not contain a user or password; use credential", "userinfo"),
        ("http://a/#x", "must not contain a fragment", "fragment"),
    ]
]

ADDRESSES = [
    pytest.param(server("survey: maybe"), "servers[0].survey", 4, "must be one of on, off", id="survey"),
    pytest.param(
        server("connect: http://a"), "servers[0].connect", 4, "must be an IP address or a host name", id="connect"
    ),
    pytest.param(
        server("connect: 10.0.0.1:99999"), "servers[0].connect", 4, "must be an IP address", id="connect port"
    ),
    pytest.param(
        server("proxy: socks5://a:1"), "servers[0].proxy", 4, "must be a URL that begins with http://", id="proxy"
    ),
    pytest.param(server("tls: {serverName: 'a:1'}"), "servers[0].tls.serverName", 4, "must be a host name", id="SNI"),
    pytest.param(
        server("tls: {insecureSkipVerify: yes}"),
        "servers[0].tls.insecureSkipVerify",
        4,
        "must be true or false, not text",
        id="boolean",
    ),
    pytest.param(
        server("tls: {ca: {file: not-a-certificate.pem}}"),
        "servers[0].tls.ca",
        4,
        "holds no valid PEM certificate",
        id="certificate",
    ),
    pytest.param(
        server("tls: {ca: {file: binary}}"), "servers[0].tls.ca", 4, "holds no valid PEM", id="binary certificate"
    ),
    pytest.param(
        "servers: []\nhttp: {allowedHosts: ['a b']}", "http.allowedHosts[0]", 2, "must be a host name", id="host"
    ),
    pytest.param(
        "servers: []\nhttp: {allowedOrigins: [a.example.com]}",
        "http.allowedOrigins[0]",
        2,
        "must be an origin",
        id="origin",
    ),
    pytest.param(
        "servers: []\nhttp: {allowedOrigins: ['https://a/']}",
        "http.allowedOrigins[0]",
        2,
        "must be an origin, such as https://app.example.com (no path",
        id="origin with a path",
    ),
    pytest.param("servers: []\nhttp: {publicUrl: a}", "http.publicUrl", 2, "must be a URL", id="public url"),
]

HEADERS = [
    *[
        pytest.param(
            server(f"headers: {{{name}: x}}"),
            f"servers[0].headers.{name}",
            4,
            f"header {name} is refused: {why}",
            id=f"header {name}",
        )
        for name, why in {
            "Host": "the Host is",
            "Content-Type": "it describes a body",
            "content-length": "it describes a body",
            "Connection": "it is for one connection only",
            "Transfer-Encoding": "it is for one connection only",
            "Upgrade": "it is for one connection only",
            "Mcp-Session-Id": "the gateway makes the protocol's own headers",
            "MCP-Protocol-Version": "the gateway makes the protocol's own headers",
            "Accept": "the gateway sets it",
            "Cookie": "cookies belong to",
            "Authorization": "use credential",
        }.items()
    ],
    pytest.param(
        server("forwardHeaders: [x-a, Cookie]"),
        "servers[0].forwardHeaders[1]",
        4,
        "header Cookie is refused",
        id="forwarded cookie",
    ),
    pytest.param(
        server("forwardHeaders: ['x a']"), "servers[0].forwardHeaders[0]", 4, "is no header name", id="no token"
    ),
    pytest.param(
        server("forwardHeaders: [x-a, X-A]"),
        "servers[0].forwardHeaders[1]",
        4,
        "stands in this list twice",
        id="forwarded twice",
    ),
    pytest.param(
        server("transport: sse\n    forwardHeaders: [x-a]"),
        "servers[0].forwardHeaders",
        5,
        "the one connection of HTTP+SSE is shared by clients",
        id="a shared connection forwards no headers",
    ),
    pytest.param(
        server("headers: {X-A: b}\n    forwardHeaders: [x-a]"),
        "servers[0].forwardHeaders",
        5,
        "header x-a is also in headers",
        id="static and forwarded",
    ),
    pytest.param(server("headers: {X-A: b, x-a: c}"), "servers[0].headers", 4, "header x-a is given twice", id="twice"),
    pytest.param(
        server('headers: {X-A: "b\\r\\nX-B: c"}'),
        "servers[0].headers.X-A",
        4,
        "must not contain a line break",
        id="CR LF",
    ),
    pytest.param(
        server('headers: {X-A: "b\\x01"}'), "servers[0].headers.X-A", 4, "must not contain control", id="control"
    ),
    pytest.param(
        server(f"headers: {{X-A: {'b' * 8193}}}"), "servers[0].headers.X-A", 4, "is longer than 8 KiB", id="long"
    ),
    pytest.param(server("headers: {X-A: 5}"), "servers[0].headers.X-A", 4, "must be text, not a number", id="number"),
    pytest.param(server("headers: [X-A]"), "servers[0].headers", 4, "must be a mapping, not a list", id="list"),
]

SECRETS = [
    pytest.param(server(f"credential: {secret}"), f"servers[0].credential{below}", 4, what, id=id_)
    for secret, below, what, id_ in [
        ("hunter2", "", "must be {env: NAME}, {file: PATH} or {value: TEXT}", "text"),
        ("{}", "", "must be exactly one of {env: NAME}", "none"),
        ("{env: TOKEN, value: hunter2}", "", "must be exactly one of {env: NAME}", "two"),
        ("{env: NOPE}", "", "environment variable NOPE is not set", "variable not set"),
        ("{env: EMPTY}", "", "environment variable EMPTY is empty", "variable empty"),
        ("{env: LINES}", "", "must not contain a line break", "variable of two lines"),
        ("{file: nope}", "", "cannot read file nope: No such file or directory", "file missing"),
        ('{file: "a\\0b"}', "", "cannot read file", "NUL in a path"),
        ("{file: empty}", "", "file empty is empty", "file empty"),
        ("{file: binary}", "", "must be UTF-8 text", "file binary"),
        ("{value: ''}", ".value", "must not be empty", "value empty"),
        ("{value: 5}", ".value", "must be text, not a number", "value a number"),
        ("{enw: TOKEN}", "", "must be exactly one of {env: NAME}", "no known key"),
        ("{env: TOKEN, format: pem}", ".format", "unknown key", "one key too many"),
    ]
]

QUANTITIES = [
    pytest.param(
        server("timeouts: {call: 5}"), "servers[0].timeouts.call", 4, "must be a duration with its unit", id="5"
    ),
    pytest.param(server("timeouts: {call: 0s}"), "servers[0].timeouts.call", 4, "must be at least 1ms", id="0s"),
    pytest.param(server("timeouts: {call: 0}"), "servers[0].timeouts.call", 4, "must be at least 1ms", id="0"),
    pytest.param(server("timeouts: {call: false}"), "servers[0].timeouts.call", 4, "must be a duration", id="false"),
    pytest.param(server("timeouts: {call: 500d}"), "servers[0].timeouts.call", 4, "must be at most 365d", id="500d"),
    pytest.param(
        server("timeouts: {cal: 5s}"), "servers[0].timeouts.cal", 4, "unknown key; did you mean call?", id="cal"
    ),
    pytest.param(server("limits: {eventBytes: 4MB}"), "servers[0].limits.eventBytes", 4, "must be a size", id="4MB"),
    pytest.param(server("limits: {eventBytes: true}"), "servers[0].limits.eventBytes", 4, "must be a size", id="true"),
    pytest.param(
        server("limits: {eventBytes: 0}"), "servers[0].limits.eventBytes", 4, "must be between 1 byte", id="0 bytes"
    ),
    pytest.param(
        server("limits: {concurrency: 0}"), "servers[0].limits.concurrency", 4, "must be between 1 and", id="none"
    ),
    pytest.param(
        server("limits: {concurrency: 1.5}"), "servers[0].limits.concurrency", 4, "must be a whole number", id="1.5"
    ),
    pytest.param(
        server("limits: {concurrency: true}"),
        "servers[0].limits.concurrency",
        4,
        "must be a whole number",
        id="boolean as a number",
    ),
    pytest.param(server("health: {failures: x}"), "servers[0].health.failures", 4, "must be a whole number", id="text"),
    pytest.param(
        "servers: []\nlimits: {bodyBytes: -1}", "limits.bodyBytes", 2, "must be between 1 byte", id="negative"
    ),
    pytest.param("servers: []\ndrain: {grace: 1}", "drain.grace", 2, "must be a duration", id="no unit"),
]

BETWEEN_ENTRIES = [
    pytest.param(
        "servers:\n  - {name: a, url: 'http://a'}\n  - {name: a, url: 'http://b', prefix: b_}",
        "servers[1].name",
        3,
        "the server name a is already taken by servers[0]",
        id="server name twice",
    ),
    pytest.param(
        "servers:\n  - {name: a, url: 'http://a'}\n  - name: b\n    url: http://b\n    prefix: a_",
        "servers[1].prefix",
        5,
        "prefix a_ is already the one of server a",
        id="prefix clash",
    ),
    pytest.param(
        "servers:\n  - {name: a, url: 'http://a', prefix: a-b_}\n  - name: a-b\n    url: http://b",
        "servers[1]",
        3,
        "prefix a-b_ is already the one of server a",
        id="clash with a default prefix",
    ),
    pytest.param(
        "servers:\n  - {name: a, url: 'http://a', prefix: x}\n  - {name: b, url: 'http://b', toolPrefix: x}\n"
        "gateways:\n  - {name: one, servers: [a]}\n  - {name: two, servers: [a, b]}",
        "servers[1].toolPrefix",
        3,
        "prefix x is already the one of server a in gateway two",
        id="clash in one gateway",
    ),
    pytest.param(
        "servers: []\nvirtualServers:\n  - name: v\n  - name: v",
        "virtualServers[1].name",
        4,
        "the virtual server name v is already taken",
        id="virtual server twice",
    ),
    pytest.param(
        "servers: []\nvirtualServers:\n  - tools: []",
        "virtualServers[0]",
        3,
        "name is required",
        id="virtual server without name",
    ),
    pytest.param(
        "servers:\n  - {name: a, url: 'http://a'}\nvirtualServers:\n  - name: v\n    tools: [a_x, b_x]",
        "virtualServers[0].tools",
        5,
        "no server has a prefix that b_x begins with",
        id="tool of nobody",
    ),
    pytest.param(
        "servers: []\nvirtualServers:\n  - name: v\n    prompts: [b_x]",
        "virtualServers[0].prompts",
        4,
        "no server has a prefix that b_x begins with",
        id="prompt of nobody",
    ),
    pytest.param("servers: []\ngateways: []", "gateways", 2, "must not be empty", id="no gateway"),
    pytest.param("servers: []\ngateways:\n  - {}", "gateways[0]", 3, "name is required", id="gateway without name"),
    pytest.param(
        "servers: []\ngateways:\n  - name: g\n  - name: g",
        "gateways[1].name",
        4,
        "the gateway name g is already taken",
        id="gateway twice",
    ),
    pytest.param(
        "servers: []\ngateways:\n  - name: g\n    servers: [x]",
        "gateways[0].servers",
        4,
        "there is no server named x",
        id="unknown server",
    ),
    pytest.param(
        "servers: []\ngateways:\n  - name: g\n    virtualServers: [x]",
        "gateways[0].virtualServers",
        4,
        "there is no virtual server named x",
        id="unknown virtual server",
    ),
    pytest.param(
        "servers: []\ngateways:\n  - name: g\n    hosts: ['a:80']",
        "gateways[0].hosts[0]",
        4,
        "must be a host name without a port",
        id="gateway host with a port",
    ),
    pytest.param(
        "servers: []\ngateways:\n  - name: g\n    hosts: [a, A]",
        "gateways[0].hosts[1]",
        4,
        "stands in this list twice",
        id="gateway host twice",
    ),
]

SESSIONS = [
    pytest.param(
        "servers: []\nsessions: {store: 'redis://a'}",
        "sessions.store",
        2,
        "must be memory; this version keeps",
        id="redis",
    ),
    pytest.param(
        "servers: []\nsessions: {signingKeys: [{env: SHORT}]}",
        "sessions.signingKeys[0]",
        2,
        "must be at least 16 bytes long",
        id="short key",
    ),
    pytest.param(
        "servers: []\nsessions: {signingKeys: {env: SHORT}}", "sessions.signingKeys", 2, "must be a list", id="one"
    ),
    pytest.param("servers: []\nsessions: {idle: forever}", "sessions.idle", 2, "must be a duration", id="idle"),
]

DESKTOP = [
    pytest.param(json.dumps({"mcpServers": {"a": entry}}, indent=1), f"mcpServers.a{below}", line, what, id=id_)
    for entry, below, line, what, id_ in [
        ({}, "", 3, "needs either url or command", "nothing"),
        ("x", "", 3, "must be a mapping, not text", "text"),
        ({"comand": "x", "url": "http://a"}, ".comand", 4, "unknown key; did you mean command?", "slip"),
        ({"command": ""}, ".command", 4, "must not be empty", "empty program"),
        ({"command": "C:\temp"}, ".command", 4, "must not contain a control character; in double", "tab in a program"),
        ({"command": "x", "cwd": "C:\new"}, ".cwd", 5, "must not contain a control character", "line end in a folder"),
        ({"command": ["C:\bin"]}, ".command", 4, "must not contain a control character", "backspace in a program"),
        ({"command": "x", "type": "sse"}, ".type", 5, "sse does not fit a server with command", "wrong type"),
        ({"url": "http://a", "type": "stdio"}, ".type", 5, "stdio does not fit a server with url", "wrong type of url"),
        ({"url": "http://a", "type": "ws"}, ".type", 5, "must be one of http, streamable-http", "unknown type"),
        ({"url": "http://a", "headers": {"Cookie": "x"}}, ".headers.Cookie", 6, "header Cookie is refused", "cookie"),
        (
            {"url": "http://a", "headers": {"X-A": "${NOPE}"}},
            ".headers.X-A",
            6,
            "environment variable NOPE is not set",
            "variable",
        ),
        ({"url": "http://a", "env": {"A": "b"}}, ".env", 5, "env is for servers with command", "env"),
        (
            {"url": "http://a", "headers": {"Authorization": "x"}, "credential": {"value": "hunter2"}},
            ".credential",
            8,
            "an Authorization header is given too",
            "two credentials",
        ),
        ({"url": "http://a", "disabled": "yes"}, ".disabled", 5, "must be true or false, not text", "disabled"),
    ]
] + [
    pytest.param(
        '{"mcpServers": {"ü": {"url": "http://a"}}}',
        "mcpServers.ü",
        1,
        "its name needs a letter or a digit",
        id="no usable name",
    ),
    pytest.param(
        '{"mcpServers":\n{"a b": {"url": "http://a"},\n"A-B": {"url": "http://a", "prefix": ""}}}',
        "mcpServers.A-B",
        3,
        "the server name a-b is already taken by mcpServers.a b",
        id="names that become equal",
    ),
    pytest.param('{"mcpServers": []}', "mcpServers", 1, "must be a mapping, not a list", id="list of servers"),
]


@pytest.mark.parametrize(
    "text, path, line, what",
    [*TOP_LEVEL, *SERVERS, *URLS, *ADDRESSES, *HEADERS, *SECRETS, *QUANTITIES, *BETWEEN_ENTRIES, *SESSIONS, *DESKTOP],
)
def test_a_mistake_has_its_path_line_and_sentence(text: str, path: str, line: int | None, what: str) -> None:
    found = mistakes(text)
    assert [(at, on) for at, on, _ in found] == [(path, line)]
    assert found[0][2].startswith(what)


def test_all_mistakes_come_at_once_in_the_order_of_lines() -> None:
    text = """\
servers:
  - name: time
    url: ftp://a
    timeouts: {connect: 5, call: soon}
  - name: time
    comand: [uvx]
gateways:
  - name: g
    servers: [tiem]
limit: {}
"""
    assert [(path, line) for path, line, _ in mistakes(text)] == [
        ("servers[0].url", 3),
        ("servers[0].timeouts.connect", 4),
        ("servers[0].timeouts.call", 4),
        ("servers[1]", 5),
        ("servers[1].name", 5),
        ("servers[1].comand", 6),
        ("gateways[0].servers", 9),
        ("limit", 10),
    ]


def test_a_mistake_in_a_value_with_an_alias_points_at_its_place() -> None:
    first = "  - {name: a, url: 'http://a', timeouts: &t {call: 1}}\n"
    text = f"servers:\n{first}  - {{name: b, url: 'http://b', timeouts: *t}}\n"
    assert [path for path, _, _ in mistakes(text)] == ["servers[0].timeouts.call", "servers[1].timeouts.call"]


def test_the_message_names_the_file_in_every_line() -> None:
    with pytest.raises(ConfigError) as refused:
        read_spec("servers: []\na: 1\nb: 2\n", "gateway.yaml", {}, read_file)
    assert str(refused.value).splitlines() == [
        "gateway.yaml: line 2: a: unknown key",
        "gateway.yaml: line 3: b: unknown key",
    ]


def test_a_child_process_is_a_mistake_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError) as refused:
        read_spec("servers: [{name: a, command: [x]}]", "f", {}, lambda name: b"")
    assert [mistake.what for mistake in refused.value.mistakes] == [
        "child processes are not supported on Windows; use url"
    ]
