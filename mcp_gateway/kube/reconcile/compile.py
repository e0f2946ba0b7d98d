"""The configuration document that the data plane reads.

Owns its shape, its revisions and its bounds. Deliberately writes nothing. Invariant: the same objects give the same
bytes, whatever the order in which they were heard of; what does not fit is left out by name, the youngest first, and
the rest works.

The document is that of the configuration file (``servers``, ``gateways``, ``virtualServers``, ``sessions``), and:
``schema`` (1), a ``revision`` of the whole and of each entry, ``requires`` (members of an entry that a reader has to
understand, or else must not serve it, because they restrict access), ``authorities`` (PEM by digest, each once; a
server's ``tls.authority`` names one), ``tls.systemAuthorities`` (those of the system are trusted as well),
``external`` (every address is checked before it is dialled), and ``*`` among hosts: whatever nobody else claims.
"""

import base64
import gzip
import hashlib
import zlib
from collections.abc import Mapping
from typing import Final

import attrs
import orjson

from mcp_gateway.kube import schema
from mcp_gateway.kube.objects import Key, Meta
from mcp_gateway.kube.own_objects import VirtualServer
from mcp_gateway.kube.reconcile.backend import backends
from mcp_gateway.kube.reconcile.claims import Claim, claims
from mcp_gateway.kube.reconcile.membership import members
from mcp_gateway.kube.reconcile.selection import selections
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Store
from mcp_gateway.values import JsonObject, JsonValue

SCHEMA: Final = 1
MAX_COMPRESSED_BYTES: Final = 900 * 2**10
"""A Secret holds 1 MiB."""
MAX_DOCUMENT_BYTES: Final = 8 * 2**20
"""What a reader is ready to unpack."""
MIN_SIGNING_KEY_BYTES: Final = 16
_REVISION_CHARACTERS: Final = 16


@attrs.frozen(kw_only=True)
class Document:
    """A whole configuration."""

    content: bytes = attrs.field(repr=False)
    """Canonical JSON."""
    packed: bytes = attrs.field(repr=False, eq=False)
    """The same, as it stands in the Secret."""
    revision: str
    servers: Mapping[Key, str]
    """The revision of each entry, like the next two."""
    gateways: Mapping[Key, str]
    virtual_servers: Mapping[Key, str]
    refused: frozenset[tuple[Kind, Key]] = frozenset()
    """What did not fit."""


@attrs.frozen(kw_only=True)
class _Entry:
    kind: Kind
    meta: Meta
    value: JsonObject = attrs.field(repr=False)
    ca_pem: str = ""

    @property
    def place(self) -> tuple[Kind, Key]:
        """Whose it is."""
        return self.kind, self.meta.key


def document(view: Store) -> Document:
    """The configuration of everything that this instance serves."""
    entries = sorted((*_servers(view), *_virtual_servers(view)), key=lambda one: (*one.meta.seniority, one.kind.kind))
    whole = _document(view, entries, frozenset())
    if _fits(whole):
        return whole
    fitting, too_many = 0, len(entries)  # the empty one is taken to fit; with all it does not
    best = _document(view, [], frozenset(one.place for one in entries))
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        tried = _document(view, entries[:middle], frozenset(one.place for one in entries[middle:]))
        if _fits(tried):
            fitting, best = middle, tried
        else:
            too_many = middle
    return best


def is_same(stored: Mapping[str, bytes], wanted: Document) -> bool:
    """Whether a Secret's data say the same already, however they were packed."""
    packed = stored.get(schema.CONFIG_KEY, b"")
    if packed == wanted.packed:
        return True
    try:
        unpacked = zlib.decompressobj(wbits=31).decompress(packed, MAX_DOCUMENT_BYTES + 1)
    except zlib.error:
        return False
    return unpacked == wanted.content


def _fits(made: Document) -> bool:
    return len(made.packed) <= MAX_COMPRESSED_BYTES and len(made.content) <= MAX_DOCUMENT_BYTES


# --- parts -----------------------------------------------------------------------------------------------------------


def _servers(view: Store) -> list[_Entry]:
    made = []
    for key, backend in view.once(backends).items():
        registration = view.registration(key)
        if backend.entry is not None and registration is not None:
            entry = _Entry(
                kind=schema.REGISTRATION,
                meta=registration.meta,
                value=_trusting(backend.entry, backend.ca_pem),
                ca_pem=backend.ca_pem,
            )
            made.append(entry)
    return made


