"""The admin listener of a running program: metrics, status, tasks, the page; and no secret in any of them."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.support import load, peers
from tests.support.children import ROOT
from tests.support.gateway import Process, gateway_process, spec_of
from tests.support.nasty import Entry
from tests.support.raw_client import Exchange, Message, connect2025
from tests.support.recorder import Recorder, recorder

pytestmark = [pytest.mark.wire, pytest.mark.slow]

SECRETS: Final = {
    name: f"s3cret-{name}" for name in ("credential", "header", "environment", "key", "query", "argument")
}
SERIES: Final = {
    "mcp_gateway_requests": {"method", "server", "outcome"},
    "mcp_gateway_request_duration_seconds": {"method", "server", "le"},
    "mcp_gateway_queue_seconds": {"server", "le"},
    "mcp_gateway_in_flight": {"server"},
    "mcp_gateway_cancellations": {"source", "delivery"},
    "mcp_gateway_deadlines": {"limit", "server"},
    "mcp_gateway_server_state": {"server", "state"},
    "mcp_gateway_discoveries": {"server", "result"},
    "mcp_gateway_discovery_duration_seconds": {"server", "le"},
    "mcp_gateway_server_items": {"server", "kind"},
    "mcp_gateway_connections": set(),
    "mcp_gateway_sessions": set(),
    "mcp_gateway_streams": set(),
    "mcp_gateway_received_bytes": set(),
    "mcp_gateway_sent_bytes": set(),
    "mcp_gateway_configuration_generation": set(),
    "mcp_gateway_configuration_last_reload_successful": set(),
    "mcp_gateway_tasks": set(),
    "mcp_gateway_build_info": {"version"},
}
"""What a gateway shows that has been used; the label names of each."""
MAYBE: Final = {
    "mcp_gateway_reconnects",
    "mcp_gateway_late_answers",
    "mcp_gateway_messages_skipped",
    "mcp_gateway_kept_connections_lost",
}
"""These have no series before they have something to say."""
SERVER_KEYS: Final = {
    *("name", "state", "since_unix_s", "failures", "circuit", "protocol", "transport", "server", "prefix", "counts"),
    *("for_some_clients", "protocols"),
    *("listed", "problems", "last_error", "next_try_unix_s", "restarts", "sessions", "links", "in_flight", "queued"),
    *("shared_for_lack_of_processes", "subscriptions", "limits", "generations", "starting_since_unix_s", "stderr"),
}


async def get(url: str, **headers: str) -> Exchange:
    async with connect2025(url) as client:
        return await client.http("GET", headers=headers)


def servers(backend: Recorder) -> list[Entry]:
    """One of each kind, with secrets wherever there may be one; one is down, one is disabled."""
    os.environ["ADMIN_TEST_TOKEN"] = SECRETS["credential"]
    old, new = backend.entries(timeouts={"call": "300ms"})
    stdio = [sys.executable, "-S", "-m", "mcp_gateway.demo.stdio_server", SECRETS["argument"]]
    return [
        {**old, "headers": {"X-Key": SECRETS["header"]}, "url": f"{old['url']}?key={SECRETS['query']}"},
        {**new, "credential": {"env": "ADMIN_TEST_TOKEN"}},
        {"name": "pipe", "command": stdio, "cwd": str(ROOT), "env": {"PIPE_TOKEN": SECRETS["environment"]}},
        {"name": "down", "url": f"http://127.0.0.1:9/mcp?key={SECRETS['query']}"},
        {**new, "name": "off", "state": "disabled"},
    ]


@asynccontextmanager
async def used_gateway(backend: Recorder, *flags: str) -> AsyncIterator[Process]:
    """A program in which a bit of everything has happened."""
    config = {"servers": servers(backend), "sessions": {"signingKeys": [{"value": SECRETS["key"] * 4}]}}
    async with gateway_process(config, *flags) as process, process.client2025() as client:
        await client.initialize()
        stream = await client.stream()
        await stream.next_event()
        await client.list()
        for name in ("old", "new"):
            await client.call(f"{name}_echo", {"x": SECRETS["argument"]})
            assert (await client.call(f"{name}_hang"))["error"]["data"]["limit"] == "call"
        await client.call("pipe_now")
        await until_down(process)
        yield process


async def until_down(process: Process) -> None:
    with trio.fail_after(load.stretched(8)):
        while True:
            found: Message = (await get(f"{process.admin_url}/status/down")).json
            if found["state"] == "down":
                return
            await trio.sleep(0.1)  # another process: it can only be asked again


async def test_metrics_are_prometheus_and_complete_and_status_tells_the_truth() -> None:
    async with recorder() as backend, used_gateway(backend) as process:
        text = (await get(f"{process.admin_url}/metrics")).raw.decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        ours = {name for name in families if name.startswith("mcp_gateway_")}
        for name, labels in SERIES.items():
            assert families[name].samples, name
            found = {label for sample in families[name].samples for label in sample.labels}
            assert found == labels, name
        assert ours >= MAYBE
        values = {(one.name, *sorted(one.labels.values())): one.value for f in families.values() for one in f.samples}
        assert values["mcp_gateway_requests_total", "ok", "old", "tools/call"] == 1
        assert values["mcp_gateway_requests_total", "backend_timeout", "new", "tools/call"] == 1
        assert values["mcp_gateway_deadlines_total", "call", "old"] == 1
        assert values["mcp_gateway_cancellations_total", "deadline", "notice"] == 1
        assert values["mcp_gateway_cancellations_total", "deadline", "stream_closed"] == 1
        assert values["mcp_gateway_server_state", "down", "down"] == 1
        assert values["mcp_gateway_server_state", "disabled", "off"] == 1
        assert values["mcp_gateway_server_state", "old", "ready"] == 1
        assert values["mcp_gateway_server_items", "old", "tools"] == 4
        assert values["mcp_gateway_sessions",] == 1
        assert values["mcp_gateway_streams",] == 1
        assert values["mcp_gateway_in_flight", "old"] == 0

        status: Message = (await get(f"{process.admin_url}/status")).json
        old, new, pipe, down, off = status["servers"]
        assert set(old) == SERVER_KEYS
        assert [one["name"] for one in status["servers"]] == ["old", "new", "pipe", "down", "off"]
        assert (old["state"], old["protocol"], old["transport"]) == ("ready", "2025-11-25", "streamable-http")
        assert (new["protocol"], pipe["transport"]) == ("2026-07-28", "stdio")
        assert old["counts"] == {"tools": 4, "prompts": 0, "resources": 0, "templates": 0}
        assert old["sessions"] == 1
        assert (down["circuit"], down["failures"] >= 3) == ("open", True)
        assert "Connection refused" in down["last_error"]["message"]
        assert down["next_try_unix_s"] > down["since_unix_s"]
        assert off == {"name": "off", "state": "disabled", "prefix": "off_"}
        totals = {
            "connections": status["totals"]["connections"],
            "sessions": 1,
            "streams": 1,
            "in_flight": 0,
            "parked": 0,
        }
        assert status["totals"] == totals
        assert totals["connections"] >= 1
        one: Message = (await get(f"{process.admin_url}/status/old")).json
        assert one["name"] == "old"
        assert (await get(f"{process.admin_url}/status/nobody")).status == 404

        # Invariant 10: one server is down, and the gateway is well.
        for base in (process.admin_url, process.url.removesuffix("/mcp")):
            assert (await get(f"{base}/healthz")).status == 200
            assert (await get(f"{base}/readyz")).status == 200
        tasks = (await get(f"{process.admin_url}/debug/tasks")).raw.decode()
        for name in ("supervisor:old", "supervisor:down", "configuration source", "keep-alive", "hub", "admin server"):
            assert name in tasks


async def test_invariant_3_no_secret_is_shown_anywhere() -> None:
    async with recorder() as backend:
        async with used_gateway(backend, "--log-level", "debug", "--log-format", "json") as process:
            shown = {
                path: (await get(f"{process.admin_url}{path}")).raw.decode()
                for path in ("/status", "/status/old", "/status/down", "/metrics", "/debug/tasks", "/")
            }
            session = {request.headers.get("mcp-session-id") for request in backend.server.requests} - {None}
            assert await process.stop() == 0
        shown["log"] = process.log.decode()
        shown["spec"] = repr(spec_of({"servers": servers(backend)}))
        sent = b" ".join(str(request).encode() for request in backend.server.requests)
        for name in ("credential", "header", "query", "argument"):
            assert SECRETS[name].encode() in sent  # it was used, so it could have been shown
    assert '"call"' in shown["log"]  # the access lines of level debug
    found = [(where, name) for where, text in shown.items() for name, secret in SECRETS.items() if secret in text]
    assert found == []
    assert [where for where, text in shown.items() for one in session if one and one in text] == []


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/debug/tasks", "/healthz"])
async def test_pages_of_other_sites_cannot_ask(path: str) -> None:
    async with gateway_process({"servers": []}) as process:
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Host": "evil.example", "Origin": "http://evil.example"},
        ):
            refused = await get(f"{process.admin_url}{path}", **headers)
            assert refused.status == 403
            assert "mcp" not in refused.raw.decode()
        for host in ("localhost", "127.0.0.1", "[::1]"):
            assert (await get(f"{process.admin_url}{path}", Host=host)).status == 200
        for other in ("/status", "/metrics", "/debug/tasks", "/"):
            assert (await get(process.url.removesuffix("/mcp") + other)).status == 404


@pytest.mark.browser
async def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    browser = peers.find_browser()
    assert browser is not None
    async with recorder() as backend, used_gateway(backend) as process:
        with trio.fail_after(load.stretched(15)):
            done = await trio.run_process(
                [
                    *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                    *(
                        f"--user-data-dir={tmp_path}",
                        "--virtual-time-budget=3000",
                        "--dump-dom",
                        f"{process.admin_url}/",
                    ),
                ],
                capture_stdout=True,
                capture_stderr=True,
            )
        page = done.stdout.decode()
    assert 'role="status">live<' in page
    assert '<td class="name">old</td>' in page
    assert '<span class="pill down">down</span>' in page
    assert '<span class="pill disabled">disabled</span>' in page
    assert "Connection refused" in page
    assert "undefined" not in page.partition("<script>")[0]
    assert "NaN" not in page.partition("<script>")[0]
    assert "[object" not in page.partition("<script>")[0]
    assert "Content Security Policy" not in done.stderr.decode()
