"""How much is logged of one extension is its own affair."""

import pytest

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
    tenant.wait_ready()
    until(lambda: not _speaks(tenant) and not _speaks(tenant))
    before = lines(tenant, "DEBUG") + lines(tenant, "INFO")
    tenant.apply(tenant.registration(hint="connected to anew"))
    tenant.wait_ready()
    tenant.tools()
    other.apply(other.registration(hint="connected to anew"))
    other.wait_ready()
    assert lines(tenant, "DEBUG") + lines(tenant, "INFO") == before


def _speaks(tenant: Tenant) -> bool:
    """Whether a request is written of."""
    before = len(lines(tenant, "DEBUG"))
    tenant.tools()
    return len(lines(tenant, "DEBUG")) > before
