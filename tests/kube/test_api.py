"""The API client against a real API server, and against one that misbehaves on cue."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import trio
from trio.testing import MockClock

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import REQUEST_S, Api, Selection, open_api, path_of
from mcp_gateway.kube.cluster import find_cluster
from mcp_gateway.kube.errors import (
    ApiBusy,
    ApiConflict,
    ApiExpired,
    ApiForbidden,
    ApiMissing,
    ApiRefused,
    ApiUnreachable,
    NoCluster,
)
from mcp_gateway.kube.lease import LEASE
from mcp_gateway.values import JsonObject
from tests.support.kube.apiserver import ApiServer
from tests.support.kube.kubectl import Kubectl
from tests.support.kube.scripted_api import answer, refusal, scripted_api


def secret(name: str, **data: str) -> JsonObject:
    encoded: JsonObject = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    labels: JsonObject = {"color": data.get("color", "none")}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "data": encoded}


def meta(value: JsonObject) -> JsonObject:
    found = value["metadata"]
    assert isinstance(found, dict)
    return found


async def watched_to_its_end(api: Api, selection: Selection, version: str) -> None:
    with trio.fail_after(15):
        while True:
            try:
                async with api.watch(selection, version) as events:
                    async for _ in events:
                        pass
            except ApiBusy:  # a server that has just started initializes its storage of each kind
                await trio.sleep(0.1)


@asynccontextmanager
async def api_of(server: ApiServer, kubeconfig: str | None = None) -> AsyncIterator[Api]:
    async with open_api(find_cluster({"KUBECONFIG": kubeconfig or server.kubeconfig}), "tests") as api:
        yield api


@pytest.mark.kube
async def test_objects_are_created_replaced_applied_and_deleted(api_server: ApiServer, kubectl: Kubectl) -> None:
    space = kubectl.namespace
    async with api_of(api_server) as api:
        with pytest.raises(ApiMissing):
            await api.get(schema.SECRET, space, "a")
        made = await api.create(schema.SECRET, space, secret("a", x="1"))
        with pytest.raises(ApiConflict):
            await api.create(schema.SECRET, space, secret("a", x="1"))
        newer = await api.replace(schema.SECRET, space, "a", {**made, "data": {}})
        with pytest.raises(ApiConflict):
            await api.replace(schema.SECRET, space, "a", made)
        assert meta(newer)["resourceVersion"] != meta(made)["resourceVersion"]
        applied = await api.apply(schema.SECRET, space, "b", secret("b", x="2"))
        assert meta(applied)["name"] == "b"
        stale: JsonObject = {**secret("b", x="3"), "metadata": {"name": "b", "resourceVersion": "1"}}
        with pytest.raises(ApiConflict):
            await api.apply(schema.SECRET, space, "b", stale)
        merged = await api.merge(schema.SECRET, space, "b", {"metadata": {"labels": {"color": "red"}}})
        assert meta(merged)["labels"] == {"color": "red"}
        with pytest.raises(ApiConflict):
            await api.delete(schema.SECRET, space, "b", uid="another")
        await api.delete(schema.SECRET, space, "b")
        with pytest.raises(ApiMissing):
            await api.delete(schema.SECRET, space, "b")


@pytest.mark.kube
async def test_a_list_is_read_to_its_end(api_server: ApiServer, kubectl: Kubectl) -> None:
    async with api_of(api_server) as api:
        async with trio.open_nursery() as nursery:
            for number in range(510):
                nursery.start_soon(api.create, schema.SECRET, kubectl.namespace, secret(f"s{number:03}"))
        found = await api.list(Selection(kind=schema.SECRET, namespace=kubectl.namespace))
        assert [meta(one)["name"] for one in found.items] == [f"s{number:03}" for number in range(510)]
        one = await api.list(Selection(kind=schema.SECRET, namespace=kubectl.namespace, fields="metadata.name=s007"))
        assert len(one.items) == 1


@pytest.mark.kube
async def test_a_watch_tells_what_is_selected(api_server: ApiServer, kubectl: Kubectl) -> None:
    red = Selection(kind=schema.SECRET, namespace=kubectl.namespace, labels="color=red")
    async with api_of(api_server) as api:
        found = await api.list(red)
        await api.create(schema.SECRET, kubectl.namespace, secret("blue", color="blue"))
        await api.create(schema.SECRET, kubectl.namespace, secret("red", color="red"))
        await api.delete(schema.SECRET, kubectl.namespace, "red")
        told = []
        async with api.watch(red, found.version) as events:
            async for event in events:
                told.append((event.type, meta(event.object)["name"]))
                if event.type == "DELETED":
                    break
    assert told == [("ADDED", "red"), ("DELETED", "red")]


@pytest.mark.kube
async def test_a_version_that_is_too_old_is_said_to_be(api_server: ApiServer) -> None:
    async with api_of(api_server) as api:
        with pytest.raises(ApiExpired):
            await watched_to_its_end(api, Selection(kind=schema.REGISTRATION), "1")


@pytest.mark.kube
async def test_who_may_not_is_told_so(api_server: ApiServer, kubectl: Kubectl) -> None:
    api_server.authority.issue("nobody-special")
    async with api_of(api_server, api_server.kubeconfig_of("nobody-special")) as api:
        with pytest.raises(ApiForbidden, match="cannot list resource"):
            await api.list(Selection(kind=schema.SECRET, namespace=kubectl.namespace))
        with pytest.raises(ApiForbidden):
            async with api.watch(Selection(kind=schema.GATEWAY), "1"):
                pass


@pytest.mark.kube
async def test_a_lease_can_be_written(api_server: ApiServer, kubectl: Kubectl) -> None:
    value: JsonObject = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me", "leaseDurationSeconds": 10}}
    async with api_of(api_server) as api:
        assert (await api.create(LEASE, kubectl.namespace, value))["kind"] == "Lease"


@pytest.mark.parametrize("good_from", [pytest.param(1, id="then it is good"), pytest.param(9, id="once only")])
async def test_a_refused_credential_is_read_again(autojump_clock: MockClock, good_from: int) -> None:
    seen: list[str] = []

    async def handle(request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        seen.append(request.headers["authorization"])
        return answer({"kind": "Gateway"}) if len(seen) > good_from else refusal(401, "Unauthorized")

    async with scripted_api(handle) as api:
        if good_from == 1:
            assert await api.get(schema.GATEWAY, "n", "g") == {"kind": "Gateway"}
        else:
            with pytest.raises(ApiForbidden):
                await api.get(schema.GATEWAY, "n", "g")
    assert seen == ["Bearer token-0", "Bearer token-1"]


@pytest.mark.parametrize(
    "response, kind, retry_after_s",
    [
        pytest.param(refusal(429, "TooManyRequests", retry_after="3"), ApiBusy, 3.0, id="busy"),
        pytest.param(refusal(503), ApiBusy, None, id="away"),
        pytest.param(refusal(422, "Invalid"), ApiRefused, None, id="invalid"),
        pytest.param(httpx2.Response(400, content=b"<html>"), ApiRefused, None, id="no Status at all"),
        pytest.param(
            answer({"reason": "ServerTimeout", "details": {"retryAfterSeconds": 2}}, 500),
            ApiBusy,
            2.0,
            id="in the body",
        ),
        pytest.param(refusal(429, retry_after="Fri, 27 Nov 2026 00:00:00 GMT"), ApiBusy, None, id="a date"),
    ],
)
async def test_what_a_refusal_means(
    autojump_clock: MockClock, response: httpx2.Response, kind: type[ApiRefused], retry_after_s: float | None
) -> None:
    async def handle(request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        return response

    async with scripted_api(handle) as api:
        with pytest.raises(kind) as caught:
            await api.get(schema.GATEWAY, "n", "g")
    assert caught.value.retry_after_s == retry_after_s
    assert "/apis/gateway.networking.k8s.io/v1/namespaces/n/gateways/g" in str(caught.value)


async def test_no_answer_ends_in_time(autojump_clock: MockClock) -> None:
    async def handle(request: httpx2.Request) -> httpx2.Response:
        await trio.sleep_forever()
        raise AssertionError

    async with scripted_api(handle) as api:
        began_at = trio.current_time()
        with pytest.raises(ApiUnreachable):
            await api.get(schema.GATEWAY, "n", "g")
        assert trio.current_time() - began_at <= REQUEST_S


async def test_an_answer_that_is_not_json_is_none(autojump_clock: MockClock) -> None:
    async def handle(request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        return httpx2.Response(200, content=b"<html>")

    async with scripted_api(handle) as api:
        with pytest.raises(ApiUnreachable, match="not JSON"):
            await api.get(schema.GATEWAY, "n", "g")


def test_paths_are_those_of_the_api() -> None:
    assert path_of(schema.NAMESPACE, None, "x") == "/api/v1/namespaces/x"
    assert path_of(schema.REGISTRATION, "n", "a/b", "status") == (
        "/apis/mcp.kagenti.com/v1alpha1/namespaces/n/mcpserverregistrations/a%2Fb/status"
    )


@pytest.mark.parametrize(
    "environ", [pytest.param({}, id="nothing"), pytest.param({"KUBECONFIG": "/does/not/exist"}, id="no such file")]
)
def test_without_a_cluster_it_says_what_to_do(environ: dict[str, str]) -> None:
    with pytest.raises(NoCluster, match="set KUBECONFIG"):
        find_cluster(environ)
