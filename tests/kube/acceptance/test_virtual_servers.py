"""Virtual servers, chosen by header. Numbers are those of docs/kubernetes-acceptance.md."""

import pytest

from tests.support.kube.documents import document
from tests.support.kube.objects import Document
from tests.support.kube.place import Place, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]


def virtual_server(place: Place, name: str, **spec: object) -> Document:
    return document("MCPVirtualServer", place.name, name, spec)


async def test_the_header_narrows_every_list_and_calls_and_without_it_all_is_there(place: Place) -> None:
    """K-12, K-23, K-25."""
    place.serve("server", prompts=["greet", "leave"])
    place.register("server", "s_")
    place.apply(
        virtual_server(place, "both", tools=["s_greet"], prompts=["s_leave"]),
        virtual_server(place, "tools-only", tools=["s_greet", "s_headers"]),
    )
    await place.ready("server")
    await until(lambda: all(place.is_ready(name, "MCPVirtualServer") for name in ("both", "tools-only")))
    both = {"X_Mcp_Virtualserver": f"{place.name}/both"}
    assert await place.names(**both) == {"s_greet"}
    assert await place.names("prompts", **both) == {"s_leave"}
    only = {"X_Mcp_Virtualserver": f"{place.name}/tools-only"}
    assert await place.names(**only) == {"s_greet", "s_headers"}
    assert await place.names("prompts", **only) == {"s_greet", "s_leave"}
    assert await place.names("prompts") == {"s_greet", "s_leave"}
    assert len(await place.names()) == 4
    async with place.client2026() as client:
        client.headers["X-Mcp-Virtualserver"] = f"{place.name}/both"
        assert "result" in await client.call("s_greet")
        assert (await client.call("s_headers"))["error"]["code"] == -32602
