"""How soon a cluster is served as its objects say, end to end, on a real API server.

Owns the rounds and their bounds. Deliberately has no cluster of its own making: the tests' installation runs the
controller and the data plane as processes under their own accounts. Bounds: p95 of 2 s from the request that brings
the last piece, or changes or deletes one, to ``tools/list`` and Ready; 4 s from the start of a server whose Service was
there before it.
"""

import os
import random
from collections import defaultdict
from functools import partial
from typing import Final

import trio

from bench.figures import median, percentile
from bench.page import Run
from tests.support.kube import assets
from tests.support.kube.convergence import PIECES, Scene
from tests.support.kube.installation import Installation
from tests.support.kube.objects import Objects

ROUNDS: Final = 20
CYCLES: Final = 3
"""Of each piece: wrong and right again, gone and back."""
SETTLE_S: Final = 0.5
"""What was changed before is over by then."""
LATE_S: Final = 2.0
"""So long a Service is there before its server."""
LAST_S: Final = 2.0
SERVER_S: Final = 4.0
FUSE_S: Final = 30.0

Times = defaultdict[str, list[float]]


async def main(run: Run) -> int:
    """From a change of an object of Kubernetes until clients see it and Ready says it (needs an API server)."""
    missing = assets.missing()
    if missing is not None:
        print(f"kube-converge left out: {missing}")
        return 0
    times: Times = defaultdict(list)
    load_average = os.getloadavg()[0]
    with Installation() as made:
        made.controller()
        _, where = made.data_plane()
        objects = Objects(made.api)

        def scene(number: int) -> Scene:
            opened = Scene(number, objects, where)
            opened.begin()
            return opened

        home = scene(0)  # hosts that nobody claims lead to the oldest extension: not to the one that is measured
        home.apply(("gateway", "grant", "extension"))
        for number in range(1, ROUNDS + 1):
            await _last_piece(scene(number), PIECES[number % len(PIECES)], times)
            await _late_server(scene(ROUNDS + number), times)
        changing = scene(2 * ROUNDS + 1)
        for _ in range(CYCLES):
            await _changes(changing, times)
        changing.end()
        home.end()
        objects.close()
    rows, missed = [], 0
    for what, bound in (("the last piece comes", LAST_S), ("a server comes up", SERVER_S), *_KINDS):
        found = times[what]
        p95 = percentile(found, 0.95)
        missed += p95 > bound
        rows.append((what, len(found), median(found), p95, max(found), bound))
    head = ("what happens", "times", "median s", "p95 s", "max s", "bound s")
    run.show("Convergence in Kubernetes", head, rows, f"Load average before: {load_average:.1f}.")
    return 1 if missed else 0


_KINDS: Final = tuple((f"a piece is {what}", LAST_S) for what in ("made wrong", "put right", "deleted", "put back"))


async def _last_piece(scene: Scene, last: str, times: Times) -> None:
    """All others are there, applied in an order of chance."""
    scene.start()
    others = [name for name in PIECES if name != last]
    scene.apply(random.sample(others, len(others)))
    await trio.sleep(SETTLE_S)
    times["the last piece comes"].append(await scene.served_after(lambda: scene.apply([last]), FUSE_S))
    scene.end()


async def _late_server(scene: Scene, times: Times) -> None:
    scene.apply(random.sample(PIECES, len(PIECES)))
    await trio.sleep(LATE_S)
    times["a server comes up"].append(await scene.served_after(scene.start, FUSE_S))
    scene.end()


async def _changes(scene: Scene, times: Times) -> None:
    """Each piece is wrong for a while, and then away for a while."""
    if scene.server is None:
        scene.start()
        await scene.served_after(lambda: scene.apply(PIECES), FUSE_S)
    for name in random.sample(PIECES, len(PIECES)):
        good = partial(scene.objects.apply, scene.pieces[name])
        for what, after, change in (
            ("made wrong", scene.withdrawn_after, partial(scene.objects.apply, scene.broken[name])),
            ("put right", scene.served_after, good),
            ("deleted", scene.withdrawn_after, partial(scene.objects.delete, scene.pieces[name])),
            ("put back", scene.served_after, good),
        ):
            await trio.sleep(SETTLE_S)
            times[f"a piece is {what}"].append(await after(change, FUSE_S))