def _trusting(entry: JsonObject, ca_pem: str) -> JsonObject:
    if not ca_pem:
        return entry
    tls = entry.get("tls")
    return {**entry, "tls": {**(tls if isinstance(tls, dict) else {}), "authority": _digest(ca_pem.encode())}}


def _virtual_servers(view: Store) -> list[_Entry]:
    return [
        _Entry(
            kind=schema.VIRTUAL_SERVER,
            meta=selection.server.meta,
            value=_selection(selection.server),
        )
        for selection in view.once(selections).values()
        if selection.offered
    ]


def _selection(server: VirtualServer) -> JsonObject:
    """What the gateway offers there; absent members do not narrow."""
    lists = {"tools": server.tools, "prompts": server.prompts, "resources": server.resources}
    narrowed = {name: list[JsonValue](dict.fromkeys(names)) for name, names in lists.items() if names}
    return {"name": str(server.meta.key), **narrowed, "requires": list[JsonValue](narrowed)}


def _gateway(view: Store, claim: Claim, present: frozenset[tuple[Kind, Key]]) -> tuple[JsonObject, str]:
    """An extension's entry, and its revision, which does not depend on what is served there."""
    taken = [member.registration.meta.key for member in view.once(members).get(claim.key, ())]
    offered = [key for key, selection in view.once(selections).items() if claim.key in selection.offered]
    own: JsonObject = {"name": str(claim.key), "hosts": list[JsonValue](claim.hosts)}
    if claim.extension.log_level:
        own["logLevel"] = claim.extension.log_level
    revision = _revision(claim.extension.meta, own)
    entry: JsonObject = {
        **own,
        "revision": revision,
        "requires": ["hosts", "servers", "virtualServers"],
        "servers": [str(key) for key in taken if (schema.REGISTRATION, key) in present],
        "virtualServers": [str(key) for key in offered if (schema.VIRTUAL_SERVER, key) in present],
    }
    return entry, revision


def _document(view: Store, entries: list[_Entry], refused: frozenset[tuple[Kind, Key]]) -> Document:
    present = frozenset(entry.place for entry in entries)
    revisions: dict[Kind, dict[Key, str]] = {schema.REGISTRATION: {}, schema.VIRTUAL_SERVER: {}, schema.EXTENSION: {}}
    parts: dict[Kind, list[JsonValue]] = {schema.REGISTRATION: [], schema.VIRTUAL_SERVER: [], schema.EXTENSION: []}
    for entry in entries:
        revision = revisions[entry.kind][entry.meta.key] = _revision(entry.meta, entry.value)
        parts[entry.kind].append({**entry.value, "revision": revision})
    for claim in view.once(claims).values():
        if claim.serves and claim.extension.instance == view.settings.instance:
            made, revisions[schema.EXTENSION][claim.key] = _gateway(view, claim, present)
            parts[schema.EXTENSION].append(made)
    whole: JsonObject = {
        "schema": SCHEMA,
        "requires": ["gateways"],
        "servers": parts[schema.REGISTRATION],
        "virtualServers": parts[schema.VIRTUAL_SERVER],
        "gateways": parts[schema.EXTENSION],
        "authorities": {_digest(one.ca_pem.encode()): one.ca_pem for one in entries if one.ca_pem},
        "sessions": {"signingKeys": _signing_keys(view)},
    }
    whole["revision"] = _digest(canonical(whole))
    content = canonical(whole)
    return Document(
        content=content,
        packed=gzip.compress(content, compresslevel=6, mtime=0),
        revision=str(whole["revision"]),
        servers=revisions[schema.REGISTRATION],
        gateways=revisions[schema.EXTENSION],
        virtual_servers=revisions[schema.VIRTUAL_SERVER],
        refused=refused,
    )


def _signing_keys(view: Store) -> list[JsonValue]:
    """The entry ``key`` signs; all others verify, by name."""
    secret = view.secret(Key(view.settings.namespace, schema.SIGNING_KEY_SECRET))
    data = {} if secret is None else secret.data
    names = sorted(data, key=lambda name: (name != schema.SIGNING_KEY, name))
    # As text, because a configuration is text; a reader takes the text's bytes for the key.
    return [
        {"value": base64.b64encode(data[name]).decode()} for name in names if len(data[name]) >= MIN_SIGNING_KEY_BYTES
    ]


def canonical(value: JsonValue) -> bytes:
    """JSON that is the same for equal values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _revision(meta: Meta, entry: JsonObject) -> str:
    """Of an entry, and of the object that it was made of.

    An object that is changed and changed back has another one than before: what a pod said of it then is old.
    """
    return _digest(canonical([meta.uid, meta.generation, entry]))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_REVISION_CHARACTERS]
