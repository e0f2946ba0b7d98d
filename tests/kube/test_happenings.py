"""What is worth an Event: news, and not that news is on its way."""

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.events import happenings
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile.conditions import Reason, Verdict, bad, good, status_after, unknown
from mcp_gateway.kube.reconcile.outcome import StatusWrite
from mcp_gateway.values import JsonObject
from tests.support.cluster import NOW

LOADING = unknown(Reason.PENDING, "0 of 1 pods have loaded it")
NOBODY = unknown(Reason.NO_DATA_PLANE, "no pod of the gateway reports")
LOADED = good(Reason.PROGRAMMED, "loaded by every pod")
READY = good(Reason.READY, "3 tools are served")


def status(programmed: Verdict, ready: Verdict, accepted: Verdict | None = None) -> JsonObject:
    verdicts = {
        schema.ACCEPTED: accepted or good(Reason.ACCEPTED, ""),
        schema.RESOLVED_REFS: good(Reason.RESOLVED_REFS, ""),
        schema.PROGRAMMED: programmed,
        schema.READY: ready,
    }
    return status_after({}, verdicts, 1, NOW)


NEW: JsonObject = {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending", "message": ""}]}
WAITS = status(LOADING, bad(Reason.NOT_READY, LOADING.message))
MISSING = status(LOADED, bad(Reason.NOT_READY, "no server offers a"))
SERVED = status(LOADED, READY)
ALONE = status(NOBODY, bad(Reason.NOT_READY, NOBODY.message))
REFUSED = status(LOADING, bad(Reason.NOT_READY, "no"), bad(Reason.NO_MATCHING_PARENT, "no"))


@pytest.mark.parametrize(
    "before, after, told",
    [
        pytest.param({}, WAITS, [], id="about to be loaded"),
        pytest.param(NEW, WAITS, [], id="about to be loaded, as the CRD begins"),
        pytest.param(SERVED, WAITS, [], id="a change is about to be loaded"),
        pytest.param(WAITS, SERVED, ["Normal Ready 3 tools are served"], id="loaded"),
        pytest.param(WAITS, MISSING, ["Warning NotReady no server offers a"], id="loaded, and it is not well"),
        pytest.param(NEW, REFUSED, ["Warning NotReady no"], id="refused at once"),
        pytest.param(SERVED, REFUSED, ["Warning NotReady no"], id="refused later"),
        pytest.param(WAITS, ALONE, ["Warning NotReady no pod of the gateway reports"], id="nobody is there"),
        pytest.param(REFUSED, MISSING, [], id="the same outcome for the same reason"),
        pytest.param(SERVED, SERVED, [], id="no change"),
        pytest.param({}, {"conditions": []}, [], id="no Ready"),
    ],
)
def test_news_is_told_once_it_is_news(before: JsonObject, after: JsonObject, told: list[str]) -> None:
    write = StatusWrite(kind=schema.REGISTRATION, key=Key("a", "b"), uid="1", resource_version="1", status=after)
    assert [f"{one.type} {one.reason} {one.note}" for one in happenings(write, before)] == told
