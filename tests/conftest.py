"""What every test gets: the profiles of the property tests, its skip where the machine lacks what it needs, its fuse.

Times in tests are those of an idle machine. Tests without a virtual clock run on one that goes slower as the machine is
busy (``support.load``), the gateway in their process with them, so that every deadline and every bound is stretched
alike. Beside a gateway in a process of its own, which knows real time only, bounds are stretched by hand. The fuse
allows for load too, and takes the processes of a test along that it ends (``support.fuse``). Bounds that are about
speed are bounds on processor time (marked ``brisk``).

Deliberately no fixtures with behaviour of their own; honest fakes live in ``tests/support``.
"""

import inspect

import pytest
from hypothesis import HealthCheck, settings

from tests.support import guardian, load, peers
from tests.support.fuse import pytest_timeout_set_timer  # noqa: F401  # a hook, found here by its name

# The fuse of pytest-timeout guards the time; a deadline per example fails on a busy machine for no reason.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")


def pytest_configure() -> None:
    """Whatever is started from now on ends with this process, even if somebody kills it."""
    guardian.begin()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every asynchronous test that asks for no clock gets the one that goes by the load."""
    if inspect.iscoroutinefunction(getattr(item, "function", None)):
        item.add_marker(pytest.mark.trio(run=load.run))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, before the test begins: inside an asynchronous one the reason would be lost."""
    for name in peers.NEEDS:
        if item.get_closest_marker(name) is not None:
            peers.require(name)
