"""Questions of backends to a 2025 client: sampling, elicitation, roots, ping.

Owns the ids under which questions go down and the way each answer takes back.
Deliberately knows no transport: the asker brings a function for the answer.
Invariant: an answer is delivered at most once, and only for an id that this
session was asked under.

Spec: MCP 2025-11-25 basic/transports (responses arrive on POSTs of their own).
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import attrs

from mcp_gateway.backends.transports.base import Inbound
from mcp_gateway.errors import Overload
from mcp_gateway.protocol import jsonrpc, splice, translate
from mcp_gateway.protocol.content import MapUri
from mcp_gateway.protocol.eras import Era
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.values import JsonObject, Params

MAX_OPEN: Final = 64
"""Unanswered questions per session; above that the backend is told that its client is busy."""

CAPABILITY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sampling/createMessage": "sampling",
        "elicitation/create": "elicitation",
        "roots/list": "roots",
    }
)
"""Which client capability each server request needs."""

OnAnswer: TypeAlias = Callable[[jsonrpc.RpcResponse], Awaitable[None]]
OnProgress: TypeAlias = Callable[[jsonrpc.RpcNotification], Awaitable[None]]


_TOKEN: Final = ("params", "_meta", "progressToken")

Asker: TypeAlias = object
"""A call, or the key of the backend that asks outside any."""


@attrs.frozen
class _Question:
    asker: Asker
    origin: bytes
    on_answer: OnAnswer
    on_progress: OnProgress | None


@attrs.define(eq=False)
class ServerRequests:
    """The open questions to one client."""

    _open: dict[str, _Question] = attrs.field(factory=dict)
    _prefix: str = attrs.field(factory=lambda: f"gw-{secrets.token_hex(6)}")
    _next: int = 0

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, asker: Asker, origin: bytes, on_answer: OnAnswer, on_progress: OnProgress | None = None) -> str:
        """Reserve an id of our own; ``on_answer`` gets the client's response.

        Nothing ends a question outside any call but its answer or its backend, so at the bound the oldest makes room.

        Args:
            origin: the raw id under which a 2025 backend asks; empty: of a 2026 backend.
            on_progress: gets what the client says of its progress; its token is the id.
        Raises:
            Overload: too many questions are open.
        """
        if len(self._open) >= MAX_OPEN:
            oldest = next((asked for asked, one in self._open.items() if isinstance(one.asker, str)), None)
            if oldest is None:
                raise Overload(bound="open server requests per session", limit=MAX_OPEN)
            del self._open[oldest]
        request_id = f"{self._prefix}-{self._next}"
        self._next += 1
        self._open[request_id] = _Question(asker, origin, on_answer, on_progress)
        return request_id

    def find(self, asker: Asker, origin: bytes) -> str | None:
        """Under which id a question of a backend went down, if it is open."""
        asks = (asked for asked, one in self._open.items() if one.asker == asker and one.origin == origin)
        return next(asks, None)

    def forget(self, request_id: str) -> None:
        """The question is moot; a later answer is ignored."""
        self._open.pop(request_id, None)

    def end(self, asker: Asker) -> list[str]:
        """Forget what a call has asked; under which ids."""
        ended = [asked for asked, one in self._open.items() if one.asker is asker]
        for asked in ended:
            del self._open[asked]
        return ended

    async def progress(self, notice: jsonrpc.RpcNotification) -> bool:
        """Hand on how far the client is with a question; False for one that is not open, or whose asker wants none."""
        token = notice.params.get("progressToken")
        question = self._open.get(token) if isinstance(token, str) else None
        if question is None or question.on_progress is None:
            return False
        await question.on_progress(notice)
        return True

    async def deliver(self, response: jsonrpc.RpcResponse) -> bool:
        """Hand an answer to whoever asked; False for an id nobody waits for."""
        question = self._open.pop(response.id, None) if isinstance(response.id, str) else None
        if question is None:
            return False
        await question.on_answer(response)
        return True


def as_ours(fit: bytes, own: bytes, *, progress: bool) -> bytes:
    """A question of a 2025 backend (``fitted``) under our raw id, which is the token of its ``progress``, too."""
    edits: Edits = {"id": own}
    if progress:
        edits = {**edits, "params": {"_meta": {"progressToken": own}}}
    return splice.rewrite(fit, edits)


def progress_to(raw: bytes, say: Callable[[bytes], Awaitable[None]]) -> OnProgress | None:
    """What tells the backend that asked ``raw`` of its client's progress, under its own token; None: it wants none."""
    token = splice.value_at(raw, _TOKEN)
    if token is None:
        return None

    async def on_progress(notice: jsonrpc.RpcNotification) -> None:
        await say(splice.rewrite(notice.raw, {"params": {"progressToken": token}}))

    return on_progress


def allowed(method: str, params: Params, capabilities: JsonObject) -> bool:
    """Whether a client with these capabilities may be asked this.

    "Servers MUST NOT send elicitation requests with modes that are not supported
    by the client" (MCP 2025-11-25 client/elicitation); ``elicitation: {}`` means form only, ``{"url": {}}`` URLs only.
    """
    need = CAPABILITY.get(method)
    declared = capabilities.get(need) if need else None
    if not isinstance(declared, dict):
        return False
    part = _part_of(method, params)
    return part is None or part in declared or (part == "form" and "url" not in declared)


def needed_for(method: str, params: Params) -> JsonObject:
    """The capabilities that a client must declare to be asked this."""
    part = _part_of(method, params)
    return {CAPABILITY[method]: {} if part is None else {part: {}}}


def _part_of(method: str, params: Params) -> str | None:
    """Which part of the capability a question needs; None: any declaration will do."""
    if method == "elicitation/create":
        return str(params.get("mode", "form"))
    return "tools" if method == "sampling/createMessage" and ("tools" in params or "toolChoice" in params) else None


def fitted(inbound: Inbound, client: Era, map_uri: MapUri | None) -> bytes:
    """The question of a 2025 backend as the client's revision has it, still under the backend's id, without its token.

    Args:
        map_uri: of the call that asks; None leaves URIs as they are.
    Raises:
        RemoteFault: a member that had to be changed is there twice.
    """
    params = splice.value_at(inbound.raw, ("params",))
    if params is None:
        return inbound.raw
    fit = translate.server_request_params(inbound.method, params, client=client, uri_map=map_uri)
    return splice.rewrite(inbound.raw, {"params": fit})


def answer_for(question_id: bytes, response: jsonrpc.RpcResponse, uri_back: MapUri | None) -> bytes:
    """The client's response with the id under which the backend asked, and the backend's own URIs."""
    edits: dict[str | int, bytes | splice.Remove | splice.Edits] = {"id": question_id}
    given = splice.value_at(response.raw, ("result",))
    if given is not None:
        edits["result"] = translate.answer(given, uri_back=uri_back)
    return splice.rewrite(response.raw, edits)
