"""Whose level the lines about a server have."""

import pytest

from mcp_gateway.config.log_levels import of_backends, of_gateways
from mcp_gateway.config.spec import GatewayEntry, GatewaySpec, HttpTarget, ServerSpec
from mcp_gateway.values import BackendKey, GatewayName

A, B = BackendKey("a"), BackendKey("b")


def spec(*gateways: GatewayEntry) -> GatewaySpec:
    servers = tuple(ServerSpec(key=key, target=HttpTarget(url="http://x.test/mcp")) for key in (A, B))
    return GatewaySpec(servers=servers, gateways=gateways)


def entry(name: str, level: str = "", *servers: BackendKey, every: bool = False) -> GatewayEntry:
    return GatewayEntry(name=GatewayName(name), log_level=level, servers=None if every else servers)


def test_gateways_have_the_level_that_is_theirs() -> None:
    assert of_gateways(spec(entry("x", "debug"), entry("y"))) == {"x": "debug"}


@pytest.mark.parametrize(
    "gateways, levels",
    [
        pytest.param([entry("x", "debug", A)], {A: "debug"}, id="its only gateway's"),
        pytest.param([entry("x", "error", A)], {A: "error"}, id="less than the process"),
        pytest.param([entry("x", "error", A), entry("y", "warning", A)], {A: "warning"}, id="the most talkative"),
        pytest.param([entry("x", "error", A), entry("y", "", A)], {}, id="one wants what the process wants"),
        pytest.param([entry("x", "debug", every=True)], {A: "debug", B: "debug"}, id="every server"),
        pytest.param([], {}, id="no gateway"),
    ],
)
def test_a_server_is_spoken_of_as_much_as_one_of_its_gateways_wants(
    gateways: list[GatewayEntry], levels: dict[BackendKey, str]
) -> None:
    assert of_backends(spec(*gateways), "info") == levels
