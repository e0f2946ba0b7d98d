"""The configuration that a controller has compiled for the data plane, entry by entry.

Owns how it is read: by the readers of the file, leniently. Deliberately fetches nothing.
Invariants: a bad entry falls alone, under its name and with the reason; what requires something
that this version does not know is not served at all, be it an entry or the whole; nothing in it
starts a process or reads a file or a variable of this machine.

The document is that of ``kube.reconcile.compile``: the one of a file, with ``schema``, ``requires``
and a ``revision`` for each entry.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias, TypeVar

import attrs
import orjson

from mcp_gateway.config import document
from mcp_gateway.config.document import Node
from mcp_gateway.config.entries import gateway, sessions, virtual_server
from mcp_gateway.config.rules import GATEWAYS, SERVERS, VIRTUAL_SERVERS, violations
from mcp_gateway.config.schema import Context, Item
from mcp_gateway.config.servers import server
from mcp_gateway.config.spec import (
    DrainSpec,
    GatewayEntry,
    GatewaySpec,
    HttpTarget,
    ServerSpec,
    SessionsSpec,
    VirtualServerSpec,
)
from mcp_gateway.errors import ConfigError, ConfigMistake
from mcp_gateway.values import GatewayName, JsonObject, JsonValue

T = TypeVar("T", ServerSpec, VirtualServerSpec, GatewayEntry)
Place: TypeAlias = tuple[str, str]
"""A list of the document, and the name of an entry in it."""

SOURCE: Final = "compiled configuration"
NEWEST_SCHEMA: Final = 2
"""Of this version's schema and the next one, which only adds."""
MAX_DOCUMENT_BYTES: Final = 8 * 2**20
HIDDEN: Final = "[hidden]"
SETTLE_S: Final = 5.0
"""How long a Pod goes on serving after SIGTERM: so long the cluster may still send it new clients."""
KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"gateways"}),
    SERVERS: frozenset({"external", "tools"}),
    VIRTUAL_SERVERS: frozenset({"tools", "prompts", "resources"}),
    GATEWAYS: frozenset({"hosts", "servers", "virtualServers"}),
}
"""What an entry may require, by its list; the document itself first."""


@attrs.frozen(kw_only=True)
class Refused:
    """Why an entry is not served."""

    unsupported: bool
    """It requires what this version does not know; False: it is wrong in itself."""
    why: str


@attrs.frozen(kw_only=True)
class Compiled:
    """What of a document can be served."""

    spec: GatewaySpec
    revision: str
    revisions: Mapping[Place, str]
    """Of each entry, refused ones too."""
    refused: Mapping[Place, Refused]
    notes: tuple[str, ...] = ()


def unpack(packed: bytes) -> bytes:
    """The document out of its gzip.

    Raises:
        ConfigError: it is none, or unpacks to more than ``MAX_DOCUMENT_BYTES``.
    """
    try:
        content = zlib.decompressobj(wbits=31).decompress(packed, MAX_DOCUMENT_BYTES + 1)
    except zlib.error:
        raise _error("is no gzip") from None
    if len(content) > MAX_DOCUMENT_BYTES:
        raise _error(f"unpacks to more than {MAX_DOCUMENT_BYTES} bytes")
    return content


def read_compiled(content: bytes, *, allow_loopback: bool = False) -> Compiled:
    """Read a document.

    Args:
        allow_loopback: servers on this machine may be connected to (for tests).
    Raises:
        ConfigError: it is none, or is of a schema that is too new.
    """
    return _Reading(whole=_object(content), allow_loopback=allow_loopback).run()


def redacted(content: bytes) -> JsonObject:
    """A document for people to read: everything but its secrets.

    Raises:
        ConfigError: it is none that can be read.
    """
    whole = _object(content)
    servers = whole.get("servers")
    shown = [_without_secrets(one) for one in servers] if isinstance(servers, list) else []
    sessions = whole.get("sessions")
    keys = sessions.get("signingKeys") if isinstance(sessions, dict) else None
    hidden: list[JsonValue] = [HIDDEN for _ in keys] if isinstance(keys, list) else []
    return {**whole, "servers": shown, "sessions": {"signingKeys": hidden}}


def _without_secrets(value: JsonValue) -> JsonValue:
    """A server's entry; values of headers are as good as secrets."""
    if not isinstance(value, dict):
        return value
    shown = dict(value)
    if "credential" in shown:
        shown["credential"] = HIDDEN
    headers = shown.get("headers")
    if isinstance(headers, dict):
        shown["headers"] = dict.fromkeys(headers, HIDDEN)
    return shown


