"""The configuration file: from a path to one ``GatewaySpec``.

Owns the top level of the file and the reading of the files it names. Deliberately does
not wait and keeps nothing: ``config.watch`` looks again. Invariant: either a whole spec
or every mistake at once, never a part.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from mcp_gateway.config.addresses import allowed_host, allowed_origin, public_url
from mcp_gateway.config.document import Unparsable
from mcp_gateway.config.entries import gateway, sessions, virtual_server
from mcp_gateway.config.language import parse
from mcp_gateway.config.rules import GATEWAYS, SERVERS, VIRTUAL_SERVERS, Violation, impossible_selections, violations
from mcp_gateway.config.schema import (
    Context,
    Fields,
    Item,
    ReadFile,
    Unfit,
    duration,
    fields_of,
    filled_text,
    integer,
    list_of,
    size,
    text,
)
from mcp_gateway.config.servers import desktop_server, server
from mcp_gateway.config.spec import (
    DrainSpec,
    GatewayEntry,
    GatewayLimits,
    GatewaySpec,
    HttpSpec,
    ServerSpec,
    SessionsSpec,
)
from mcp_gateway.errors import ConfigError, ConfigMistake

MAX_FILE_BYTES: Final = 2**20

_ALIASES: Final = {"prefix": ("toolPrefix",)}
_NOT_A_NAME: Final = re.compile(r"[^a-z0-9]+")
_DESKTOP_TOP_LEVEL: Final = ("$schema", "globalShortcut", "inputs", "preferences")


@attrs.frozen(kw_only=True)
class Loaded:
    """What one look at a file gave: a spec or its mistakes, and what was read for it."""

    outcome: GatewaySpec | ConfigError
    fingerprint: tuple[tuple[Path, str], ...]
    """Every file that was read or missed, the configuration first, with a digest of its content."""
    notes: tuple[ConfigMistake, ...] = ()
    """What is no mistake, but not in force either."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every file that was read or missed, the configuration first."""
        return tuple(path for path, _ in self.fingerprint)

    @property
    def spec(self) -> GatewaySpec:
        """Raises ConfigError."""
        if isinstance(self.outcome, ConfigError):
            raise self.outcome
        return self.outcome


def load(path: Path, environ: Mapping[str, str]) -> GatewaySpec:
    """Read a configuration file and the files it names.

    Raises:
        ConfigError: every mistake at once; a file that cannot be read is one too.
    """
    return load_with_sources(path, environ).spec


