"""The command line: ``mcp-gateway serve | check | demo | tools | call | status``.

Owns options, exit codes and what is printed. Deliberately does no work itself:
each command loads the module that does. Invariant: a user's mistake is one line
per mistake on standard error and an exit code, never a traceback.
"""

import errno
import importlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

import click
import trio

from mcp_gateway import __version__
from mcp_gateway.config.durations import duration_s
from mcp_gateway.config.file import load
from mcp_gateway.config.spec import GatewaySpec
from mcp_gateway.errors import ConfigError, GatewayError
from mcp_gateway.values import JsonObject, JsonValue

T = TypeVar("T")

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

EXIT_CODES: Final = """\b
Exit codes:
  0  it worked
  1  the operation failed (the server answered an error, a tool failed)
  2  bad usage or configuration
  3  an address cannot be reached or listened on"""

# The only imports outside the head of a module: a command pays only for what it uses.
# Importing this module loads neither a server nor Kubernetes, Redis, cryptography or traces.
OPTIONAL: Final = {
    "app": "mcp_gateway.app",
    "client": "mcp_gateway.client",
    "demo": "mcp_gateway.demo.run",
    "http": "httpx2",
    "screen": "mcp_gateway.screen",
    "server": "mcp_gateway.front.server",
    "console": "rich.console",
}


def optional(name: str) -> ModuleType:
    """Import one module of the table."""
    return importlib.import_module(OPTIONAL[name])


class Failure(click.ClickException):
    """One line on standard error, and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: object = None) -> None:
        """Print without click's prefix: a configuration's mistakes come as they are."""
        click.echo(self.format_message(), err=True)


# --- options -------------------------------------------------------------------------------------------------------


class Bind(click.ParamType):
    """``HOST:PORT``."""

    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the shape; whether it can be listened on shows later."""
        host, colon, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        usable = colon and port.isascii() and port.isdigit() and int(port) <= 65535
        if not usable or (":" in host and not bracketed):
            self.fail(f"{value!r} is not HOST:PORT, [IPV6]:PORT or :PORT", param, ctx)
        return value


class Duration(click.ParamType):
    """``30s``, in seconds."""

    name = "DURATION"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; a default that is a number already passes."""
        if isinstance(value, float):
            return value
        seconds = duration_s(value)
        if not seconds:
            self.fail(f"{value!r} is not a duration such as 500ms, 30s or 2m", param, ctx)
        return seconds


class HeaderLine(click.ParamType):
    """``Name: value``."""

    name = "NAME:VALUE"

    def convert(
        self, value: str | tuple[bytes, bytes], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[bytes, bytes]:
        """Name and value as bytes."""
        if isinstance(value, tuple):
            return value
        name, colon, rest = value.partition(":")
        if not colon or not name.strip() or not name.isascii() or any(mark in value for mark in "\r\n\0"):
            self.fail("a header is 'Name: value' on one line", param, ctx)
        return name.strip().encode(), rest.strip().encode()


class Argument(click.ParamType):
    """``name=value``."""

    name = "NAME=VALUE"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Name and raw value; the tool's schema decides what it becomes."""
        if isinstance(value, tuple):
            return value
        name, equals, rest = value.partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not name=value", param, ctx)
        return name, rest


