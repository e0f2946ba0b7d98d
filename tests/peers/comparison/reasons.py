"""Why an answer through the gateway may differ from the server's own: the whole list.

Owns the reasons, and which differences each of them explains. Deliberately explains nothing that a client could take
for another outcome of what it may ask. Invariant: a difference that no reason explains fails the comparison, and so
does a reason for one server that explains nothing any more.
"""

import re
from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Reason:
    """One line of the list."""

    why: str
    """As ``docs/conformance.md`` says it."""
    where: str = ""
    """A regular expression for "SERVER, ERA: STEP"; empty for all. "^SERVER" where it is that server's alone."""
    what: str
    """A regular expression for the whole difference."""

    def explains(self, where: str, what: str) -> bool:
        return re.search(self.where, where) is not None and re.fullmatch(self.what, what, re.DOTALL) is not None


def reasons(why: str, *pairs: tuple[str, str]) -> tuple[Reason, ...]:
    """One reason for several kinds of differences, each as where and what."""
    return tuple(Reason(why=why, where=where, what=what) for where, what in pairs)


_REFUSED: Final = (
    r"error\.(code|message|data) .*|id (null|7), through .*|id only through|status 4\d\d, through 4\d\d|"
    r"content-type .*|(error|result|id) only (directly|through)|body .*|allow .*"
)
"""Another refusal of the same request."""

