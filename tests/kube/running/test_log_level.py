"""How much is logged of one extension is its own affair."""

import time

import pytest

from mcp_gateway.kube import schema
from tests.support.kube.tenants import Tenant, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(120)]


def lines(tenant: Tenant, level: str) -> list[str]:
    """What the data plane has said at a level of this tenant: its requests, and its server."""
    log = tenant.cluster.serving.log.read_text(errors="replace").splitlines()
    return [line for line in log if f" {level} " in line and f"{tenant.name}/" in line]


def test_a_level_applies_to_the_lines_of_its_extension_alone_and_follows_a_change(tenant: Tenant) -> None:
    other = tenant.cluster.tenant()
    for one, extension in ((tenant, tenant.extension(logLevel="debug")), (other, other.extension())):
        one.apply(*one.everything(), extension)
        one.wait_ready()
        one.tools()
    until(lambda: [one for one in lines(tenant, "DEBUG") if "method=tools/list" in one])
    assert any(f"gateway={tenant.name}/extension" in one for one in lines(tenant, "DEBUG"))
    assert lines(other, "INFO")
    assert not lines(other, "DEBUG")

    tenant.apply(tenant.extension(logLevel="error"))
    until(lambda: _loaded(tenant) == 2)
    until(lambda: not _speaks(tenant))
    before = lines(tenant, "DEBUG") + lines(tenant, "INFO")
    tenant.apply(tenant.registration(hint="connected to anew"))
    tenant.wait_ready()
    tenant.tools()
    other.apply(other.registration(hint="connected to anew"))
    other.wait_ready()
    assert lines(tenant, "DEBUG") + lines(tenant, "INFO") == before


def _loaded(tenant: Tenant) -> int:
    """The generation of the extension that every pod has."""
    found = tenant.document(schema.EXTENSION, tenant.extension_key)["status"]["conditions"]
    ready = next(one for one in found if one["type"] == schema.READY)
    return int(ready["observedGeneration"]) if ready["status"] == "True" else 0


def _speaks(tenant: Tenant) -> bool:
    """Whether a request is written of, within a while: the log has a thread of its own."""
    before = len(lines(tenant, "DEBUG"))
    tenant.tools()
    time.sleep(0.5)  # noqa: TID251  # outside of any loop
    return len(lines(tenant, "DEBUG")) > before