def _object(content: bytes) -> JsonObject:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise _error("is not JSON") from None
    if not isinstance(value, dict):
        raise _error("is no JSON object")
    schema = value.get("schema")
    if not isinstance(schema, int) or not 1 <= schema <= NEWEST_SCHEMA:
        raise _error(f"has schema {schema!r:.32}; this version reads 1 to {NEWEST_SCHEMA}")
    return value


def _error(what: str) -> ConfigError:
    return ConfigError(source=SOURCE, mistakes=(ConfigMistake(path="", line=None, what=what),))


def _unknown(entries: str, value: JsonObject) -> str:
    """What a part requires that is not known, for people; empty: nothing."""
    required = value.get("requires", [])
    if not isinstance(required, list):
        return "something that is no list"
    known = KNOWN[entries]
    return ", ".join(str(name)[:64] for name in required if not isinstance(name, str) or name not in known)


@attrs.define(kw_only=True)
class _Reading:
    """One reading of one document."""

    whole: JsonObject
    allow_loopback: bool
    revisions: dict[Place, str] = attrs.field(factory=dict)
    refused: dict[Place, Refused] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)

    def run(self) -> Compiled:
        unknown = _unknown("", self.whole)
        if unknown:
            return self._nothing(f"the whole configuration requires {unknown}, which this version does not know")
        servers = list(self._servers())
        virtual = [spec for spec, _ in self._read(VIRTUAL_SERVERS, lambda item: virtual_server(item)[1])]
        gateways = [spec for spec, _ in self._read(GATEWAYS, lambda item: gateway(item)[1])]
        spec = GatewaySpec(
            servers=tuple(servers),
            virtual_servers=tuple(virtual),
            gateways=tuple(_narrowed(one, servers, virtual) for one in (*gateways, *self._withheld())),
            sessions=self._sessions(),
            drain=DrainSpec(settle_s=SETTLE_S),
        )
        return self._compiled(self._obeying(spec))

    def _nothing(self, why: str) -> Compiled:
        """Every entry is refused: it was written for a reader that would have narrowed it."""
        self.notes.append(f"{why}: upgrade the data plane")
        for entries in (SERVERS, VIRTUAL_SERVERS, GATEWAYS):
            for name, value in self._entries(entries):
                self.revisions[entries, name] = str(value.get("revision") or "")
                self.refused[entries, name] = Refused(unsupported=True, why=why)
        return self._compiled(GatewaySpec(gateways=(), sessions=self._sessions(), drain=DrainSpec(settle_s=SETTLE_S)))

    def _compiled(self, spec: GatewaySpec) -> Compiled:
        return Compiled(
            spec=spec,
            revision=str(self.whole.get("revision") or ""),
            revisions=self.revisions,
            refused=self.refused,
            notes=tuple(self.notes),
        )

    def _withheld(self) -> Iterator[GatewayEntry]:
        """Gateways that were refused keep their hosts, with nothing behind them: else another would answer there."""
        for name, value in self._entries(GATEWAYS):
            hosts = value.get("hosts")
            claimed = tuple(one for one in hosts if isinstance(one, str)) if isinstance(hosts, list) else ()
            if (GATEWAYS, name) in self.refused and claimed:
                yield GatewayEntry(name=GatewayName(name), hosts=claimed, servers=(), virtual_servers=())

    def _servers(self) -> Iterator[ServerSpec]:
        authorities = self.whole.get("authorities")
        known = authorities if isinstance(authorities, dict) else {}
        for spec, value in self._read(SERVERS, server, lambda value: _plain(value, known)):
            target = spec.target
            if not isinstance(target, HttpTarget):
                self._refuse((SERVERS, spec.key), "has a command; in a cluster no process is started")
                continue
            tls = value.get("tls")
            trusts_system = isinstance(tls, dict) and tls.get("systemAuthorities") is True
            routable = not self.allow_loopback or value.get("external") is True
            target = attrs.evolve(
                target,
                routable_only=routable,
                tls=attrs.evolve(target.tls, system_authorities=trusts_system and target.tls.ca_pem is not None),
            )
            yield attrs.evolve(spec, target=target, revision=self.revisions[SERVERS, spec.key])

    def _entries(self, entries: str) -> Iterator[tuple[str, JsonObject]]:
        found = self.whole.get(entries)
        for place, value in enumerate(found if isinstance(found, list) else ()):
            if isinstance(value, dict) and isinstance(value.get("name"), str):
                yield str(value["name"]), value
            else:
                self.notes.append(f"{entries}[{place}]: has no name: ignored")

    def _read(
        self,
        entries: str,
        reader: Callable[[Item], T],
        plain: Callable[[JsonObject], JsonObject] = lambda value: value,
    ) -> Iterator[tuple[T, JsonObject]]:
        """Every entry of a list that can be read, and as it came."""
        for name, value in self._entries(entries):
            place = (entries, name)
            self.revisions[place] = str(value.get("revision") or "")
            unknown = _unknown(entries, value)
            if unknown:
                why = f"requires {unknown}, which this version does not know"
                self.refused[place] = Refused(unsupported=True, why=why)
                continue
            own = {key: one for key, one in plain(value).items() if key not in ("revision", "requires")}
            context = Context(environ={}, read_file=_no_file, lenient=True)
            node = _node(own)
            spec: T | None = Item(node=node, path=f"{entries}.{name}", line=0, context=context).read(
                lambda item: reader(item), None
            )
            self.notes += [f"{note.path}: {note.what}" for note in context.notes]
            if context.mistakes or spec is None:
                self._refuse(place, "; ".join(f"{one.path}: {one.what}" for one in context.mistakes))
            else:
                yield spec, value

    def _refuse(self, place: Place, why: str) -> None:
        self.refused[place] = Refused(unsupported=False, why=why[:1024])

    def _sessions(self) -> SessionsSpec:
        value = self.whole.get("sessions")
        if value is None:
            return SessionsSpec()
        context = Context(environ={}, read_file=_no_file, lenient=True)
        spec = Item(node=_node(value), path="sessions", line=0, context=context).read(sessions, SessionsSpec())
        self.notes += [f"{one.path}: {one.what}" for one in (*context.mistakes, *context.notes)]
        return spec

    def _obeying(self, spec: GatewaySpec) -> GatewaySpec:
        """Without the entries that break a rule; of several that clash the first is right."""
        out: set[tuple[str, int]] = set()
        names = {
            SERVERS: [str(one.key) for one in spec.servers],
            VIRTUAL_SERVERS: [one.name for one in spec.virtual_servers],
            GATEWAYS: [str(one.name) for one in spec.gateways],
        }
        for violation in violations(spec):
            if violation.taken_by is None:  # of two of one name the first is served under it
                self._refuse((violation.entries, names[violation.entries][violation.place]), violation.what)
            out.add((violation.entries, violation.place))
        servers = [one for place, one in enumerate(spec.servers) if (SERVERS, place) not in out]
        virtual = [one for place, one in enumerate(spec.virtual_servers) if (VIRTUAL_SERVERS, place) not in out]
        gateways = [one for place, one in enumerate(spec.gateways) if (GATEWAYS, place) not in out]
        return attrs.evolve(
            spec,
            servers=tuple(servers),
            virtual_servers=tuple(virtual),
            gateways=tuple(_narrowed(one, servers, virtual) for one in gateways),
        )


