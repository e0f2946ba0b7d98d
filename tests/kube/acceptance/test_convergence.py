"""Pieces come, change and go in any order, and soon everything is as they say."""

import random
from collections.abc import Iterator
from functools import partial

import pytest
import trio

from tests.kube.acceptance.conftest import Running
from tests.support.kube.convergence import PIECES, Scene
from tests.support.kube.place import FUSE_S, Place

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def scene(running: Running, home: Place) -> Iterator[Scene]:
    made = Scene(0, running.objects, running.where)
    made.begin()
    yield made
    made.end()


async def test_whatever_comes_last_or_changes_or_goes_is_seen_soon(scene: Scene) -> None:
    """Each of its pieces is the last one, the one that is wrong for a while, and the one that is deleted."""
    scene.start()
    order = random.Random(8).sample(PIECES, len(PIECES))
    scene.apply(order[:-1])
    await scene.served_after(lambda: scene.apply(order[-1:]), FUSE_S)
    for name in order:
        put = partial(scene.objects.apply, scene.pieces[name])
        await scene.withdrawn_after(partial(scene.objects.apply, scene.broken[name]), FUSE_S)
        await scene.served_after(put, FUSE_S)
        await scene.withdrawn_after(partial(scene.objects.delete, scene.pieces[name]), FUSE_S)
        await scene.served_after(put, FUSE_S)


async def test_a_server_that_comes_up_after_its_service_is_found_soon(scene: Scene) -> None:
    scene.apply(PIECES)
    await trio.sleep(2)  # it is asked for in vain
    await scene.served_after(scene.start, FUSE_S)
