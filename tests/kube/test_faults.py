"""What goes wrong in a cluster, and that everything converges: programs that die or freeze, objects that vanish."""

import base64
import gzip
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.error import HTTPError

import pytest

from mcp_gateway.kube import schema
from tests.support.kube.installation import ROOT, SYSTEM, Program
from tests.support.kube.small_cluster import (
    EXTENSION,
    GRANT,
    PATIENCE_S,
    ROUTE,
    SmallCluster,
    registration,
    route_to,
    until,
)
from tests.support.kube.token_server import TokenServer

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]

HOURS_S: Final = 36_000.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster() as made:
        yield made


@pytest.fixture
def controller(cluster: SmallCluster) -> Iterator[Program]:
    """A controller that leads."""
    with cluster.leading() as program:
        yield program


def credential(token: str) -> Mapping[str, object]:
    """A Secret as a user labels it."""
    metadata = {"name": "guarded", "namespace": "mcp-test", "labels": {schema.LABEL_CREDENTIAL: schema.LABEL_TRUE}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}}


@contextmanager
def calling(cluster: SmallCluster, tool: str) -> Iterator[list[str]]:
    """Call a tool again and again, four at a time; yields what came of each call."""
    over, outcomes = threading.Event(), list[str]()

    def call() -> None:
        while not over.is_set():
            outcomes.append(cluster.call(tool, a=1, b=2))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_pieces_in_any_order_converge_and_what_goes_is_taken_back(cluster: SmallCluster, controller: Program) -> None:
    cluster.apply(registration("one"))
    until(lambda: cluster.ready("one") == "False")
    for piece in (ROUTE, GRANT, EXTENSION):
        cluster.apply(piece)
    until(lambda: cluster.serves("one"))
    until(lambda: cluster.ready("one") == "True")
    cluster.remove(GRANT)
    until(lambda: not cluster.tools())
    until(lambda: cluster.ready("one") != "True")
    cluster.apply(GRANT)
    until(lambda: cluster.serves("one"))
    until(lambda: cluster.ready("one") == "True")


def test_what_happens_while_no_controller_runs_is_caught_up_with(cluster: SmallCluster) -> None:
    cluster.apply(registration("gone"), registration("stays"))
    killed = cluster.controller(pod="controller-killed")
    until(lambda: cluster.serves("gone") and cluster.serves("stays"))
    killed.end(signal.SIGKILL)
    cluster.remove(registration("gone"))
    cluster.apply(registration("late"))
    assert cluster.serves("gone"), "the data plane goes on with what it has"
    following = cluster.controller(pod="controller-following")
    took_s = until(lambda: cluster.serves("late") and not cluster.serves("gone"))
    until(lambda: cluster.ready("late") == "True")
    assert took_s < PATIENCE_S
    following.end()


def test_of_two_controllers_one_writes_and_the_other_takes_over(cluster: SmallCluster, controller: Program) -> None:
    other = cluster.controller(pod="controller-other")
    cluster.apply(registration("two"))
    until(lambda: cluster.ready("two") == "True")
    assert "leading" not in other.log.read_text()
    controller.end()
    other.wait_for("leading")
    cluster.apply(registration("three"))
    until(lambda: cluster.ready("three") == "True")
    other.end()


def test_the_api_server_goes_and_comes_back(cluster: SmallCluster, controller: Program) -> None:
    cluster.apply(registration("five"))
    until(lambda: cluster.serves("five"))
    cluster.api.server.kill()
    cluster.api.server.wait()
    time.sleep(3)  # noqa: TID251  # away
    assert cluster.serves("five")
    cluster.api.start_server()
    cluster.apply(registration("six"))
    until(lambda: cluster.serves("six"))
    until(lambda: cluster.ready("six") == "True")
    assert controller.process.poll() is None


@pytest.mark.parametrize(
    "how", [pytest.param("delete", id="deleted"), pytest.param("", id="emptied"), pytest.param("*", id="garbage")]
)
def test_a_damaged_configuration_harms_nobody_and_is_mended(
    cluster: SmallCluster, controller: Program, how: str
) -> None:
    cluster.apply(registration("seven"))
    until(lambda: cluster.serves("seven"))
    secret = ("secret", "mcp-gateway-config", "-n", SYSTEM)
    if how == "delete":
        cluster.kubectl("delete", *secret)
    else:
        data = {"data": {"config.json.gz": base64.b64encode(how.encode()).decode()}}
        cluster.kubectl("patch", *secret, "-p", json.dumps(data))
    assert cluster.serves("seven")
    cluster.apply(registration("eight"))
    until(lambda: cluster.serves("eight"))
    assert cluster.serves("seven")
    cluster.remove(registration("eight"))
    until(lambda: not cluster.serves("eight"))


