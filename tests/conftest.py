"""What every test gets: the profiles of the property tests, and its skip where the machine lacks what it needs.

Deliberately no fixtures with behaviour of their own; honest fakes live in ``tests/support``.
"""

import pytest
from hypothesis import HealthCheck, settings

from tests.support import peers

# The fuse of pytest-timeout guards the time; a deadline per example fails on a busy machine for no reason.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, before the test begins: inside an asynchronous one the reason would be lost."""
    for name in peers.NEEDS:
        if item.get_closest_marker(name) is not None:
            peers.require(name)
