"""One request to its backend and its answer back, in any pair of eras.

Owns the translation of a request on its way up and of the answer on its way
down, and the loop that lets a 2025 client answer a 2026 backend's
``input_required``. Deliberately opens no deadline (the caller's scope is the
call's) and parks nothing (``parking``). Invariant: what the gateway does not act
on goes through byte for byte (design, invariant 6).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import trio

from mcp_gateway.backends.backend import Backend
from mcp_gateway.backends.transports.base import Answer, Hear, Link, Outgoing, Polled, unpolled
from mcp_gateway.backends.upstream import Upstream
from mcp_gateway.config.spec import HttpTarget
from mcp_gateway.errors import BackendProtocol, Executed, RemoteFault
from mcp_gateway.gateway import input_required
from mcp_gateway.gateway.calls import CallClock
from mcp_gateway.gateway.ear import Ear, progress_token
from mcp_gateway.gateway.errand import Errand, Outcome, error_response
from mcp_gateway.gateway.input_required import InputRequired
from mcp_gateway.gateway.log_levels import LogLevels
from mcp_gateway.gateway.questionnaire import Questionnaire
from mcp_gateway.gateway.server_requests import allowed, needed_for
from mcp_gateway.protocol import headers as mcp_headers
from mcp_gateway.protocol import json_text, jsonrpc, splice, tasks, translate
from mcp_gateway.protocol.content import MapUri
from mcp_gateway.protocol.envelope import META_SERVER_INFO
from mcp_gateway.protocol.eras import Era, Family
from mcp_gateway.protocol.extensions import is_custom
from mcp_gateway.protocol.methods import named_by
from mcp_gateway.protocol.splice import Edits
from mcp_gateway.protocol.wire_errors import (
    HEADER_MISMATCH,
    INTERNAL,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    URL_ELICITATION,
)
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.values import Header, JsonObject

LARGE_BYTES: Final = 2**20
"""Above this an answer that must be reshaped is reshaped in a thread (design section 8)."""
MAX_ROUNDS: Final = 10
"""How often a 2026 backend may ask for more input within one call (as both SDKs)."""
FIRST_PAUSE_S: Final = 0.05
LAST_PAUSE_S: Final = 0.25
"""Pauses before a retry that carries only requestState."""
THREADS: Final = 2

_IS_ERROR: Final = (b'"isError":true', b'"isError": true')

_HOP_STATUSES: Final = frozenset({401, 403, 407})
"""Between the gateway and its server: a client cannot answer them."""

_MODERN_STATUS: Final = {-32700: 400, -32600: 400, -32601: 404, -32020: 400, -32021: 400, -32022: 400}


def status_for(era: Era, code: int) -> int:
    """The HTTP status of a JSON-RPC error on this face (reference 1.12; a 2025 session always gets 200)."""
    return _MODERN_STATUS.get(code, 200) if era.modern else 200


@attrs.define(eq=False, kw_only=True)
class Relay:
    """Carries errands; one per process."""

    server_info: bytes
    """Our own Implementation object, raw JSON."""
    levels: LogLevels = attrs.field(factory=LogLevels)
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(THREADS))

    async def fetch(
        self,
        errand: Errand,
        backend: Backend,
        hear: Hear,
        clock: CallClock,
        extra: "Edits | None" = None,
        polled: Polled = unpolled,
    ) -> tuple[Answer, Era]:
        """Send the errand upstream, ``extra`` edits of params included, and wait for the answer.

        A resource that the client's own process does not have is read from the one that has listed it.

        ``clock`` is told how far it gets, ``polled`` that the backend wants to be asked again for the answer.

        Returns:
            The answer, and the revision that it is in.
        Raises:
            BackendError: also for words of the backend that cannot be passed on.
            MalformedMessage: the client's own request cannot be passed on.
        """
        upstream, answer = await self._fetch(errand, backend, hear, clock, extra, polled)
        if errand.method == "resources/read" and backend.pipe and not upstream.key.everybodys and is_missing(answer):
            elsewhere = attrs.evolve(errand, caller=errand.caller.like_anybody, log_level=None)
            shared, other = await self._fetch(elsewhere, backend, hear, clock, extra, polled)
            if not other.parts.is_error:
                return other, shared.link.era
        return answer, upstream.link.era

    async def _fetch(
        self,
        errand: Errand,
        backend: Backend,
        hear: Hear,
        clock: CallClock,
        extra: "Edits | None",
        polled: Polled,
    ) -> tuple[Upstream, Answer]:
        upstream = await backend.reach.upstream_for(errand.caller)
        era = upstream.link.era
        await self.levels.ensure(backend, errand.caller, upstream.link, errand.log_level)
        renewed = partial(self._tell_again, errand, backend)
        outgoing = Outgoing(
            method=errand.method,
            render=Rendering(errand=errand, era=era, extra=extra or {}, begun=clock.begin).render,
            headers=self._headers(errand, backend, era),
            polled=polled,
            family=era.family,
            task=errand.awaits_task,
        )
        try:
            answer = await backend.exchange(errand.caller, outgoing, hear, clock.queue, renewed, on=upstream)
            if era.modern and errand.method == "tools/call" and mismatches(answer):
                again = attrs.evolve(outgoing, headers=await self._headers_anew(errand, backend, era))
                if again.headers != outgoing.headers:
                    return upstream, await backend.exchange(errand.caller, again, hear, clock.queue)
        except RemoteFault as fault:
            if not clock.sent:
                raise
            raise broken(errand, Executed.UNKNOWN, fault) from fault
        return upstream, answer

    async def _tell_again(self, errand: Errand, backend: Backend, link: Link) -> None:
        """A session was lost, and the request goes up again in another one."""
        await self.levels.ensure(backend, errand.caller, link, errand.log_level)

    async def _headers_anew(self, errand: Errand, backend: Backend, era: Era) -> tuple[Header, ...]:
        """The call's headers by what its tool says now.

        On -32020 a client "SHOULD refresh tools/list and retry once" (2026-07-28 basic/transports/streamable-http).
        """
        await backend.reread()
        listing = (backend.snapshot.lists(Family.MODERN) or {}).get(Kind.TOOLS)
        items = listing.items if listing is not None else ()
        fresh = next((item.headers for item in items if item.name == errand.target.upstream), errand.target.headers)
        target = attrs.evolve(errand.target, headers=fresh)
        return self._headers(attrs.evolve(errand, target=target), backend, era)

    async def run(self, errand: Errand, backend: Backend, ear: Ear) -> Outcome:
        """Carry one errand to its end.

        Raises:
            BackendError: the backend could not do its part.
        """
        extra: Edits = {}
        pause_s = FIRST_PAUSE_S
        rounds = 0
        while True:
            answer, era = await self.fetch(errand, backend, ear.hear, ear.clock, extra, ear.outlet.rest)
            asked = self._asked(errand, era, answer)
            undeclared = None if asked is None else asked.undeclared(errand.capabilities)
            if undeclared is not None:
                return may_not_be_asked(errand, undeclared.method, undeclared.value)
            if asked is None or errand.client.modern:  # a 2026 client comes back by itself
                outcome = await self.outcome(errand, era, answer)
                if errand.tasks is not None and not answer.parts.is_error:
                    errand.tasks.saw(errand.method, answer.parts.result, era)
                return outcome
            rounds += 1
            if rounds == MAX_ROUNDS:
                why = f"asked for input {MAX_ROUNDS} times in a row"
                raise BackendProtocol(backend=backend.key, executed=Executed.UNKNOWN, why=why)
            if asked.questions:
                answers = await self._put(asked, ear)
                if isinstance(answers, Outcome):
                    return answers
                extra = {"inputResponses": answers}
            else:
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_PAUSE_S)
                extra = {}
            extra = {**extra, "requestState": asked.state} if asked.state is not None else extra

    async def _put(self, asked: InputRequired, ear: Ear) -> bytes | Outcome:
        """Ask a 2025 client; its answers, or how the call ends without them."""
        try:
            return await Questionnaire(ear=ear, questions=asked.questions).ask()
        except RemoteFault as fault:
            raise broken(ear.errand, Executed.UNKNOWN, fault) from fault

    def _asked(self, errand: Errand, era: Era, answer: Answer) -> InputRequired | None:
        """What a 2026 backend wants to know; None when the answer is final."""
        if not era.modern:
            return None
        try:
            parts = answer.parts
            interim = not parts.is_error and wants_input(errand, parts.result)
            return input_required.read(parts.result) if interim else None
        except RemoteFault as fault:
            raise broken(errand, Executed.UNKNOWN, fault) from fault

    def stamped(self, result: bytes) -> bytes:
        """A modern result of our own, with who we are in its metadata."""
        return splice.rewrite(result, {"_meta": {META_SERVER_INFO: self.server_info}})

    def stamped_complete(self, result: bytes) -> bytes:
        """A 2025 result of our own in the modern form."""
        return self.stamped(splice.rewrite(result, {"resultType": b'"complete"'}))

    async def outcome(self, errand: Errand, era: Era, answer: Answer) -> Outcome:
        """The client's form of a backend's final answer."""
        if len(answer.raw) > LARGE_BYTES and (errand.client is not era or errand.target.uri_map):
            return await trio.to_thread.run_sync(self.outcome_now, errand, era, answer, limiter=self._limiter)
        return self.outcome_now(errand, era, answer)

    def outcome_now(self, errand: Errand, era: Era, answer: Answer) -> Outcome:
        """The same without waiting; pure.

        Raises:
            BackendProtocol: the answer is not one that can be passed on.
        """
        try:
            parts = answer.parts
            if parts.is_error:
                return self._error(errand, era, parts.result, answer.status)
            result = translate.result(
                # "exactly what the underlying request would have returned", and only tools are called as tasks
                "tools/call" if errand.awaits_task else errand.method,
                parts.result,
                client=errand.client,
                backend=era,
                server_info=self.server_info,
                uri_map=outward(errand),
                extended=bool(errand.extensions),
                may_be_task=errand.tasks is not None,
            )
            if errand.tasks is not None:
                result = errand.tasks.result(errand.method, result, era)
        except RemoteFault as fault:
            raise broken(errand, Executed.YES, fault) from fault
        # Only a label: a result that holds another result with such a member is counted as its error, too.
        failed = any(spelling in parts.result for spelling in _IS_ERROR)
        body = jsonrpc.render_result(errand.message.id_raw, result)
        return Outcome(status=200, body=body, label="tool_error" if failed else "ok")

    def _error(self, errand: Errand, era: Era, error_raw: bytes, said: int) -> Outcome:
        """A backend's own error; ``said`` is the HTTP status that it came with."""
        error = translate.error(error_raw, method=errand.method, client=errand.client, backend=era, uri=errand.uri)
        code = error_code(error)
        # Said of our hop; passed on, it would say that the gateway lacks the version.
        if era.modern and code == UNSUPPORTED_VERSION:
            why = f"it does not speak {era.version} any more"
            raise BackendProtocol(backend=errand.target.backend, executed=Executed.NO, why=why)
        if era.modern and not errand.client.modern and code == MISSING_CAPABILITY and tasks.demanded(error):
            error = splice.rewrite(error, {"message": json_text.dumps(tasks.NOT_BRIDGED_BACK)})
        if errand.client.modern and code == URL_ELICITATION:
            return self._urls_first(errand, error)
        body = error_response(errand.message.id_raw, error)
        # 2026-07-28 gives few of its errors a status; of the others each server thinks for itself.
        own = errand.client.modern and era.modern and 400 <= said < 500 and said not in _HOP_STATUSES
        return Outcome(status=said if own else status_for(errand.client, code), body=body, label="error")

    def _urls_first(self, errand: Errand, error: bytes) -> Outcome:
        """A 2025-11-25 backend's "open these URLs first" as what 2026 has for it; the retry is the call itself.

        -32042 itself must not leave the modern face. Spec: MCP 2025-11-25 client/elicitation, "URL Elicitation Required
        Error"; MCP 2026-07-28 basic/patterns/mrtr.
        """
        id_raw, requests = errand.message.id_raw, url_elicitations(error)
        if not requests or errand.method not in translate.INTERIM:
            body = error_response(id_raw, splice.rewrite(error, {"code": b"%d" % INTERNAL}))
            return Outcome(status=200, body=body, label="error")
        if not allowed("elicitation/create", {"mode": "url"}, errand.capabilities):
            return may_not_be_asked(errand, "elicitation/create", {"mode": "url"})
        asked: Edits = dict(requests.items())
        interim: Edits = {"inputRequests": splice.rewrite(b"{}", asked)}
        result = self.stamped(splice.rewrite(b'{"resultType":"input_required"}', interim))
        return Outcome(status=200, body=jsonrpc.render_result(id_raw, result), label="input_required")

    def _headers(self, errand: Errand, backend: Backend, era: Era) -> tuple[Header, ...]:
        forwarded = forwarded_headers(errand, backend)
        if not era.modern:
            return forwarded
        own: list[Header] = []
        name = name_upstream(errand)
        if name is not None:
            own.append((b"Mcp-Name", mcp_headers.encode_value(name)))
        if errand.method == "tools/call":
            own.extend(mcp_headers.mirror(errand.target.headers, errand.message.params.get("arguments")))
        return (*own, *forwarded)


