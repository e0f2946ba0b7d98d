"""The objects of the user's own document are admitted exactly as they are written there."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.kube.apiserver import ApiServer
from tests.support.kube.kubectl import as_admin

pytestmark = [pytest.mark.kube, pytest.mark.timeout(180)]

PROCEDURE: Final = Path(__file__).resolve().parent / "seed" / "procedure.txt"
BLOCKS: Final = re.findall(r"^kubectl apply -f - <<EOF\n(.*?)^EOF$", PROCEDURE.read_text(), re.DOTALL | re.MULTILINE)


async def test_every_block_is_applied_as_written(api_server: ApiServer) -> None:
    kubectl = as_admin(api_server, "")
    for namespace in ("mcp-test", "gateway-system"):
        await kubectl("create", "namespace", namespace)
    assert [(await kubectl("apply", "-f", "-", stdin=block)).split()[0].split("/")[0] for block in BLOCKS] == [
        "mcpgatewayextension.mcp.kagenti.com",
        "referencegrant.gateway.networking.k8s.io",
        "httproute.gateway.networking.k8s.io",
        "mcpserverregistration.mcp.kagenti.com",
    ]
    assert "mcp-gateway" in await kubectl("get", "mcpgatewayextension/mcp-extension", "-n", "mcp-test")
    row = (await kubectl("get", "mcpsr", "-A")).splitlines()[1].split()
    assert row[:5] == ["mcp-test", "my-mcp-server", "myserver_", "mcp-api-key-server-route", "/mcp"]
    for block in BLOCKS:
        await kubectl("apply", "-f", "-", stdin=block)
        assert "serverside-applied" in await kubectl(
            "apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=block
        )