def _remote(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that asks a server."""
    for option in (
        click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        click.option("--timeout", type=Duration(), default=60.0, show_default="60s", help="For the whole command."),
        click.option("--header", "headers", type=HeaderLine(), multiple=True, help="Sent with every request."),
    ):
        command = option(command)
    return command


# --- the commands --------------------------------------------------------------------------------------------------


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-gateway")
def main() -> None:
    """One MCP endpoint in front of many MCP servers."""


@main.command(epilog=EXIT_CODES)
@click.option("--config", required=True, type=click.Path(path_type=Path), help="YAML or JSON; watched for changes.")
@click.option("--bind", type=Bind(), default="127.0.0.1:8080", show_default=True, help="Where clients connect.")
@click.option("--admin-bind", type=Bind(), default="127.0.0.1:9090", show_default=True, help="Status and metrics.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def serve(config: Path, bind: str, admin_bind: str, log_format: str, log_level: str) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    _load(config)
    app = optional("app")
    options = app.Options(config=config, bind=bind, admin_bind=admin_bind, log_format=log_format, log_level=log_level)
    with _user_errors():
        code = trio.run(app.serve, options)
    sys.exit(code)


@main.command(epilog=EXIT_CODES)
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a configuration FILE and print every mistake at once."""
    spec = _load(file)
    _print(optional("screen").spec_table(spec))
    count = len(spec.servers)
    click.echo(f"{file}: OK, {count} server{'' if count == 1 else 's'}")


@main.command(epilog=EXIT_CODES)
@click.option("--bind", type=Bind(), default="127.0.0.1:8080", show_default=True, help="The next free port if taken.")
@click.option("--admin-bind", type=Bind(), default="127.0.0.1:9090", show_default=True, help="The same.")
def demo(bind: str, admin_bind: str) -> None:
    """Run two example servers and a gateway in front of them."""
    module = optional("demo")
    try:
        with _user_errors():
            trio.run(partial(module.run, bind, admin_bind))
    except click.exceptions.Exit as left:
        sys.exit(OK if left.exit_code == INTERRUPTED else left.exit_code)


@main.command(epilog=EXIT_CODES)
@click.argument("url")
@_remote
def tools(url: str, headers: tuple[tuple[bytes, bytes], ...], timeout: float, output: str) -> None:
    """List the tools of the MCP server at URL (a gateway, or any other)."""

    async def ask() -> list[JsonObject]:
        async with optional("client").open_client(url, headers) as client:
            found: list[JsonObject] = await client.tools()
            return found

    found = _ask(ask, url, timeout)
    if output == "json":
        _print_json(list(found))
    else:
        _print(optional("screen").tools_table(found))


@main.command(epilog=EXIT_CODES)
@click.argument("url")
@click.argument("name")
@click.option("--arg", "args", type=Argument(), multiple=True, help="One argument; the tool's schema gives its type.")
@click.option("--json", "json_args", help="All arguments as one JSON object.")
@_remote
def call(
    url: str,
    name: str,
    args: tuple[tuple[str, str], ...],
    json_args: str | None,
    headers: tuple[tuple[bytes, bytes], ...],
    timeout: float,
    output: str,
) -> None:
    """Call tool NAME of the MCP server at URL."""
    given = _json_arguments(json_args)

    async def ask() -> JsonObject:
        async with optional("client").open_client(url, headers) as client:
            tool = next((tool for tool in await client.tools() if tool.get("name") == name), {})
            schema = tool.get("inputSchema")
            arguments = given | {key: _typed(value, schema, key) for key, value in args}
            answer: JsonObject = await client.call(name, arguments, schema, _show_progress)
            return answer

    result = _ask(ask, url, timeout)
    if output == "json":
        _print_json(result)
    else:
        for line in optional("screen").result_lines(result):
            click.echo(line)
    if result.get("isError") is True:
        raise Failure("the tool failed", FAILED)


@main.command(epilog=EXIT_CODES)
@click.argument("admin_url")
@_remote
def status(admin_url: str, headers: tuple[tuple[bytes, bytes], ...], timeout: float, output: str) -> None:
    """Show the servers behind the gateway whose admin listener is ADMIN_URL."""
    http, client = optional("http"), optional("client")
    url = f"{admin_url.rstrip('/')}/status"

    async def ask() -> JsonObject:
        async with http.AsyncClient(timeout=None, trust_env=False) as session:
            try:
                response = await session.get(url, headers=[(b"Accept", b"application/json"), *headers])
            except http.InvalidURL as exc:
                raise client.Unreachable(url=url, why="this is no URL") from exc
            except http.UnsupportedProtocol as exc:
                raise client.Unreachable(url=url, why="the URL must begin with http:// or https://") from exc
            except http.TransportError as exc:
                raise client.Unreachable(url=url, why=str(exc) or type(exc).__name__) from exc
        try:
            answer = response.json() if response.status_code == 200 else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise client.BadAnswer(url=url, why=f"is no gateway's status (HTTP {response.status_code})")
        return answer

    answer = _ask(ask, url, timeout)
    if output == "json":
        _print_json(answer)
        return
    screen = optional("screen")
    _print(screen.status_table(answer))
    for note in screen.status_notes(answer):
        click.echo(note, err=True)


# --- how they share ------------------------------------------------------------------------------------------------


def _load(path: Path) -> GatewaySpec:
    try:
        return load(path, os.environ)
    except ConfigError as error:
        raise Failure(str(error), USAGE) from None


def _json_arguments(text: str | None) -> JsonObject:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise click.UsageError("--json: not valid JSON") from None
    if not isinstance(value, dict):
        raise click.UsageError("--json: must be a JSON object")
    return value


def _typed(text: str, schema: JsonValue, key: str) -> JsonValue:
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


def _show_progress(method: str, params: JsonObject) -> None:
    """Progress goes to standard error, so that the result can be piped on."""
    if method == "notifications/progress":
        screen = optional("screen")
        total = f"/{screen.plain(params['total'])}" if params.get("total") is not None else ""
        note = screen.plain(params.get("message"))
        click.echo(f"{screen.plain(params.get('progress'))}{total} {note}".rstrip(), err=True)


def _ask(ask: Callable[[], Awaitable[T]], url: str, timeout_s: float) -> T:
    """Run ``ask`` under its deadline; Ctrl-C cancels it, so that the server hears of it."""
    client = optional("client")

    async def interrupt(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                scope.cancel("interrupted")

    async def run() -> tuple[T] | None:
        answer: tuple[T] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt, nursery.cancel_scope)
            with trio.move_on_after(timeout_s) as limit:
                answer = (await ask(),)
            if limit.cancelled_caught:
                raise client.Unreachable(url=url, why=f"no answer within {timeout_s:g} s")
            nursery.cancel_scope.cancel("answered")
        return answer

    with _user_errors():
        answer = trio.run(run)
    if answer is None:
        sys.exit(INTERRUPTED)
    return answer[0]


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what users can cause into one line and an exit code; anything else is our bug and keeps its traceback."""
    try:
        yield
    except (KeyboardInterrupt, BaseExceptionGroup, OSError, GatewayError) as error:
        leaves = list(_leaves(error))
        failures = [failure for leaf in leaves if (failure := _failure(leaf)) is not None]
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
            raise click.exceptions.Exit(INTERRUPTED) from None
        if len(failures) < len(leaves):
            raise
        told = dict.fromkeys(str(failure) for failure in failures)
        raise Failure("\n".join(told), max(failure.exit_code for failure in failures)) from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from _leaves(inner)


def _failure(error: BaseException) -> Failure | None:
    """What to tell of one error; None if it is not the user's."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, ConfigError):
        return Failure(str(error), USAGE)
    if type(error).__module__ == OPTIONAL["server"] and type(error).__name__ == "BindError":
        return Failure(str(error), UNREACHABLE)
    if type(error).__module__ == OPTIONAL["client"]:
        return Failure(str(error), UNREACHABLE if type(error).__name__ == "Unreachable" else FAILED)
    if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
        return Failure(f"cannot listen: {error.strerror}", UNREACHABLE)
    return None


def _print(renderable: object) -> None:
    optional("console").Console(soft_wrap=not sys.stdout.isatty()).print(renderable)


def _print_json(value: JsonValue) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