@attrs.frozen(kw_only=True)
class Rendering:
    """Writes one errand as the request its backend gets."""

    errand: Errand
    era: Era
    extra: Edits
    begun: Callable[[], None]

    @property
    def _log_level(self) -> str | None:
        """What the client wants to hear; a 2025 client that has not said so gets what the backend would send by itself.

        "If no logging/setLevel request has been received from the client, the server MAY decide which messages to
        send automatically." -- MCP 2025-11-25 server/utilities/logging; the SDKs send all.
        """
        return self.errand.log_level or (None if self.errand.client.modern else "debug")

    def render(self, upstream_id: int) -> bytes:
        """The whole JSON-RPC request under ``upstream_id``."""
        id_raw = b"%d" % upstream_id
        token = progress_token(self.errand.message.raw)
        if token is not None:  # one that is good longer than this request is
            token = tasks.progress_token(token, upstream_id) if self.errand.becomes_task else id_raw
        identity = self.errand.caller.identity
        params = translate.request_params(
            splice.value_at(self.errand.message.raw, ("params",)),
            client=self.errand.client,
            backend=self.era,
            edits={**self.errand.edits, **self.extra},
            meta=translate.MetaEdits(
                progress_token=token,
                capabilities=identity.capabilities,
                client_info=identity.info,
                log_level=self._log_level,
            ),
            uri_back=self.errand.uri_back,
            custom=is_custom(self.errand.method),
            may_be_task=self.errand.tasks is not None and self.era.tasks,
        )
        if self.errand.tasks is not None:
            params = self.errand.tasks.params(params)
        request = splice.rewrite(self.errand.message.raw, {"id": id_raw, "params": params})
        self.begun()
        return request


