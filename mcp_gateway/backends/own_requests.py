"""The gateway's own requests to a backend: probes, lists, subscriptions.

Owns how such a request is written in each era and how its answer is read.
Deliberately has no deadline of its own other than the one it is given per request.
Invariant: the gateway asks in its own name, with no client capabilities (``capability_probe`` borrows some).
"""

from typing import Final

import orjson
import trio

from mcp_gateway import __version__
from mcp_gateway.backends.transports import greeting
from mcp_gateway.backends.transports.asking import asking
from mcp_gateway.backends.transports.base import Answer, ClientIdentity, Hear, Hello, Inbound, Link, Outgoing
from mcp_gateway.backends.transports.session_sign import speaks_of_session
from mcp_gateway.errors import (
    BackendError,
    BackendProtocol,
    BackendRefused,
    BackendSessionLost,
    BackendTimeout,
    Limit,
    MalformedMessage,
    RemoteFault,
)
from mcp_gateway.protocol import json_text, splice
from mcp_gateway.protocol.eras import Era
from mcp_gateway.values import BackendKey, Header, JsonObject, JsonValue

GATEWAY: Final = ClientIdentity(info=orjson.dumps({"name": "mcp-gateway", "version": __version__}))
"""Who the gateway is on sessions of its own: nobody who could be asked anything."""
METHOD_NOT_FOUND: Final = -32601
_META: Final = "io.modelcontextprotocol/"


def request(
    method: str,
    params: JsonObject,
    era: Era,
    *,
    identity: ClientIdentity = GATEWAY,
    headers: tuple[Header, ...] = (),
    progress: bool = False,
) -> Outgoing:
    """One request that is nobody's call, on the control connections, in the form of ``era``.

    Args:
        identity: who asks, where the request itself has to say so.
        headers: see ``Outgoing``.
        progress: the backend is to tell how far it is.
    """
    meta: JsonObject = {}
    if era.modern:
        meta = {
            _META + "protocolVersion": era.version,
            _META + "clientCapabilities": json_text.parse(identity.capabilities),
            _META + "clientInfo": json_text.parse(identity.info),
        }

    def render(upstream_id: int) -> bytes:
        told = {**meta, "progressToken": upstream_id} if progress else meta
        whole = {**params, "_meta": told} if told else params
        return json_text.dumps({"jsonrpc": "2.0", "id": upstream_id, "method": method, "params": whole})

    return Outgoing(method=method, render=render, headers=headers, control=True)


async def ask(link: Link, backend: BackendKey, outgoing: Outgoing, hear: Hear, within_s: float) -> bytes:
    """Send one request and give the raw JSON of its result.

    Raises:
        BackendTimeout: no answer after ``within_s``.
        BackendRefused: the answer is a JSON-RPC error.
        BackendProtocol: the answer is not a response.
        BackendError: what ``Link.exchange`` raises.
    """
    answer: Answer | None = None
    with asking(outgoing.method):
        with trio.move_on_after(within_s):
            answer = await link.exchange(outgoing, hear)
        if answer is None:
            raise BackendTimeout(backend=backend, after_s=within_s, limit=Limit.CALL)
        return result_of(answer, backend)


async def stands(link: Link, backend: BackendKey, hear: Hear, within_s: float) -> bool:
    """Whether a backend answers a ping in this session; an error is a sign of life too, unless it is about the session.

    Raises:
        BackendSessionLost: it says for certain that it knows the session no more.
    """
    try:
        await ask(link, backend, request("ping", {}, link.era), hear, within_s)
    except BackendSessionLost:
        raise
    except BackendRefused as refused:
        return refused.status < 500 and not speaks_of_session(refused.message.encode())
    except (BackendError, RemoteFault):
        return False
    return True


def result_of(answer: Answer, backend: BackendKey) -> bytes:
    """The raw ``result`` of an answer.

    Raises:
        BackendRefused, BackendProtocol: see ``ask``.
    """
    try:
        result = splice.value_at(answer.raw, ["result"])
        error = None if result is not None else splice.value_at(answer.raw, ["error"])
        fault: JsonValue = None if error is None else json_text.parse(error)
    except MalformedMessage as exc:
        raise BackendProtocol(backend=backend, why="an answer that is not JSON-RPC") from exc
    if result is not None:
        return result
    if not isinstance(fault, dict):
        raise BackendProtocol(backend=backend, why="an answer with neither result nor error")
    raise greeting.refused(backend, fault, answer.status)


def read_hello(result: bytes, era: Era, backend: BackendKey) -> Hello:
    """What the result of ``server/discover`` says, read in the era in which it was asked.

    Raises:
        BackendProtocol: not a DiscoverResult, or one that no longer offers this revision.
    """
    try:
        body = json_text.parse(result)
    except MalformedMessage as exc:
        raise BackendProtocol(backend=backend, why="server/discover answered no JSON") from exc
    if not isinstance(body, dict):
        raise BackendProtocol(backend=backend, why="server/discover answered no object")
    versions = body.get("supportedVersions")
    if not isinstance(versions, list) or era.version not in versions:
        raise BackendProtocol(backend=backend, why=f"server/discover no longer offers {era.version}")
    return greeting.discovered(body, era)


def answer_to(id_raw: bytes, *, result: bytes | None = None) -> bytes:
    """The response to a request of the backend: ``result``, or "method not found" without one."""
    body = b'"result":' + result if result is not None else b'"error":{"code":-32601,"message":"Method not found"}'
    return b'{"jsonrpc":"2.0","id":' + id_raw + b"," + body + b"}"


async def pong(link: Link, inbound: Inbound) -> bool:
    """Answer a ping at once; True if it was one."""
    if inbound.method != "ping" or inbound.id_raw is None:
        return False
    await link.notify(answer_to(inbound.id_raw, result=b"{}"))
    return True


async def answer_alone(link: Link, inbound: Inbound) -> None:
    """Answer a request that no client is there for: a ping with a pong, anything else with a refusal."""
    if not await pong(link, inbound) and inbound.id_raw is not None:
        await link.notify(answer_to(inbound.id_raw))
