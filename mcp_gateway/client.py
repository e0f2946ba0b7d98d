"""A small MCP client: greet a server, list its tools, call one.

Owns what a command line asks of a server and the words for what goes wrong. Deliberately
neither dials nor knows how a revision travels: ``backends`` does, for the gateway and for
this. No sampling, no elicitation, no standing GET stream. Invariant: a session that was opened
is ended, and a call that is left early is cancelled in the server's own era's way.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final, TypeAlias

import attrs
import orjson
import trio

from mcp_gateway import __version__
from mcp_gateway.backends.connector import UPSTREAM_FAULTS, Connection
from mcp_gateway.backends.own_requests import answer_alone, request, result_of
from mcp_gateway.backends.spec_connector import SpecConnector
from mcp_gateway.backends.transports.base import GOODBYE_S, ClientIdentity, Inbound
from mcp_gateway.backends.transports.origin import read_origin
from mcp_gateway.config.spec import BackendLimits, HttpTarget, ServerSpec, Timeouts
from mcp_gateway.errors import (
    BackendAuth,
    BackendGone,
    BackendProtocol,
    BackendRefused,
    BackendTimeout,
    GatewayError,
    LocalFault,
)
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.headers import HeaderFault, annotated, encode_value, mirror
from mcp_gateway.values import BackendKey, Header, JsonObject, JsonValue

CONNECT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 64 * 2**20
MAX_PAGES: Final = 100

CLI: Final = ClientIdentity(info=orjson.dumps({"name": "mcp-gateway-cli", "version": __version__}))

Hear: TypeAlias = Callable[[str, JsonObject], None]
"""Called with the method and params of each notification that belongs to a request."""


@attrs.frozen(kw_only=True, eq=False)
class Unreachable(GatewayError):
    """No answer: no such host, refused, reset, or the TLS handshake failed."""

    url: str
    why: str

    def __str__(self) -> str:
        return f"cannot reach {self.url}: {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class BadAnswer(GatewayError):
    """An answer that is not MCP, or not the one that was asked for."""

    url: str
    why: str

    def __str__(self) -> str:
        return f"{self.url} {self.why}"


@attrs.frozen(kw_only=True, eq=False)
class Refused(GatewayError):
    """The server answered with a JSON-RPC error."""

    code: int
    message: str
    data: JsonValue = None

    def __str__(self) -> str:
        return f"the server answered error {self.code}: {self.message}"


@asynccontextmanager
async def open_client(url: str, headers: tuple[Header, ...] = ()) -> "AsyncIterator[Client]":
    """Greet the server at ``url`` in the newest era that it speaks, over Streamable HTTP or HTTP+SSE.

    The caller's scope is the only deadline. Errors of the greeting leave bare.

    Raises:
        Unreachable, BadAnswer, Refused.
    """
    connector = SpecConnector(spec=_spec(url, headers))
    try:
        async with AsyncExitStack() as stack:
            with _in_words(url):
                verdict = await connector.detect()
                opening = connector.link(verdict, CLI, _unheard, lambda _: None)
                connection = await stack.enter_async_context(opening)
            yield Client(url, connection)
    finally:
        with trio.move_on_after(GOODBYE_S, shield=True):
            await connector.aclose()


@attrs.frozen(eq=False)
class Client:
    """One conversation with one server."""

    url: str
    connection: Connection

    @property
    def era(self) -> Era:
        """The revision that was agreed on."""
        return self.connection.link.era

    async def tools(self) -> list[JsonObject]:
        """Every tool of every page, in the server's order."""
        found: list[JsonObject] = []
        params: JsonObject = {}
        for _ in range(MAX_PAGES):
            page = await self.request("tools/list", params)
            tools = page.get("tools")
            if not isinstance(tools, list):
                raise BadAnswer(url=self.url, why="answered tools/list without tools")
            found.extend(tool for tool in tools if isinstance(tool, dict))
            # "an empty string is a valid cursor" -- MCP 2026-07-28, server/utilities/pagination
            if page.get("nextCursor") is None or page.get("nextCursor") == params.get("cursor"):
                return found
            params = {"cursor": page["nextCursor"]}
        raise BadAnswer(url=self.url, why=f"has more than {MAX_PAGES} pages of tools")

    async def call(self, name: str, arguments: JsonObject, schema: JsonValue, hear: Hear) -> JsonObject:
        """Call one tool; ``schema`` is its ``inputSchema``, which may mirror arguments into headers."""
        headers: tuple[Header, ...] = ()
        if self.era.modern:
            try:
                headers = ((b"Mcp-Name", encode_value(name)), *mirror(annotated(schema), arguments))
            except HeaderFault as fault:
                raise BadAnswer(url=self.url, why=f"has a tool that cannot be called: {fault}") from fault
        return await self.request("tools/call", {"name": name, "arguments": arguments}, headers, hear)

    async def request(
        self, method: str, params: JsonObject, headers: tuple[Header, ...] = (), hear: Hear | None = None
    ) -> JsonObject:
        """Send one request and wait for its result; with ``hear``, progress is asked for.

        Raises:
            Unreachable, BadAnswer, Refused.
        """
        link = self.connection.link

        async def heard(inbound: Inbound) -> None:
            await answer_alone(link, inbound)
            if inbound.id_raw is None and hear is not None:
                hear(inbound.method, dict(inbound.params))

        outgoing = request(method, params, link.era, identity=CLI, headers=headers, progress=hear is not None)
        with _in_words(self.url):
            result = json_text.parse(result_of(await link.exchange(outgoing, heard), BackendKey(self.url)))
        if not isinstance(result, dict):
            raise BadAnswer(url=self.url, why=f"answered {method} without a result")
        return result


def _spec(url: str, headers: tuple[Header, ...]) -> ServerSpec:
    """The server as if it stood in a configuration. Raises Unreachable: its url is none."""
    given = tuple((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in headers)
    target = HttpTarget(url=url, headers=given)
    try:
        read_origin(target)
    except LocalFault as fault:
        raise Unreachable(url=url, why=str(fault)) from fault
    limits = BackendLimits(response_bytes=MAX_ANSWER_BYTES, event_bytes=MAX_ANSWER_BYTES)
    return ServerSpec(key=BackendKey(url), target=target, timeouts=Timeouts(connect_s=CONNECT_S), limits=limits)


async def _unheard(inbound: Inbound) -> None:
    """What belongs to no request of ours."""


@contextmanager
def _in_words(url: str) -> Iterator[None]:
    """Tell what went wrong in the words of one who has typed ``url``."""
    try:
        yield
    except UPSTREAM_FAULTS as error:
        raise _told(url, error) from error


def _told(url: str, error: GatewayError) -> GatewayError:
    match error:
        case BackendRefused(code=code, message=message, data=data):
            return Refused(code=code, message=message, data=data)
        case BackendGone(why=why):
            return Unreachable(url=url, why=why)
        case BackendTimeout(after_s=after_s):
            return Unreachable(url=url, why=f"no answer within {after_s:g} s")
        case BackendAuth(status=status):
            return BadAnswer(url=url, why=f"asks for a credential (HTTP {status}); give one with --header")
        case BackendProtocol(why=why):
            return BadAnswer(url=url, why=f"does not speak MCP: {why}")
        case _:
            return BadAnswer(url=url, why=f"cannot be used: {error}")
