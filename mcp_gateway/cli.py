"""The command line: ``mcp-gateway serve | check | demo | tools | call | status``.

Owns options, exit codes and what is printed. Deliberately does no work itself:
each command loads the module that does. Invariant: a user's mistake is one line
per mistake on standard error and an exit code, never a traceback.
"""

import importlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, Final, TypeVar

import click
import trio

from mcp_gateway import __version__
from mcp_gateway.config.file import Loaded, load_with_sources
from mcp_gateway.config.watch import FileSource
from mcp_gateway.errors import ConfigError
from mcp_gateway.options import (
    arguments,
    bind_option,
    json_arguments,
    listening_options,
    log_options,
    namespaces,
    remote,
    typed,
)
from mcp_gateway.values import Header, JsonObject, JsonValue

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
    "cluster": "mcp_gateway.cluster_app",
    "demo": "mcp_gateway.demo.run",
    "http": "httpx2",
    "controller": "mcp_gateway.controller_app",
    "screen": "mcp_gateway.screen",
    "console": "rich.console",
}

EXTRAS: Final = {"kubernetes": "kube"}
"""Packages of optional modules, and the extra that brings them."""


def optional(name: str) -> ModuleType:
    """Import one module of the table.

    Raises:
        BadConfiguration: it needs a package that is not installed; the text says what to install.
    """
    try:
        return importlib.import_module(OPTIONAL[name])
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get((missing.name or "").partition(".")[0])
        if extra is None:
            raise
        raise BadConfiguration(f"this needs more than is installed: pip install 'mcp-gateway[{extra}]'") from None


class Failed(click.ClickException):
    """The operation failed; one or more lines on standard error."""

    exit_code = FAILED

    def show(self, file: IO[str] | None = None) -> None:
        """Print without click's prefix: a configuration's mistakes come as they are."""
        click.echo(self.format_message(), err=True)


class BadConfiguration(Failed):
    """What was given cannot be used."""

    exit_code = USAGE


class Unreached(Failed):
    """An address cannot be reached or listened on."""

    exit_code = UNREACHABLE


# --- the commands --------------------------------------------------------------------------------------------------


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-gateway")
def main() -> None:
    """One MCP endpoint in front of many MCP servers."""


