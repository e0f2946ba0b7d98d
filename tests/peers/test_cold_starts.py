"""Everyday servers come up with cold caches, stay up while nobody calls, and come up again; one round of each."""

import shutil
from typing import Final

import pytest

from tests.peers.cold_starts import EVERYDAY, UP_S, play_all
from tests.support import peers

pytestmark = [pytest.mark.wire, pytest.mark.slow, pytest.mark.peers, pytest.mark.node, pytest.mark.registry]

IDLE_S: Final = 6.0
"""A second longer than uvicorn keeps an idle connection."""


@pytest.mark.timeout(2 * UP_S)
async def test_no_call_of_an_everyday_server_fails() -> None:
    peers.require("registry")
    assert shutil.which("npx"), "npx: not found on this machine"
    found = await play_all(list(EVERYDAY), 1, IDLE_S)
    assert {one.name: one.failed for one in found} == {name: [] for name in EVERYDAY}
    assert {one.calls for one in found} == {6}
