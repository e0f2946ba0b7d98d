"""What only a real backend or the whole program can show: late answers, ignored proxies, a bound that is reloaded."""

import json
import sys
from urllib.parse import urlsplit

import pytest
import trio

from tests.support import load, peers
from tests.support.gateway import gateway_process, running_gateway
from tests.support.http_links import events, legacy
from tests.support.raw_http import RawConnection, RawRequest, event, result, serve_raw
from tests.support.verbatim import SESSION, Verbatim

pytestmark = [pytest.mark.wire]


async def test_an_answer_to_a_cancelled_call_is_counted() -> None:
    entry = {
        "name": "tardy",
        "command": [sys.executable, "-m", "tests.support.stdio_servers.tardy"],
        "env": {"PYTHONPATH": str(peers.ROOT)},
        "protocol": "2025-11-25",
        "timeouts": {"call": "300ms"},
    }
    async with running_gateway([entry]) as running, running.client2025() as client:
        await client.initialize()
        answer = await client.call("tardy_wait")
        assert answer["error"]["data"]["limit"] == "call"
        with trio.fail_after(load.stretched(5)):
            while b'late_answers_total{server="tardy"} 1.0' not in running.metrics.render():  # noqa: ASYNC110  # a metric has no event
                await trio.sleep(0.02)


async def test_what_is_no_message_and_a_call_that_crosses_an_end_are_counted() -> None:
    calls = 0

    async def on_call(connection: RawConnection, request: RawRequest) -> None:
        nonlocal calls
        if request.json["method"] != "tools/call":
            await connection.send_json(
                result(request.rpc_id, b'{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}')
            )
            return
        calls += 1
        if calls == 2:
            await connection.socket.aclose()
        else:
            await events(event(b"ping"), lambda rpc_id: event(result(rpc_id, b'{"content":[]}')))(connection, request)

    async with serve_raw(legacy(on_call, version="2025-06-18")) as server:
        entry = {"name": "odd", "url": server.url}
        async with running_gateway([entry]) as running, running.client2025() as client:
            await client.initialize()
            assert "result" in await client.call("odd_t")
            error = (await client.call("odd_t"))["error"]
            assert error["data"]["executed"] == "unknown"
            assert calls == 2
            told = running.metrics.render()
            assert b'mcp_gateway_messages_skipped_total{server="odd"} 1.0' in told
            assert b'mcp_gateway_kept_connections_lost_total{server="odd"} 1.0' in told


async def test_proxies_of_the_environment_are_ignored_and_that_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "")
    async with gateway_process({"servers": []}) as process:
        assert process.log.count(b"proxies of the environment are ignored") == 1
        assert b"HTTPS_PROXY" in process.log
        assert b"hunter2" not in process.log


async def test_the_bound_of_connections_follows_the_file() -> None:
    async with gateway_process({"servers": [], "limits": {"connections": 1}}) as process:
        where = urlsplit(process.url)

        async def status() -> int:
            async with process.client2025() as client:
                return (await client.http("GET")).status

        async with await trio.open_tcp_stream(where.hostname or "", where.port or 0):
            assert await status() == 503
            process.config.write_text(json.dumps({"servers": [], "limits": {"connections": 5}}))
            with trio.fail_after(load.stretched(5)):
                while await status() == 503:  # noqa: ASYNC110  # another process: it can only be asked again
                    await trio.sleep(0.05)


@pytest.mark.slow
async def test_a_grace_that_was_raised_by_a_reload_holds_for_connections_too() -> None:
    slow = Verbatim(modern=False, delay_s=5)
    async with serve_raw(slow) as backend, trio.open_nursery() as nursery:
        config = {"servers": [{"name": "v", "url": backend.url, "protocol": "2025-11-25"}], "drain": {"grace": "0s"}}
        async with gateway_process(config) as process, process.client2025() as client:
            await client.initialize()
            process.config.write_text(json.dumps({**config, "drain": {"grace": "20s"}}))
            with trio.fail_after(load.stretched(5)):
                while b"configuration loaded" not in process.log:  # noqa: ASYNC110  # another process
                    await trio.sleep(0.05)
            answers: list[object] = []

            async def call() -> None:
                answers.append((await client.call("v_t"))["result"])

            nursery.start_soon(call)
            while not slow.calls:  # noqa: ASYNC110  # kept by a script that has no event for it
                await trio.sleep(0.01)
            assert await process.stop(within_s=15) == 0
            assert answers == [{"content": []}]


async def test_invariant_3_no_log_line_and_no_page_tells_a_secret() -> None:
    """The whole program at debug, as JSON: each line of a request carries its ids, none a secret."""
    verbatim = Verbatim(modern=False)
    async with serve_raw(verbatim) as backend:
        entry = {
            "name": "v",
            "url": f"{backend.url}?key=url-secret",
            "protocol": "2025-11-25",
            "credential": {"value": "Bearer backend-secret"},
            "headers": {"X-Key": "header-secret"},
        }
        config = {"servers": [entry], "sessions": {"signingKeys": [{"value": "signing-secret-of-32-characters!"}]}}
        flags = ("--log-level", "debug", "--log-format", "json")
        async with gateway_process(config, *flags) as process, process.client2025() as client:
            await client.initialize()
            client.headers |= {"X-Request-Id": "r-77", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
            client.headers |= {"Authorization": "Bearer client-secret", "Cookie": "cookie-secret=1"}
            await client.call("v_t", {"password": "argument-secret"})
            await client.call("v_unknown", {"password": "argument-secret"})
            pages = []
            for path in ("/status", "/metrics", "/debug/tasks", "/"):
                async with process.client2025() as admin:
                    admin.url = process.admin_url + path
                    pages.append((await admin.http("GET")).raw)
            await process.stop()
            everything = bytes(process.log) + b"".join(pages)
            for secret in (b"secret", SESSION, client.session_id.encode()):
                assert secret not in everything, secret
            lines = [json.loads(line) for line in process.log.splitlines() if line.startswith(b"{")]
            calls = [line for line in lines if line["message"] == "call"]
            assert [line["method"] for line in calls] == ["initialize", "tools/call", "tools/call"]
            assert all(line["request_id"] for line in calls)
            assert [(line["request_id"], line["trace_id"]) for line in calls[1:]] == [("r-77", "ab" * 16)] * 2
            assert len({line["session"] for line in calls}) == 1