@main.command(epilog=EXIT_CODES)
@click.option("--config", type=click.Path(path_type=Path), help="YAML or JSON; watched for changes.")
@click.option("--kubernetes", is_flag=True, help="Serve what the controller of this cluster has compiled.")
@click.option("--namespace", default=None, help="Where it runs; else POD_NAMESPACE, else mcp-system.")
@click.option("--instance", default="default", show_default=True, help="Which controller's data plane this is.")
@click.option("--config-copy", type=click.Path(path_type=Path), help="The mounted copy of the compiled configuration.")
@click.option("--allow-loopback-backends", is_flag=True, help="Servers may be on this machine (for tests).")
@listening_options
def serve(  # click passes every option by its name
    config: Path | None,
    kubernetes: bool,
    namespace: str | None,
    instance: str,
    config_copy: Path | None,
    allow_loopback_backends: bool,
    **listening: str | Path | None,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C, from a file or in a cluster."""
    if kubernetes == (config is not None):
        raise click.UsageError("give either --config FILE or --kubernetes")
    if kubernetes:
        cluster = optional("cluster")
        options = cluster.Options(
            namespace=namespace,
            instance=instance,
            config_copy=config_copy,
            allow_loopback=allow_loopback_backends,
            **listening,
        )
        run = partial(cluster.serve, options)
    else:
        assert config is not None
        _load(config)
        app = optional("app")
        source = FileSource(path=config, environ=os.environ)
        run = partial(app.serve, app.Options(source=source, **listening))
    with user_errors():
        code = trio.run(run)
    sys.exit(code)


@main.command(epilog=EXIT_CODES)
@click.option("--namespace", default=None, help="Where it runs; else POD_NAMESPACE, else mcp-system.")
@click.option("--instance", default="default", show_default=True, help="Serve extensions with this label only.")
@click.option("--cluster-domain", default="cluster.local", show_default=True, help="The domain of Services.")
@click.option(
    "--external-backends/--no-external-backends",
    default=True,
    show_default=True,
    help="Whether routes may lead to hosts outside the cluster.",
)
@click.option("--cleanup", is_flag=True, help="Take back what this instance has left on routes and Gateways, and end.")
@click.option(
    "--watch-namespaces",
    metavar="NAME,…",
    callback=namespaces,
    help="Look for objects in these namespaces only: Roles there are enough then. Else everywhere.",
)
@bind_option("--admin-bind", "127.0.0.1:9090", "Health, status and metrics.")
@log_options
def controller(
    namespace: str | None,
    instance: str,
    cluster_domain: str,
    external_backends: bool,  # click passes every option by its name
    cleanup: bool,
    watch_namespaces: tuple[str, ...],
    admin_bind: str,
    log_format: str,
    log_level: str,
) -> None:
    """Run the controller of a Kubernetes cluster until SIGTERM or Ctrl-C."""
    app = optional("controller")
    options = app.Options(
        namespace=namespace,
        instance=instance,
        cluster_domain=cluster_domain,
        external_backends=external_backends,
        watch_namespaces=watch_namespaces,
        admin_bind=admin_bind,
        log_format=log_format,
        log_level=log_level,
    )
    with user_errors():
        if cleanup:
            click.echo(trio.run(app.clean, options))
        else:
            trio.run(app.serve, options)


@main.group("config")
def configuration() -> None:
    """Look at the configuration of a cluster."""


@configuration.command("show", epilog=EXIT_CODES)
@click.option("--namespace", default=None, help="Where the gateway runs; else POD_NAMESPACE, else mcp-system.")
def config_show(namespace: str | None) -> None:
    """Print what the controller has compiled, as JSON without its secrets."""
    cluster = optional("cluster")
    with user_errors():
        _print_json(trio.run(cluster.shown, namespace))


@main.command(epilog=EXIT_CODES)
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a configuration FILE and print every mistake at once."""
    loaded = _load(file)
    spec = loaded.spec
    _print(optional("screen").spec_table(spec))
    for note in loaded.notes:
        click.echo(f"{file}: {note}")
    count = len(spec.servers)
    click.echo(f"{file}: OK, {count} server{'' if count == 1 else 's'}")


@main.command(epilog=EXIT_CODES)
@bind_option("--bind", "127.0.0.1:8080", "The next free port if taken.")
@bind_option("--admin-bind", "127.0.0.1:9090", "The same.")
def demo(bind: str, admin_bind: str) -> None:
    """Run two example servers and a gateway in front of them; on the next free ports if those are taken."""
    module = optional("demo")
    try:
        with user_errors():
            trio.run(partial(module.run, bind, admin_bind))
    except click.exceptions.Exit as left:
        sys.exit(OK if left.exit_code == INTERRUPTED else left.exit_code)


@main.command(epilog=EXIT_CODES)
@click.argument("url")
@remote
def tools(url: str, headers: tuple[Header, ...], timeout: float, output: str) -> None:
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
@click.option(
    "--arg",
    "args",
    callback=arguments,
    metavar="NAME=VALUE",
    multiple=True,
    help="One argument; the tool's schema gives its type.",
)
@click.option("--json", "json_args", help="All arguments as one JSON object.")
@remote
def call(
    url: str,
    name: str,
    args: tuple[tuple[str, str], ...],
    json_args: str | None,
    headers: tuple[Header, ...],
    timeout: float,
    output: str,
) -> None:
    """Call tool NAME of the MCP server at URL."""
    given = json_arguments(json_args)

    async def ask() -> JsonObject:
        async with optional("client").open_client(url, headers) as client:
            known: list[JsonObject] = await client.tools()
            schema = next((tool.get("inputSchema") for tool in known if tool.get("name") == name), None)
            arguments = given | {key: typed(value, schema, key) for key, value in args}
            answer: JsonObject = await client.call(name, arguments, schema, _show_progress)
            return answer

    result = _ask(ask, url, timeout)
    if output == "json":
        _print_json(result)
    else:
        for line in optional("screen").result_lines(result):
            click.echo(line)
    if result.get("isError") is True:
        raise Failed("the tool failed")


@main.command(epilog=EXIT_CODES)
@click.argument("admin_url")
@remote
def status(admin_url: str, headers: tuple[Header, ...], timeout: float, output: str) -> None:
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


def _load(path: Path) -> Loaded:
    """A reading without mistakes."""
    loaded = load_with_sources(path, os.environ)
    if isinstance(loaded.outcome, ConfigError):
        raise BadConfiguration(str(loaded.outcome))
    return loaded


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

    with user_errors():
        answer = trio.run(run)
    if answer is None:
        sys.exit(INTERRUPTED)
    return answer[0]


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what users can cause into one line and an exit code; anything else is our bug and keeps its traceback."""
    try:
        yield
    except (KeyboardInterrupt, Exception, BaseExceptionGroup) as error:  # what is not the user's is raised again
        leaves = list(_leaves(error))
        failures = [failure for leaf in leaves if (failure := _failure(leaf)) is not None]
        interrupts = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
        if len(failures) + len(interrupts) < len(leaves):
            raise
        if interrupts:
            raise click.exceptions.Exit(INTERRUPTED) from None
        told = dict.fromkeys(str(failure) for failure in failures)
        raise type(max(failures, key=lambda failure: failure.exit_code))("\n".join(told)) from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from _leaves(inner)


_FAILURES: Final[Mapping[str, type[Failed]]] = {
    # by name: their modules are loaded only by the commands that need them
    "mcp_gateway.front.server.BindError": Unreached,
    "mcp_gateway.front.http1.tls.CertificateError": BadConfiguration,
    "mcp_gateway.client.Unreachable": Unreached,
    "mcp_gateway.client.Refused": Failed,
    "mcp_gateway.client.BadAnswer": Failed,
    "mcp_gateway.kube.errors.NoCluster": BadConfiguration,
    "mcp_gateway.kube.errors.ApiUnreachable": Unreached,
    "mcp_gateway.kube.errors.ApiForbidden": Failed,
    "mcp_gateway.kube.errors.ApiMissing": Failed,
    "mcp_gateway.kube.errors.ApiConflict": Failed,
    "mcp_gateway.kube.errors.ApiBusy": Failed,
    "mcp_gateway.kube.errors.ApiRefused": Failed,
    "mcp_gateway.kube.errors.StillLed": Failed,
}


def _failure(error: BaseException) -> Failed | None:
    """What to tell of one error; None if it is not the user's."""
    if isinstance(error, ConfigError):
        return BadConfiguration(str(error))
    kind = _FAILURES.get(f"{type(error).__module__}.{type(error).__name__}")
    return None if kind is None else kind(str(error))


def _print(renderable: object) -> None:
    optional("console").Console(soft_wrap=not sys.stdout.isatty()).print(renderable)


def _print_json(value: JsonValue) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
