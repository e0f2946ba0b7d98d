"""What an earlier release of a kind does not declare is left out, and nothing else."""

import json
from typing import Any

import httpx2
import orjson
import pytest
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import open_api
from mcp_gateway.kube.cluster import find_cluster
from mcp_gateway.kube.errors import ApiBusy
from mcp_gateway.kube.undeclared import named, without
from mcp_gateway.values import JsonObject
from tests.kube.crds import crd
from tests.support.kube.apiserver import ApiServer
from tests.support.kube.kubectl import Kubectl
from tests.support.kube.scripted_api import answer, scripted_api

ONE = "failed to create typed patch object (a/b; g/v, Kind=K): .status.lastError: field not declared in schema"
SEVERAL = (
    "failed to create typed patch object (a/b; g/v, Kind=K): errors:\n"
    "  .status.lastError: field not declared in schema\n"
    "  .status.extensions[0].tools: field not declared in schema\n"
    '  .status.conditions[type="Ready"].more: field not declared in schema'
)


@pytest.mark.parametrize(
    "refusal, paths",
    [
        pytest.param(ONE, [("status", "lastError")], id="one"),
        pytest.param(
            SEVERAL,
            [("status", "lastError"), ("status", "extensions", "tools"), ("status", "conditions", "more")],
            id="several, in lists too",
        ),
        pytest.param("etcdserver: request timed out", [], id="something else"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_fields_are_named_by_the_refusal(refusal: str, paths: list[tuple[str, ...]]) -> None:
    assert list(named(refusal)) == paths


def test_everything_else_stays() -> None:
    value: JsonObject = {
        "metadata": {"name": "b"},
        "status": {"lastError": "x", "extensions": [{"name": "e", "tools": 1}, "odd"], "conditions": 5},
    }
    assert without(value, SEVERAL) == {
        "metadata": {"name": "b"},
        "status": {"extensions": [{"name": "e"}, "odd"], "conditions": 5},
    }
    assert without(value, "no") == value


async def test_a_refusal_that_names_nothing_of_ours_is_an_error_at_once() -> None:
    asked = 0

    async def refuse(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        return answer({"kind": "Status", "code": 500, "message": ONE.replace("lastError", "other")}, 500)

    async with scripted_api(refuse) as api:
        with pytest.raises(ApiBusy, match="not declared"):
            await api.apply(schema.REGISTRATION, "a", "b", {"status": {"lastError": "x"}}, "status")
    assert asked == 1


@pytest.mark.kube
@pytest.mark.timeout(180)
async def test_a_real_api_server_takes_what_its_kind_declares(api_server: ApiServer, kubectl: Kubectl) -> None:
    kind = schema.Kind(group="earlier.example.com", version="v1alpha1", kind="Earlier", plural="earliers")
    made: Any = crd("mcpserverregistrations")
    made["metadata"] = {"name": kind.resource}
    made["spec"] |= {"group": kind.group, "names": {"kind": kind.kind, "plural": kind.plural}}
    declared = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    del declared["lastError"], declared["extensions"]["items"]["properties"]["tools"]
    made["spec"]["versions"][0]["additionalPrinterColumns"] = []
    await kubectl.apply(made)
    await kubectl("wait", "--for=condition=Established", f"crd/{kind.resource}", "--timeout=30s")
    target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}
    value: JsonObject = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "a"}}
    await kubectl.apply({**value, "spec": {"targetRef": target}})
    place: JsonObject = {"namespace": "n", "name": "e", "accepted": True, "tools": 3}
    status: JsonObject = {"lastError": "x", "endpoint": "http://e", "extensions": [place]}
    cluster = find_cluster({"KUBECONFIG": api_server.kubeconfig})
    async with open_api(cluster, "tests") as api:
        await api.apply(kind, kubectl.namespace, "a", {**value, "status": status}, "status")
    written = json.loads(await kubectl("get", kind.resource, "a", "-o", "json"))
    del written["status"]["conditions"]  # the kind's own, of an object that nobody has looked at
    expected = {"endpoint": "http://e", "extensions": [{"namespace": "n", "name": "e", "accepted": True}]}
    assert orjson.dumps(written["status"], option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        expected, option=orjson.OPT_SORT_KEYS
    )