def test_programs_whose_clocks_are_hours_off_agree_all_the_same(cluster: SmallCluster) -> None:
    ahead = cluster.controller(pod="controller-ahead", skew_s=HOURS_S)
    ahead.wait_for("leading")
    behind = cluster.controller(pod="controller-behind", skew_s=-HOURS_S)
    pod, _ = cluster.data_plane(pod="data-plane-behind", skew_s=-HOURS_S)
    cluster.apply(registration("nine"))
    until(lambda: cluster.serves("nine") and cluster.ready("nine") == "True")
    time.sleep(4)  # noqa: TID251  # two renewals of the Lease
    assert "leading" not in behind.log.read_text()
    ahead.end()
    behind.wait_for("leading")
    cluster.remove(registration("nine"))
    cluster.apply(registration("ten"))
    until(lambda: cluster.serves("ten") and not cluster.serves("nine") and cluster.ready("ten") == "True")
    pod.end()
    until(lambda: "data-plane-behind" not in str(cluster.admin.versions(schema.REPORT)))
    assert cluster.ready("ten") == "True"
    behind.end()


def test_a_credential_that_is_rotated_under_load_fails_no_call(cluster: SmallCluster, controller: Program) -> None:
    with TokenServer(cluster.address("guarded", "mcp-test", 9191), "token-0") as server:
        cluster.apply(credential("token-0"), route_to("guarded", 9191))
        cluster.apply(registration("guarded", route="guarded", credentialRef={"name": "guarded", "key": "token"}))
        until(lambda: cluster.serves("guarded"))
        with calling(cluster, "guarded_add") as outcomes:
            for number in range(1, 4):
                server.accepted.add(f"token-{number}")
                cluster.apply(credential(f"token-{number}"))
                until(lambda: server.last == f"token-{number}")  # noqa: B023  # waited for here
                time.sleep(1)  # noqa: TID251  # for what was under way with the old one
                server.accepted.remove(f"token-{number - 1}")
                time.sleep(1)  # noqa: TID251  # under load
        assert server.refused == 0
        assert len(outcomes) > 100
        assert [one for one in outcomes if one != "3"] == []


def test_an_idle_cluster_is_not_written_to(cluster: SmallCluster, controller: Program) -> None:
    until(lambda: cluster.ready("seven") == "True")
    time.sleep(2)  # noqa: TID251  # whatever is left to do

    def versions() -> str:
        kinds = "mcpsr,mcpge,mcpvs,httproutes,secrets"
        path = "jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}"
        return cluster.kubectl("get", kinds, "-A", "-o", path)

    before = versions()
    time.sleep(6)  # noqa: TID251  # three renewals of the Lease
    assert versions() == before


def write_config(cluster: SmallCluster, whole: Mapping[str, object]) -> None:
    """As a controller of another version would."""
    packed = base64.b64encode(gzip.compress(json.dumps(whole).encode())).decode()
    cluster.admin.merge(schema.SECRET, SYSTEM, schema.CONFIG_SECRET, {"data": {schema.CONFIG_KEY: packed}})


def reported(cluster: SmallCluster, entries: str) -> dict[str, str]:
    """The state of each entry of a list of the data plane's report."""
    (report,) = cluster.admin.list(schema.REPORT)
    spec = report["spec"]
    assert isinstance(spec, dict)
    found = spec[entries]
    assert isinstance(found, list)
    return {str(one["name"]): str(one["state"]) for one in found if isinstance(one, dict)}


def test_what_a_newer_controller_wrote_is_served_as_far_as_it_is_understood(cluster: SmallCluster) -> None:
    where = cluster.kubectl(
        "get", "service", "mcp-api-key-server", "-n", "mcp-test", "-o", "jsonpath={.spec.clusterIP}"
    )
    text = (ROOT / "tests" / "kube" / "compiled" / "schema-2.json").read_text()
    whole = json.loads(text.replace("SERVER", f"{where}:9090"))
    write_config(cluster, whole)
    until(lambda: cluster.serves("plain"))
    assert {tool.partition("_")[0] for tool in cluster.tools()} == {"plain"}
    assert cluster.call("plain_add", a=1, b=2) == "3"
    assert "Error" in cluster.call("guarded_add", a=1, b=2)
    assert cluster.tools(host="locked.test") == set()
    assert cluster.tools(virtual="mcp-test/some") == {"plain_add"}
    with pytest.raises(HTTPError):
        cluster.tools(virtual="mcp-test/hours")
    until(
        lambda: (
            reported(cluster, "servers") == {"mcp-test/plain": "Connected", "mcp-test/guarded": "UnsupportedFeature"}
        )
    )
    assert reported(cluster, "gateways") == {"mcp-test/extension": "Loaded", "other/extension": "UnsupportedFeature"}
    assert reported(cluster, "virtualServers") == {"mcp-test/some": "Loaded", "mcp-test/hours": "UnsupportedFeature"}
    write_config(cluster, {**whole, "requires": ["gateways", "oauth"]})
    until(lambda: not cluster.tools())
    assert "Error" in cluster.call("plain_add", a=1, b=2)
    until(lambda: set(reported(cluster, "servers").values()) == {"UnsupportedFeature"})