def name_upstream(errand: Errand) -> str | None:
    """What ``Mcp-Name`` says to a modern backend: what its own params say."""
    if named_by(errand.method):
        return errand.target.upstream
    if not is_custom(errand.method):
        return None
    params = errand.message.params
    member = mcp_headers.custom_name(params, errand.headers, modern=errand.client.modern)
    edit = errand.edits.get(member) if member is not None else None
    value = json_text.parse(edit) if isinstance(edit, bytes) else params.get(member or "")
    return value if isinstance(value, str) else None


def outward(errand: Errand) -> MapUri | None:
    """How URIs in the answer are mapped. The resource that was asked for keeps the URI that the client used: one that
    expands a template like ``{+path}`` has another spelling than the backend's own URI mapped.
    """
    out, target = errand.uri_out, errand.target
    if out is None or errand.method != "resources/read":
        return out
    return lambda uri: target.federated if uri == target.upstream else out(uri)


def broken(errand: Errand, executed: Executed, fault: RemoteFault) -> BackendProtocol:
    """What a backend said cannot be passed on: its fault, never the client's."""
    return BackendProtocol(backend=errand.target.backend, executed=executed, why=fault.what)


def may_not_be_asked(errand: Errand, method: str, params: JsonObject) -> Outcome:
    """The outcome of a call whose backend needs what this client has not declared, in the words of the client's era."""
    code = MISSING_CAPABILITY if errand.client.modern else METHOD_NOT_FOUND
    data: JsonObject | None = {"requiredCapabilities": needed_for(method, params)} if errand.client.modern else None
    body = jsonrpc.render_error(errand.message.id_raw, code, f"the client cannot do {method}", data)
    return Outcome(status=status_for(errand.client, code), body=body, label="refused")


