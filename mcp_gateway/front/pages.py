"""The pages of the admin listeners: health, metrics, status and tasks.

Owns two Quart apps (of a gateway, of a controller) and what they show. Deliberately no MCP, and no knowledge of
fleets or sessions: ``StatusSource`` gives finished values.
Invariant: no text of a server or client reaches the browser as markup: the page is
one constant file, its script writes text nodes only, and its policy allows nothing else.
"""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final, Protocol

import orjson
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from mcp_gateway.gateway.origin import check
from mcp_gateway.telemetry.loop import task_tree
from mcp_gateway.telemetry.metrics import CONTENT_TYPE, Metrics
from mcp_gateway.values import JsonObject, JsonValue

PAGE: Final = files("mcp_gateway.front").joinpath("static/status.html").read_text(encoding="utf-8")


class StatusSource(Protocol):
    """What the pages show.

    ``status()`` has this shape; the page leaves out what is missing::

        {
            "version": str,
            "uptime_s": float,
            "ready": bool,
            "why": str,
            "draining": bool,
            "configuration": {
                "source": str,
                "generation": int,
                "applied_unix_s": float,
                "error": str | None,
                "restart_needed": [str],
                "notes": [str],  # what of the file is ignored
            },
            "totals": {"connections": int, "sessions": int, "streams": int, "in_flight": int, "parked": int},
            "servers": [
                {
                    "name": str,
                    "state": "connecting|starting|ready|degraded|down|disabled",
                    "prefix": str,  # a disabled server has these three only
                    "since_unix_s": float,
                    "failures": int,  # in a row
                    "circuit": "open|closed",
                    "protocol": str | None,
                    "transport": str | None,
                    "server": str | None,  # its own name
                    "counts": {"tools": int, "prompts": int, "resources": int, "templates": int},
                    "listed": bool,
                    "problems": [{"kind": str, "name": str, "reason": str, "hidden": bool}],
                    "last_error": {"message": str, "at_unix_s": float} | None,
                    "starting_since_unix_s": float | None,  # a process is on its way up
                    "stderr": str | None,  # the last line that its process has written there
                    "next_try_unix_s": float | None,
                    "restarts": int,
                    "sessions": int,
                    "links": int,
                    "shared_for_lack_of_processes": int,
                    "subscriptions": int,
                    "in_flight": int,
                    "queued": int,
                    "limits": {"concurrency": int, "upstream_sessions": int, "processes": int},
                    "generations": int,
                }
            ],
            "collisions": [{"kind": "tools", "name": str, "owner": str, "hidden": [str]}],
        }
    """

    @property
    def metrics(self) -> Metrics:
        """The metrics of the process."""
        ...

    def status(self) -> JsonObject:
        """The state of everything, now; no secrets, no tool arguments."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether traffic should come here, and if not, why: one constant sentence."""
        ...


class HealthSource(Protocol):
    """What tells whether traffic, or work, should come to a process."""

    def ready(self) -> tuple[bool, str]:
        """See ``StatusSource.ready``."""
        ...


class ControllerSource(HealthSource, Protocol):
    """What the pages of a controller show."""

    def status(self) -> JsonObject:
        """What it knows, does and could not do."""
        ...

    def render_metrics(self) -> bytes:
        """In the text format of Prometheus."""
        ...


def controller_pages(source: ControllerSource) -> QuartTrio:
    """Health, metrics and status of a controller."""
    app = _bare_app("controller")
    _add_health(app, source)

    async def metrics() -> Response:
        return _answer(source.render_metrics(), CONTENT_TYPE)

    async def status() -> Response:
        return _json(source.status())

    async def tasks() -> Response:
        return _text(task_tree())

    app.add_url_rule("/metrics", view_func=metrics)
    app.add_url_rule("/status", view_func=status)
    app.add_url_rule("/debug/tasks", view_func=tasks)
    return app


def admin_pages(source: StatusSource) -> QuartTrio:
    """The pages of the admin listener; health is here too, for when the public one is full."""
    app = _bare_app("admin")
    _add_health(app, source)

    async def metrics() -> Response:
        return _answer(source.metrics.render(), CONTENT_TYPE)

    async def status() -> Response:
        return _json(source.status())

    async def one(server: str) -> Response:
        found = _named(source.status().get("servers"), server)
        return _json(found) if found is not None else _json({"error": "no such server"}, 404)

    async def page() -> Response:
        return _answer(PAGE.encode(), "text/html; charset=utf-8", policy=PAGE_POLICY)

    async def tasks() -> Response:
        return _text(task_tree())

    app.add_url_rule("/metrics", view_func=metrics)
    app.add_url_rule("/status", view_func=status)
    app.add_url_rule("/status/<path:server>", view_func=one)
    app.add_url_rule("/", view_func=page)
    app.add_url_rule("/debug/tasks", view_func=tasks)
    return app


def guarded(app: ASGIFramework, *, bind_is_loopback: bool) -> ASGIFramework:
    """An admin app that refuses what a page of another site could send (Origin, and Host on a loopback bind)."""

    async def guard(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            refusal = check(
                scope["method"],
                tuple(scope["headers"]),
                bind_is_loopback=bind_is_loopback,
                allowed_hosts=(),
                allowed_origins=(),
                admin=True,
            )
            if refusal is not None:
                body = refusal.message.encode() + b"\n"
                head = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": refusal.status, "headers": head})
                await send({"type": "http.response.body", "body": body, "more_body": False})
                return
        await app(scope, receive, send)

    return guard


def _bare_app(name: str) -> QuartTrio:
    app = QuartTrio(f"{__name__}.{name}", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024  # no page reads a body

    async def failed(error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = _text(f"{error.name}\n".lower(), error.code or 500)
        answer.headers.extend({name: value for name, value in error.get_headers() if name == "Allow"})
        return answer

    app.register_error_handler(HTTPException, failed)
    return app


def _add_health(app: QuartTrio, source: HealthSource) -> None:
    async def healthz() -> Response:
        return _text("ok\n")

    async def readyz() -> Response:
        is_ready, why = source.ready()
        return _text("ok\n") if is_ready else _text(f"not ready: {why}\n", 503)

    app.add_url_rule("/healthz", view_func=healthz)
    app.add_url_rule("/readyz", view_func=readyz)


def _named(servers: JsonValue, name: str) -> JsonObject | None:
    if not isinstance(servers, list):
        return None
    return next((each for each in servers if isinstance(each, dict) and each.get("name") == name), None)


def _json(value: JsonObject, status: int = 200) -> Response:
    return _answer(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n", "application/json", status)


def _text(text: str, status: int = 200) -> Response:
    return _answer(text.encode(errors="replace"), "text/plain; charset=utf-8", status)


def _answer(body: bytes, kind: str, status: int = 200, *, policy: str = "default-src 'none'") -> Response:
    answer = Response(body, status=status, content_type=kind)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    answer.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors 'none'"
    return answer


def _policy(page: str) -> str:
    """Allow exactly the style and the script that stand in the page, and asking this listener."""
    hashes = {
        tag: base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        for tag in ("style", "script")
        if (found := re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL))
    }
    return (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
    )


PAGE_POLICY: Final = _policy(PAGE)
