"""Rules between entries, for whoever reads a configuration: a file as a whole, or a cluster entry by entry."""

import attrs
import pytest

from mcp_gateway.config.rules import GATEWAYS, SERVERS, VIRTUAL_SERVERS, impossible_selections, violations
from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, HttpTarget, ServerSpec, VirtualServerSpec
from mcp_gateway.values import BackendKey, GatewayName


def server(key: str, prefix: str) -> ServerSpec:
    return ServerSpec(key=BackendKey(key), target=HttpTarget(url="http://a/mcp"), prefix=prefix)


A, B = server("a", "a_"), server("b", "b_")
NAMED = GatewayEntry(name=GatewayName("g"))


@pytest.mark.parametrize(
    "spec, found",
    [
        pytest.param(GatewaySpec(servers=(A, B)), [], id="nothing"),
        pytest.param(GatewaySpec(servers=(A, B, A)), [(SERVERS, 2, "name")], id="a name twice"),
        pytest.param(GatewaySpec(servers=(A, server("", ""), server("", ""))), [], id="names that are missing"),
        pytest.param(GatewaySpec(servers=(A, server("b", "a_"))), [(SERVERS, 1, "prefix")], id="a prefix twice"),
        pytest.param(GatewaySpec(servers=(server("a", ""), server("b", ""))), [], id="no prefix twice"),
        pytest.param(
            GatewaySpec(
                servers=(A, server("b", "a_")),
                gateways=(attrs.evolve(NAMED, servers=(A.key,)), GatewayEntry(name=GatewayName("h"), servers=(B.key,))),
            ),
            [],
            id="a prefix twice, in two gateways",
        ),
        pytest.param(GatewaySpec(servers=(A,), gateways=(NAMED, NAMED)), [(GATEWAYS, 1, "name")], id="a gateway twice"),
        pytest.param(
            GatewaySpec(servers=(A,), gateways=(attrs.evolve(NAMED, servers=(A.key, B.key), virtual_servers=("v",)),)),
            [(GATEWAYS, 0, "servers"), (GATEWAYS, 0, "virtualServers")],
            id="references to nothing",
        ),
        pytest.param(
            GatewaySpec(
                servers=(A,), virtual_servers=(VirtualServerSpec(name="v", tools=("a_x", "x"), prompts=("y",)),)
            ),
            [(VIRTUAL_SERVERS, 0, "tools"), (VIRTUAL_SERVERS, 0, "prompts")],
            id="what can never exist",
        ),
    ],
)
def test_every_entry_that_breaks_a_rule_is_named(spec: GatewaySpec, found: list[tuple[str, int, str]]) -> None:
    assert [(one.entries, one.place, one.key) for one in (*violations(spec), *impossible_selections(spec))] == found


def test_of_two_that_clash_the_first_is_right_and_named() -> None:
    (clash,) = violations(GatewaySpec(servers=(A, B, server("c", "a_")), gateways=(NAMED,)))
    assert (clash.place, clash.what) == (2, "prefix a_ is already the one of server a in gateway g")