REASONS: Final = (
    *reasons(
        "An answer that comes at once is one JSON object; a stream is opened for what comes before an answer.",
        ("", r"content-type text/event-stream, through application/json"),
    ),
    *reasons(
        "The session id is given once, with the answer to `initialize`.",
        ("", r"mcp-session-id given, through None"),
    ),
    *reasons(
        "`Content-Type` is what the protocol wants, and nothing where there is no body.",
        ("", r"content-type application/json; charset=utf-8, through application/json"),
        ("^FastMCP, 2025: (an unknown notification|roots|a cancellation|an answer)", r"content-type .*, through None"),
    ),
    *reasons(
        "The gateway is the server that its clients talk to: its name and version, the form in which it tells the "
        "servers' instructions, and how long its own description holds, are its own.",
        ("", r"result\.(_meta\.io\.modelcontextprotocol/)?serverInfo\..*"),
        (r"initialize|server/discover", r"result\.instructions .*"),
        ("server/discover", r"result\.(ttlMs|cacheScope) .*"),
    ),
    *reasons(
        "Capabilities are those of every server behind the gateway, and of the gateway itself: its lists can always "
        "change.",
        (r"initialize|server/discover", r"result\.capabilities\.\w+\.listChanged false, through true"),
    ),
    *reasons(
        "A capability that no server has is left out, not denied; `_meta` names the servers of each extension, and "
        "what a server declares in one era only is told in both.",
        (r"initialize|server/discover", r"result\.capabilities\.resources\.subscribe only directly: false"),
        (r"initialize", r"result\._meta only through: \{\"mcp-gateway/providers\": .*"),
        (r"server/discover", r"result\._meta\.mcp-gateway/providers only through: .*"),
        (r"^FastMCP, .*initialize", r"result\.capabilities\.extensions only through: .*"),
    ),
    *reasons(
        "Subscriptions are offered for a server of 2025 that declares none; it is asked, and its -32601 reaches the "
        "client.",
        (r"^FastMCP, ", r"result\.capabilities\.resources\.subscribe false, through true"),
    ),
    *reasons(
        "A client is told of capabilities that its own revision has: completions came with 2025-03-26, tasks with "
        "2025-11-25.",
        ("initialize 2024-11-05", r"result\.capabilities\.completions only directly: \{\}"),
        (r"initialize (2024-11-05|2025-03-26|2025-06-18)", r"result\.capabilities\.tasks only directly: .*"),
    ),
    *reasons(
        "A name, URI or method that nobody behind the gateway has is refused by the gateway, with the specification's "
        "code (-32602, -32601), whatever a server of its own would say.",
        (r"call an unknown tool|get an unknown prompt|complete nobody's", rf"{_REFUSED}|status 400, through 200"),
        (
            r"an unknown method|(server/discover|tasks/list|subscriptions/listen|tasks/get)$",
            r"error\.(message|data) .*",
        ),
        (r"FastMCP, 2026: (ping|logging/setLevel|resources/subscribe|initialize)$", r"error\.(message|data) .*"),
    ),
    *reasons(
        "Lists are the gateway's, so are their cursors: one that it did not give is -32602.",
        ("a cursor of nobody", r"(error|result) only (directly|through)"),
    ),
    *reasons(
        "A request that breaks the protocol is refused by the gateway in its own words, with the code and status of "
        "the specification.",
        (
            r": (call without a name|logging/setLevel, no level|initialize without a version|no JSON|an empty body|"
            r"a string|no jsonrpc|params a list|text/plain|"
            r"a version of nobody|no _meta|no capabilities|(no|another) Mcp-\w+)$",
            _REFUSED,
        ),
        (r"2026: (no|another) version header$", _REFUSED),
        (r"call without a name|initialize without a version", r"status 400, through 200"),
        (r"(id null|id a fraction)$", rf"{_REFUSED}|status 202, through 400|messages \[\], through \['error'\]"),
        (r"PUT$", rf"{_REFUSED}|error .*|jsonrpc only directly"),
        (r"^FastMCP, 2026: (GET|DELETE)$", r"content-type .*|messages \[\], through \['error'\]"),
    ),
    *reasons(
        "Batches exist in 2025-03-26 only; in a session of another revision they are refused.",
        (r"a batch$", rf"{_REFUSED}|status 200, through 400|messages \['result', 'result'\], through \['error'\]"),
        (r"an empty batch$", rf"{_REFUSED}|status 202, through 400|messages \[\], through \['error'\]"),
    ),
    *reasons(
        "A client that names fewer content types than it must is served with those that it names, `*/*` and none "
        "with both.",
        (r"(Accept|GET without Accept)", r"status 406, through 200|content-type .*|(error|result) only .*|id null, .*"),
        (r"(Accept|GET without Accept)", r"messages \[('error')?\], through \[('result')?\]"),
    ),
    *reasons(
        "A session that is unknown is 404 on every verb, which is how a client learns that it must begin anew; a "
        "missing one is 400, and on GET 405: there is no stream.",
        (r"(another's session|session of nobody|after DELETE|DELETE again|no session|without a session)$", _REFUSED),
    ),
    *reasons(
        "The list of tasks is the gateway's: it shows a client its own.",
        (r"2025: tasks/list$", r"result\._meta only directly: \{\}"),
    ),
    *reasons("The end of a session has nothing to say: 204.", (r"DELETE$", r"status 200, through 204|content-type .*")),
    *reasons(
        "An `initialize` within a session opens another one.",
        (
            r"^server-everything over HTTP, 2025: initialize again",
            r"status 400, through 200|mcp-session-id None, through given|(error|result) only .*|id null, through 1",
        ),
    ),
    *reasons(
        "To a client of 2026, what a server of 2025 says gets what each result of 2026 has.",
        (r"bridged: ", r"result\.(resultType|ttlMs|cacheScope) only through: .*|result\._meta only through: .*"),
        (r"bridged: an unknown method", r"status 200, through 404"),
        (r"bridged: (ping|logging/setLevel|resources/subscribe)$", r"status 200, through 404|(error|result) only .*"),
        (r"bridged: server/discover$", r"(error|result) only .*"),
    ),
    *reasons(
        "A client of 2026 is listed what it could use with more capabilities, and told at the call which one it lacks.",
        (
            r"^server-everything over HTTP, bridged: (tools/list|ids are strings too)$",
            r"result\.tools: (get-roots-list|trigger-url-elicitation) only through",
        ),
    ),
    *reasons(
        "What a server lists to one client only stands behind what it lists to all, and comes once that client's own "
        "process or connection runs.",
        (
            r"^server-everything (on a pipe|over HTTP\+SSE), 2025: (tools/list|ids are strings too)$",
            r"result\.tools: (get-roots-list|trigger-(elicitation|sampling)-request) only directly",
        ),
        (
            r"^server-everything (on a pipe|over HTTP\+SSE), 2025: (tools/list|ids are strings too)$",
            r"result\.tools in another order",
        ),
    ),
    *reasons(
        "What a server asks beside any request comes when it comes; the comparison listens for a moment only.",
        (r"over HTTP, 2025: GET$", r"messages \[('roots/list')?\], through \[('roots/list')?\]"),
    ),
)
"""What differs, and why it does."""
