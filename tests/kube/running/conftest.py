"""One installation at work for all tests of this folder.

Owns the fixtures. Deliberately resets nothing between tests: each is a tenant of its own. Invariant: what a test
changes for everybody it puts back.
"""

from collections.abc import Iterator

import pytest

from tests.support.kube.tenants import Running, Tenant


@pytest.fixture(scope="package")
def cluster() -> Iterator[Running]:
    """Both programs under their own ServiceAccounts, and one MCP server."""
    with Running().at_work() as running:
        yield running


@pytest.fixture
def tenant(cluster: Running) -> Tenant:
    """Somebody new."""
    return cluster.tenant()
