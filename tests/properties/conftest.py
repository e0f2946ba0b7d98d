"""How hard the property tests of this folder try.

What they read are bytes from outside, so they try harder than the others. The
environment variable ``HYPOTHESIS_PROFILE`` (``outside`` or ``nightly``) chooses,
and so does pytest's ``--hypothesis-profile=nightly``.
"""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

_EXAMPLES = {"outside": 1_000, "nightly": 100_000}
_DEFAULT = settings.get_profile("default")

for _name, _examples in _EXAMPLES.items():
    settings.register_profile(f"{_name}-bytes", parent=_DEFAULT, max_examples=_examples)

_FUSE_S = {"outside": 120, "nightly": 3_600}


def _chosen() -> str:
    name = os.environ.get("HYPOTHESIS_PROFILE", settings.get_current_profile_name())
    return name if name in _EXAMPLES else "outside"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Put the profile in force while this folder's modules are imported: ``@given`` takes its settings then."""
    before = settings.get_current_profile_name()
    settings.load_profile(f"{_chosen()}-bytes")
    try:
        return (yield)
    finally:
        settings.load_profile(before)


def pytest_itemcollected(item: pytest.Item) -> None:
    """So many examples take longer than the fuse of one test, above all under coverage."""
    item.add_marker(pytest.mark.timeout(_FUSE_S[_chosen()]))
