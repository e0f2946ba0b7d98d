"""Options that several commands of the command line share, and how their values are read.

Owns their form and their mistakes. Deliberately runs nothing (``cli``). Invariant: a value that
cannot be used is refused with a sentence that shows a usable one.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from mcp_gateway.config.durations import duration_s
from mcp_gateway.values import Header, JsonObject, JsonValue

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""RFC 1123, as Kubernetes wants it."""


def _bind(_: click.Context, __: click.Parameter, value: str) -> str:
    """``HOST:PORT``; whether it can be listened on shows later."""
    host, colon, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    usable = colon and port.isascii() and port.isdigit() and int(port) <= 65535
    if not usable or (":" in host and not bracketed):
        raise click.BadParameter(f"{value!r} is not HOST:PORT, [IPV6]:PORT or :PORT")
    return value


def duration(_: click.Context, __: click.Parameter, value: str) -> float:
    """``30s``, in seconds."""
    seconds = duration_s(value)
    if not seconds:
        raise click.BadParameter(f"{value!r} is not a duration such as 500ms, 30s or 2m")
    return seconds


def headers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Header, ...]:
    """``Name: value``, each as bytes."""
    headers: list[Header] = []
    for line in values:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not name.isascii() or any(mark in line for mark in "\r\n\0"):
            raise click.BadParameter("a header is 'Name: value' on one line")
        headers.append((name.strip().encode(), value.strip().encode()))
    return tuple(headers)


def arguments(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """``name=value``; the tool's schema decides what the value becomes."""
    pairs: list[tuple[str, str]] = []
    for pair in values:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not name=value")
        pairs.append((name, value))
    return tuple(pairs)


def namespaces(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """``a,b``: names of namespaces, each once; none at all is no list."""
    names = () if value is None else tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if not _LABEL.fullmatch(name):
            raise click.BadParameter(f"{name!r} is no name of a namespace; name them as in team-a,team-b")
    return names


def bind_option(name: str, default: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One address of a gateway."""
    return click.option(name, callback=_bind, metavar="HOST:PORT", default=default, show_default=True, help=what)


def listening_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where and how a gateway listens and logs. The certificate of the public listener: both files or neither."""
    command, path = log_options(command), click.Path(path_type=Path)
    command = click.option("--tls-key", type=path, callback=_both, help="Its key (PEM, not encrypted).")(command)
    help_text = "Serve TLS with this certificate chain (PEM; read again when it changes)."
    command = click.option("--tls-cert", type=path, is_eager=True, help=help_text)(command)
    command = bind_option("--admin-bind", "127.0.0.1:9090", "Status and metrics.")(command)
    return bind_option("--bind", "127.0.0.1:8080", "Where clients connect.")(command)


def _both(context: click.Context, _: click.Parameter, key: Path | None) -> Path | None:
    if (key is None) != (context.params.get("tls_cert") is None):
        raise click.UsageError("give both --tls-cert FILE and --tls-key FILE, or neither")
    return key


def remote(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that asks a server."""
    for option in (
        click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        click.option("--timeout", callback=duration, default="60s", show_default=True, help="For the whole command."),
        click.option(
            "--header",
            "headers",
            callback=headers,
            metavar="NAME:VALUE",
            multiple=True,
            help="Sent with every request.",
        ),
    ):
        command = option(command)
    return command


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every program that runs for long."""
    levels = click.Choice(["debug", "info", "warning", "error"])
    command = click.option("--log-level", type=levels, default="info", show_default=True)(command)
    return click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)(command)


def json_arguments(text: str | None) -> JsonObject:
    """All arguments of a tool as one JSON object; none is an empty one."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError("--json: not valid JSON") from None
    if not isinstance(value, dict):
        raise click.UsageError("--json: must be a JSON object")
    return value


def typed(text: str, schema: JsonValue, key: str) -> JsonValue:
    """A value from the command line: text where the schema says so, else JSON where it is that, else text."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    entry = properties.get(key) if isinstance(properties, dict) else None
    if isinstance(entry, dict) and entry.get("type") == "string":
        return text
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value
