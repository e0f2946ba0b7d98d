"""The real connector: chooses the transport that a spec and its backend ask for.

Owns the connection pool of an HTTP backend and the choice between Streamable
HTTP and HTTP+SSE. Deliberately no retries: a choice that turns out wrong fails
once, and the supervisor's next attempt gets the other one. A backend that gives no
verdict is taken for a legacy one, provisionally: only who refuses ``initialize`` refuses.
Invariant: whatever ``link`` opened is closed when its block is left.
Spec: docs/protocol.md.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from mcp_gateway.backends.connector import Connection, Listen, Verdict
from mcp_gateway.backends.observer import SILENT, Observer
from mcp_gateway.backends.transports.base import ClientIdentity, Hear
from mcp_gateway.backends.transports.era_probe import EraKind, EraVerdict
from mcp_gateway.backends.transports.http_client import HttpPool
from mcp_gateway.backends.transports.legacy_sse import open_legacy_sse
from mcp_gateway.backends.transports.pipe import PipeLink
from mcp_gateway.backends.transports.stdio import open_stdio
from mcp_gateway.backends.transports.streamable_http import (
    LegacyHttpLink,
    ModernHttpLink,
    NoStream,
    discover,
    open_legacy,
    probe_era,
)
from mcp_gateway.config.spec import HttpTarget, ServerSpec, StdioTarget, TransportKind
from mcp_gateway.errors import BackendBusy, BackendError, BackendProtocol, LocalFault
from mcp_gateway.protocol.eras import LEGACY_VERSIONS, NEWEST_LEGACY, NEWEST_MODERN
from mcp_gateway.protocol.translate import client_capabilities

logger = logging.getLogger(__name__)

_NO_HEADERS = "forwardHeaders are not sent: it speaks HTTP+SSE, whose one connection is shared by clients"
_STDIO = Verdict(transport="stdio")
_PROVISIONAL = Verdict(transport="streamable-http", modern=False, offer=NEWEST_LEGACY.version, provisional=True)
_NO_POST_HERE = (400, 404, 405)


@attrs.define(eq=False, kw_only=True)
class SpecConnector:
    """The ways to reach the backend of one spec (a ``Connector``)."""

    spec: ServerSpec
    observer: Observer = SILENT
    hurry: trio.Event = attrs.field(factory=trio.Event)
    """Set when the gateway shuts down: goodbyes must not take long any more."""
    _pool: HttpPool | None = None
    _no_post: int | None = None
    """The HTTP status by which ``initialize`` was answered as if nobody took POSTs here: see whether it is HTTP+SSE."""
    _asked_to_wait: bool = False
    """The probe was answered with the time to come back, which is not asked about again but followed."""
    _legacy_links: int = 0
    """Open sessions; while there is one, POSTs are taken here, whatever the next ``initialize`` is answered."""

    async def detect(self) -> Verdict:
        """See ``Connector.detect``."""
        if isinstance(self.spec.target, StdioTarget):
            await trio.lowlevel.checkpoint()
            return _STDIO
        if self.spec.transport is TransportKind.SSE or self._no_post is not None:
            await trio.lowlevel.checkpoint()
            return self._sse()
        if self._asked_to_wait:  # it is over: what begins a legacy session was not refused yet
            self._asked_to_wait = False
            await trio.lowlevel.checkpoint()
            return _PROVISIONAL
        found = await self._probe()
        match found.kind:
            case EraKind.MODERN:
                return await self._modern(found)
            case EraKind.SSE if self.spec.transport is TransportKind.AUTO and not await self._takes_posts():
                return self._sse()
            case EraKind.LEGACY:
                offer = found.era or NEWEST_LEGACY
                return Verdict(transport="streamable-http", modern=False, offer=offer.version)
            case _:
                return _PROVISIONAL

    async def reconsider(self, verdict: Verdict) -> Verdict:
        """See ``Connector.reconsider``."""
        try:
            found = await probe_era(self._http(), self.spec.limits)
            match found.kind:
                case EraKind.MODERN:
                    return await self._modern(found)
                case EraKind.LEGACY:
                    return attrs.evolve(verdict, provisional=False)
                case _:
                    return verdict
        except BackendError as error:
            logger.debug("no verdict yet", extra={"backend": self.spec.key, "why": error.reason})
            return verdict

    @asynccontextmanager
    async def link(
        self,
        verdict: Verdict,
        identity: ClientIdentity,
        unattributed: Hear,
        stderr: Callable[[bytes], None],
    ) -> AsyncIterator[Connection]:
        """See ``Connector.link``."""
        offered = self._offered(verdict, identity)
        match verdict:
            case Verdict(transport="stdio"):
                opening = self._open_stdio(verdict, offered, unattributed, stderr)
            case Verdict(transport="sse"):
                opening = self._open_sse(offered, unattributed)
            case Verdict(modern=True):
                opening = self._open_modern(verdict)
            case _:
                opening = self._open_legacy(verdict, offered)
        async with opening as connection:
            yield connection

    def tidy(self) -> None:
        """See ``Connector.tidy``."""
        if self._pool is not None:
            self._pool.sweep()

    async def aclose(self) -> None:
        """See ``Connector.aclose``."""
        if self._pool is not None:
            await self._pool.aclose()

    def _http(self) -> HttpPool:
        """The pool; made on first use, so that a target it refuses is a failure of this backend alone."""
        if self._pool is None:
            target, limits = self.spec.target, self.spec.limits
            assert isinstance(target, HttpTarget)
            try:
                self._pool = HttpPool(
                    key=self.spec.key,
                    target=target,
                    connect_s=self.spec.timeouts.connect_s,
                    # and the gateway's own: one, two while it is replaced, and that of a survey's session
                    streams=limits.upstream_sessions + 3,
                    observer=self.observer,
                )
            except LocalFault as fault:
                raise BackendProtocol(backend=self.spec.key, why=str(fault)) from fault
        return self._pool

    async def _probe(self) -> EraVerdict:
        try:
            return await probe_era(self._http(), self.spec.limits, self.spec.protocol)
        except BackendBusy as busy:
            self._asked_to_wait = self.spec.protocol is None and busy.retry_after_ms is not None
            raise

    async def _modern(self, found: EraVerdict) -> Verdict:
        """The verdict on a backend that is modern; if it refused the probe it is asked in its own revision."""
        hello = found.hello or await discover(self._http(), self.spec.limits, era=found.era or NEWEST_MODERN)
        return Verdict(transport="streamable-http", modern=True, hello=hello)

    async def _takes_posts(self) -> bool:
        """Whether a backend that answers the probe as if it took no POST here initializes sessions all the same.

        "If it fails with ... 400 Bad Request, 404 Not Found or 405 Method Not Allowed: issue a GET request" -- said of
        ``initialize``, MCP 2025-11-25 basic/transports, Backwards Compatibility.
        """
        try:
            link = await open_legacy(
                self._http(),
                identity=ClientIdentity(),
                offer=NEWEST_LEGACY.version,
                limits=self.spec.limits,
                control=True,
            )
        except BackendProtocol as fault:
            if fault.status not in _NO_POST_HERE:
                raise
            self._no_post = fault.status
            return False
        await link.aclose()
        return True

    def _sse(self) -> Verdict:
        """HTTP+SSE, where nobody could know before that headers cannot be forwarded."""
        target = self.spec.target
        forwards = isinstance(target, HttpTarget) and target.forward_headers
        return Verdict(transport="sse", modern=False, caveat=_NO_HEADERS if forwards else "")

    def _offered(self, verdict: Verdict, identity: ClientIdentity) -> ClientIdentity:
        """The identity with the revision to offer: the configured one, else the caller's, else what suits the backend.

        A caller's modern revision cannot be offered in ``initialize``.
        """
        version = self.spec.protocol or identity.version
        if version not in LEGACY_VERSIONS:
            version = verdict.offer
        # A session of 2025 has no extension of tasks, whatever its client has.
        return attrs.evolve(identity, capabilities=client_capabilities(identity.capabilities), version=version)

    # --- one context per kind of link ---

    @asynccontextmanager
    async def _open_modern(self, verdict: Verdict) -> AsyncIterator[Connection]:
        hello = verdict.hello
        if hello is None:
            raise LocalFault(what="a modern verdict without what the backend said")
        link = ModernHttpLink(pool=self._http(), hello=hello, limits=self.spec.limits)
        try:
            yield Connection(link=link, hello=hello)
        finally:
            await link.aclose()

    @asynccontextmanager
    async def _open_legacy(self, verdict: Verdict, identity: ClientIdentity) -> AsyncIterator[Connection]:
        try:
            link = await open_legacy(
                self._http(),
                identity=identity,
                offer=identity.version or NEWEST_LEGACY.version,
                limits=self.spec.limits,
                control=True,  # calls that fill all places must not keep others from beginning
            )
        except BackendProtocol as fault:
            known = self._legacy_links or verdict.hello is not None  # POSTs are taken here
            unheard_of = not known and fault.status in _NO_POST_HERE
            if self.spec.transport is TransportKind.AUTO and unheard_of:
                self._no_post = fault.status
            raise
        self._legacy_links += 1
        try:
            yield Connection(link=link, hello=link.hello, listen=_listening(link), doubts=link.doubts)
        finally:
            self._legacy_links -= 1
            await link.aclose()

    @asynccontextmanager
    async def _open_sse(self, identity: ClientIdentity, unattributed: Hear) -> AsyncIterator[Connection]:
        ending = _Ending()
        opened = False
        try:
            async with open_legacy_sse(
                self._http(),
                limits=self.spec.limits,
                unattributed=unattributed,
                identity=identity,
                on_exit=ending.tell,
                observer=self.observer,
                pinned=identity.version,
                shared=_nobody_is_asked(identity),
            ) as link:
                opened = True
                yield _piped(link, ending)
        except BackendProtocol as fault:
            if opened or self._no_post is None:
                raise
            raise attrs.evolve(fault, why=f"{fault.why}, and HTTP {self._no_post} for initialize") from fault
        finally:
            if not opened:
                self._no_post = None  # a GET gives no endpoint either: ask again from the beginning

    @asynccontextmanager
    async def _open_stdio(
        self, verdict: Verdict, identity: ClientIdentity, unattributed: Hear, stderr: Callable[[bytes], None]
    ) -> AsyncIterator[Connection]:
        target = self.spec.target
        assert isinstance(target, StdioTarget)
        ending = _Ending()
        async with open_stdio(
            key=self.spec.key,
            target=target,
            limits=self.spec.limits,
            unattributed=unattributed,
            on_exit=ending.tell,
            observer=self.observer,
            identity=identity,
            stderr=stderr,
            hurry=self.hurry,
            pinned=self.spec.protocol or (_legacy_offer(identity) if verdict.modern is False else None),
            shared=_nobody_is_asked(identity),
        ) as link:
            yield _piped(link, ending)


@attrs.define(eq=False)
class _Ending:
    """The reason why a pipe ended by itself, once it has."""

    _why: str = ""
    _event: trio.Event = attrs.field(factory=trio.Event)

    def tell(self, why: str) -> None:
        self._why = why
        self._event.set()

    async def wait(self) -> str:
        await self._event.wait()
        return self._why


def _piped(link: PipeLink, ending: _Ending) -> Connection:
    return Connection(link=link, hello=link.hello, gone=ending.wait)


def _legacy_offer(identity: ClientIdentity) -> str:
    return identity.version or NEWEST_LEGACY.version


def _nobody_is_asked(identity: ClientIdentity) -> bool:
    """A pipe that declares nothing may carry anybody's calls."""
    return identity.capabilities == b"{}"


def _listening(link: LegacyHttpLink) -> Listen:
    return lambda hear, opened: _listen(link, hear, opened)


async def _listen(link: LegacyHttpLink, hear: Hear, opened: Callable[[], None]) -> bool:
    """``connector.Listen`` on one link."""
    accepted = trio.Event()
    failure: BackendError | None = None
    has_stream = True

    async def tell() -> None:
        await accepted.wait()
        opened()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        try:
            await link.listen(hear, accepted)
        except NoStream:
            has_stream = False
        except BackendError as error:
            failure = error
        nursery.cancel_scope.cancel("stream ended")
    if failure is not None:
        raise failure
    return has_stream
