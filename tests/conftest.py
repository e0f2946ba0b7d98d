"""What every test gets: the profiles of the property tests.

Deliberately no fixtures with behaviour of their own; honest fakes live in ``tests/support``.
"""

from hypothesis import HealthCheck, settings

# The fuse of pytest-timeout guards the time; a deadline per example fails on a busy machine for no reason.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")
