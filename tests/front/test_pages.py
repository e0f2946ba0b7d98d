"""The pages of the admin listener."""

import re

import orjson
import pytest
from quart_trio import QuartTrio

from mcp_gateway.front.pages import PAGE, PAGE_POLICY, admin_pages, guarded
from mcp_gateway.values import JsonObject
from tests.support.front import FixedStatus

TIME: JsonObject = {"name": "ns/time", "state": "ready"}
SHOWN: JsonObject = {"version": "1", "servers": [TIME, {"name": "<b>", "state": "down"}]}


async def get(app: QuartTrio, path: str) -> tuple[int, str, str]:
    answer = await app.test_client().get(path)
    return answer.status_code, answer.headers.get("Content-Type", ""), await answer.get_data(as_text=True)


async def test_health_is_green_while_the_loop_turns_and_ready_says_why_not() -> None:
    source = FixedStatus()
    app = admin_pages(source)
    assert (await get(app, "/healthz"))[0::2] == (200, "ok\n")
    assert (await get(app, "/readyz"))[0::2] == (200, "ok\n")
    source.is_ready, source.why = False, "draining"
    assert (await get(app, "/healthz"))[0] == 200
    assert (await get(app, "/readyz"))[0::2] == (503, "not ready: draining\n")


async def test_a_wrong_verb_says_which_are_right() -> None:
    answer = await admin_pages(FixedStatus()).test_client().post("/healthz")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


async def test_status_as_json_whole_and_for_one_server() -> None:
    app = admin_pages(FixedStatus(shown=SHOWN))
    status, kind, body = await get(app, "/status")
    assert (status, kind, orjson.loads(body)) == (200, "application/json", SHOWN)
    assert orjson.loads((await get(app, "/status/ns/time"))[2]) == TIME
    assert (await get(app, "/status/nobody"))[0] == 404
    assert (await get(admin_pages(FixedStatus()), "/status/nobody"))[0] == 404


async def test_metrics_and_tasks_are_served() -> None:
    app = admin_pages(FixedStatus())
    status, kind, body = await get(app, "/metrics")
    assert (status, kind.startswith("text/plain; version=0.0.4")) == (200, True)
    assert "mcp_gateway_build_info" in body
    assert "tasks" in (await get(app, "/debug/tasks"))[2]


async def test_the_page_may_run_only_what_stands_in_it() -> None:
    answer = await admin_pages(FixedStatus()).test_client().get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy == f"{PAGE_POLICY}; frame-ancestors 'none'"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_never_makes_markup_of_text_and_loads_nothing() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", PAGE)
    assert not re.search(r'(src|href)="(?!data:|status"|metrics"|debug/tasks")', PAGE)
    assert not re.search(r"""\son\w+=|\sstyle=""", PAGE)
    assert (PAGE.count("<style"), PAGE.count("<script")) == (1, 1)


async def test_a_page_that_fails_says_nothing_of_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FixedStatus):
        def status(self) -> JsonObject:
            raise RuntimeError("the secret of the house")

    status, _, body = await get(admin_pages(Broken()), "/status")
    assert (status, body) == (500, "internal server error\n")


@pytest.mark.parametrize(
    "host, loopback, expected",
    [("evil.example", True, 403), ("localhost:9090", True, 200), ("10.0.0.7:9090", False, 200)],
)
async def test_the_admin_listener_is_guarded_against_other_sites(host: str, loopback: bool, expected: int) -> None:
    app = admin_pages(FixedStatus())
    app.asgi_app = guarded(app.asgi_app, bind_is_loopback=loopback)  # type: ignore[method-assign,assignment]  # as middleware is
    answer = await app.test_client().get("/healthz", headers={"Host": host})
    assert answer.status_code == expected