def _narrowed(entry: GatewayEntry, servers: list[ServerSpec], virtual: list[VirtualServerSpec]) -> GatewayEntry:
    """A gateway without the entries that were refused."""
    keys, names = {one.key for one in servers}, {one.name for one in virtual}
    return attrs.evolve(
        entry,
        servers=tuple(key for key in entry.servers or () if key in keys),
        virtual_servers=tuple(name for name in entry.virtual_servers or () if name in names),
    )


def _plain(value: JsonObject, authorities: JsonObject) -> JsonObject:
    """A server's entry as a file would have it."""
    plain = {key: one for key, one in value.items() if key != "external"}
    tls = plain.get("tls")
    if isinstance(tls, dict):
        own = {key: one for key, one in tls.items() if key not in ("authority", "systemAuthorities")}
        if "authority" in tls:
            own["ca"] = {"value": authorities.get(str(tls["authority"]), "")}
        plain["tls"] = own
    return plain


def _no_file(path: str) -> bytes:
    raise OSError("no file of this machine may be named here")


def _node(value: JsonValue) -> Node:
    """A parsed value as the readers want it; there are no lines."""
    if isinstance(value, dict):
        entries = tuple(document.Entry(line=0, key=key, node=_node(one)) for key, one in value.items())
        return document.Mapping(line=0, entries=entries)
    if isinstance(value, list):
        return document.Sequence(line=0, items=tuple(_node(one) for one in value))
    return document.Scalar(line=0, value=value)