def forwarded_headers(errand: Errand, backend: Backend) -> tuple[Header, ...]:
    """The client's headers that the backend's configuration lets through (nothing by default, invariant 3)."""
    target = backend.spec.target
    names = target.forward_headers if isinstance(target, HttpTarget) else ()
    return tuple(header for header in errand.headers if header[0].decode("latin-1") in names) if names else ()


def mismatches(answer: Answer) -> bool:
    """Whether a modern backend refused the call because of a header, which means that it was not executed."""
    if answer.status != 400:
        return False
    parts = answer.parts
    return parts.is_error and error_code(parts.result) == HEADER_MISMATCH


def is_missing(answer: Answer) -> bool:
    """Whether a backend has no such resource, as each era and each SDK says it."""
    parts = answer.parts
    return parts.is_error and error_code(parts.result) in (RESOURCE_NOT_FOUND, INVALID_PARAMS)


def wants_input(errand: Errand, result: bytes) -> bool:
    """Whether a 2026 result is interim."""
    return (
        b'"input_required"' in result
        and errand.method in translate.INTERIM
        and splice.value_at(result, ("resultType",)) == b'"input_required"'
    )


def url_elicitations(error: bytes) -> dict[str, bytes]:
    """The ``inputRequests`` that stand for the elicitations of a -32042."""
    json_text.parse(error)
    wanted = splice.value_at(error, ("data", "elicitations")) or b""
    spans = splice.elements(wanted) if wanted.startswith(b"[") else []
    return {
        f"k{number}": translate.input_request("elicitation/create", wanted[start:end])
        for number, (start, end) in enumerate(spans, 1)
        if wanted.startswith(b"{", start)
    }


def error_code(error: bytes) -> int:
    """The code of a raw JSON-RPC error object; internal error when there is none."""
    code = splice.value_at(error, ("code",))
    try:
        return int(code) if code is not None else -32603
    except ValueError:
        return -32603