def load_with_sources(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Like ``load``, but never raises, and says which files were read (relative ones from the file's folder)."""
    seen: dict[Path, str] = {}

    def read_file(name: str) -> bytes:
        secret = path.parent / name
        digest, content = _look(secret)
        seen[secret] = digest
        if isinstance(content, OSError):
            raise content
        return content

    digest, content = _look(path)
    outcome: GatewaySpec | ConfigError
    notes: tuple[ConfigMistake, ...] = ()
    try:
        outcome, notes = read_with_notes(_text(content), str(path), environ, read_file)
    except Unfit as unfit:
        outcome = ConfigError(source=str(path), mistakes=(ConfigMistake(path="", line=None, what=str(unfit)),))
    except ConfigError as error:
        outcome = error
    return Loaded(outcome=outcome, fingerprint=((path, digest), *seen.items()), notes=notes)


def fingerprint(sources: tuple[Path, ...]) -> tuple[tuple[Path, str], ...]:
    """What ``Loaded.fingerprint`` would be for these files now."""
    return tuple((path, _look(path)[0]) for path in sources)


def _look(path: Path) -> tuple[str, bytes | OSError]:
    """A file's digest and content; a file that cannot be read has the digest of its error."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return f"error {error.errno}", error
    if len(content) > MAX_FILE_BYTES:
        return "larger than 1 MiB", OSError(None, "larger than 1 MiB")
    return hashlib.sha256(content).hexdigest(), content


def _text(content: bytes | OSError) -> str:
    if isinstance(content, OSError):
        raise Unfit(f"cannot read the file: {content.strerror}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Unfit("the file is not UTF-8 text") from None


def read_spec(text: str, source: str, environ: Mapping[str, str], read_file: ReadFile) -> GatewaySpec:
    """Turn a configuration text into a spec; see ``read_with_notes``."""
    return read_with_notes(text, source, environ, read_file)[0]


def read_with_notes(
    text: str, source: str, environ: Mapping[str, str], read_file: ReadFile
) -> tuple[GatewaySpec, tuple[ConfigMistake, ...]]:
    """Turn a configuration text into a spec, and say what of it is ignored.

    Args:
        text: YAML, JSON or JSONC, at most 1 MiB.
        source: the name of the file, which may say that it is JSON.
        environ: where ``{env: NAME}`` looks.
        read_file: gives the bytes of a ``{file: PATH}``; raises OSError.
    Raises:
        ConfigError: every mistake, in the order of lines.
    Spec: docs/configuration.md.
    """
    context = Context(environ=environ, read_file=read_file)
    spec = GatewaySpec()
    try:
        root, mistakes = parse(text, source)
    except Unparsable as unparsable:
        context.mistakes.append(unparsable.mistake)
    else:
        context.mistakes.extend(mistakes)
        spec = Item(node=root, path="", line=root.line, context=context).read(_gateway_spec, spec)
    if context.mistakes:
        ordered = sorted(context.mistakes, key=lambda mistake: mistake.line or 0)
        raise ConfigError(source=source, mistakes=tuple(dict.fromkeys(ordered)))
    return spec, tuple(context.notes)


def _gateway_spec(item: Item) -> GatewaySpec:
    fields = fields_of(item)
    servers = _servers(fields)
    virtual = fields.take("virtualServers", list_of(virtual_server), ())
    gateways = fields.take("gateways", _gateways, (("gateways", GatewayEntry()),))
    spec = GatewaySpec(
        servers=tuple(spec for _, spec in servers),
        virtual_servers=tuple(spec for _, spec in virtual),
        gateways=tuple(entry for _, entry in gateways),
        sessions=fields.take("sessions", sessions, SessionsSpec()),
        http=fields.take("http", _http, HttpSpec()),
        drain=fields.take("drain", _drain, DrainSpec()),
        instructions=fields.take("instructions", text, ""),
        limits=fields.take("limits", _limits, GatewayLimits()),
    )
    fields.refuse("auth", "auth is reserved; this version has no authorization of clients yet")
    fields.finish()
    paths = {
        SERVERS: [path for path, _ in servers],
        VIRTUAL_SERVERS: [path for path, _ in virtual],
        GATEWAYS: [path for path, _ in gateways],
    }
    for violation in (*violations(spec), *impossible_selections(spec)):
        _report(item.context, paths, violation)
    return spec


# --- servers -------------------------------------------------------------------------------------------------------


def _servers(fields: Fields) -> tuple[tuple[str, ServerSpec], ...]:
    if not fields.has("mcpServers"):
        return fields.need("servers", list_of(lambda item: (item.path, server(item))), (), "is required (it may be [])")
    for key in _DESKTOP_TOP_LEVEL:
        fields.at(key)
    fields.refuse("servers", "servers and mcpServers are two ways to say the same; keep one of them")
    chosen = fields.take("mcp", _selection, _Selection())
    servers = fields.take("mcpServers", partial(_desktop_servers, gemini=fields.has("mcp")), ())
    return tuple((at, spec if chosen.has(spec.key) else attrs.evolve(spec, enabled=False)) for at, spec in servers)


@attrs.frozen(kw_only=True)
class _Selection:
    """Gemini's ``mcp: {allowed: [...], excluded: [...]}``: which entries of ``mcpServers`` are used, by their names."""

    allowed: tuple[str, ...] | None = None
    """None: all."""
    excluded: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Whether a server is used."""
        return (self.allowed is None or name in self.allowed) and name not in self.excluded


def _selection(item: Item) -> _Selection:
    fields = fields_of(item)
    names = list_of(lambda name: _name_of(filled_text(name)))
    spec = _Selection(allowed=fields.take("allowed", names, None), excluded=fields.take("excluded", names, ()))
    fields.finish()
    return spec


def _name_of(given: str) -> str:
    """Desktop clients allow any name: ``GitHub (work)`` becomes ``github-work``."""
    return _NOT_A_NAME.sub("-", given.lower()).strip("-")[:63]


def _desktop_servers(item: Item, *, gemini: bool) -> tuple[tuple[str, ServerSpec], ...]:
    found: list[tuple[str, ServerSpec]] = []
    for entry, _ in fields_of(item).unknown():
        name = _name_of(entry.path[len(item.path) + 1 :])
        if not name:
            entry.wrong("its name needs a letter or a digit")
            continue

        def read(entry: Item, name: str = name) -> tuple[str, ServerSpec] | None:
            return entry.path, desktop_server(entry, name, gemini=gemini)

        result = entry.read(read, None)
        if result is not None:
            found.append(result)
    return tuple(found)


# --- virtual servers and gateways ----------------------------------------------------------------------------------


def _gateways(item: Item) -> tuple[tuple[str, GatewayEntry], ...]:
    found = list_of(gateway)(item)
    if not found and not getattr(item.node, "items", ()):
        raise Unfit("must not be empty; leave gateways out to have one gateway with every server")
    return found


def _report(context: Context, paths: Mapping[str, list[str]], violation: Violation) -> None:
    """Say of a rule between entries which line breaks it."""
    entries = paths[violation.entries]
    path = entries[violation.place]
    keys = (violation.key, *_ALIASES.get(violation.key, ()))
    at = next((at for key in keys if (at := f"{path}.{key}") in context.lines), path)
    owner = "" if violation.taken_by is None else f" by {entries[violation.taken_by]}"
    context.wrong(at, violation.what + owner)


# --- the gateway's own settings ------------------------------------------------------------------------------------


def _http(item: Item) -> HttpSpec:
    fields, base = fields_of(item), HttpSpec()
    spec = HttpSpec(
        allowed_hosts=fields.take("allowedHosts", list_of(allowed_host, unique=True), ()),
        allowed_origins=fields.take("allowedOrigins", list_of(allowed_origin, unique=True), ()),
        public_url=fields.take("publicUrl", public_url, None),
        keep_alive_s=fields.take("keepAlive", duration(), base.keep_alive_s),
    )
    fields.finish()
    return spec


def _drain(item: Item) -> DrainSpec:
    fields, base = fields_of(item), DrainSpec()
    spec = DrainSpec(
        settle_s=fields.take("settle", duration(lowest_s=0.0), base.settle_s),
        grace_s=fields.take("grace", duration(lowest_s=0.0), base.grace_s),
    )
    fields.finish()
    return spec


def _limits(item: Item) -> GatewayLimits:
    fields, base, many = fields_of(item), GatewayLimits(), integer(1, 1_000_000)
    spec = GatewayLimits(
        body_bytes=fields.take("bodyBytes", size, base.body_bytes),
        connections=fields.take("connections", many, base.connections),
        sessions=fields.take("sessions", many, base.sessions),
        streams_per_session=fields.take("streamsPerSession", integer(1, 1000), base.streams_per_session),
        in_flight=fields.take("inFlight", many, base.in_flight),
        replay_bytes=fields.take("replayBytes", size, base.replay_bytes),
        replay_total_bytes=fields.take("replayTotal", size, base.replay_total_bytes),
        replay_age_s=fields.take("replayAge", duration(), base.replay_age_s),
    )
    fields.finish()
    return spec
