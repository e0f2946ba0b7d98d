"""What happens between our programs and a real API server: cut, refused, held, lost; and that everything converges."""

import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from typing import Final

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.lease import LEASE
from tests.support.kube.installation import CONTROLLER, SYSTEM, Program
from tests.support.kube.interference import Interference, Lost, Refusal, Request
from tests.support.kube.small_cluster import EXTENSION, GRANT, ROUTE, SmallCluster, registration, until

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]

STORM_S: Final = 5.0
TOLERANCE_S: Final = 0.1
"""Between a program's clock and ours."""
ROUNDS: Final = 6

_names = (f"s{number}" for number in count())


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster() as made:
        made.apply(ROUTE, GRANT, EXTENSION)
        yield made


@pytest.fixture
def way(cluster: SmallCluster) -> Interference:
    cluster.way.taken()
    return cluster.way


@pytest.fixture
def controller(cluster: SmallCluster) -> Iterator[Program]:
    """A controller that leads."""
    with cluster.leading() as program:
        yield program


@contextmanager
def every_second(way: Interference) -> Iterator[list[int]]:
    """Cut all watches each second; yields how many there were each time."""
    over, cuts = threading.Event(), list[int]()

    def cut() -> None:
        while not over.wait(1.0):
            cuts.append(way.cut())

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield cuts
    finally:
        over.set()
        thread.join()


def comes_and_goes(cluster: SmallCluster) -> None:
    """A registration that is new is served and Ready; one that is deleted is served no more."""
    name = next(_names)
    cluster.apply(registration(name))
    until(lambda: cluster.serves(name) and cluster.ready(name) == "True")
    cluster.remove(registration(name))
    until(lambda: not cluster.serves(name))


def test_watches_that_are_cut_every_second(cluster: SmallCluster, way: Interference, controller: Program) -> None:
    comes_and_goes(cluster)
    way.taken()
    with every_second(way) as cuts:
        while len(cuts) < 5:
            comes_and_goes(cluster)
    assert sum(cuts) > len(cuts)
    lists = [request for request, _ in way.taken() if not request.writes and "limit=" in request.target]
    assert lists == [], "a watch goes on from where it was cut"


def test_a_storm_of_410(cluster: SmallCluster, way: Interference, controller: Program) -> None:
    def expired(request: Request) -> Refusal | None:
        return Refusal(status=410, reason="Expired") if request.watches else None

    comes_and_goes(cluster)
    way.cut()
    way.taken()
    with way.spoiling(expired):
        comes_and_goes(cluster)
        time.sleep(STORM_S)  # noqa: TID251  # outside of any loop
    asked = [request for request, status in way.taken() if status == 410]
    watches = len({(request.agent, request.path) for request in asked})
    assert watches > 5
    assert len(asked) < 30 * watches, "fewer and fewer"
    comes_and_goes(cluster)


def test_a_storm_of_429_is_waited_for_and_nothing_is_lost(
    cluster: SmallCluster, way: Interference, controller: Program
) -> None:
    def busy(request: Request) -> Refusal | None:
        spared = "/leases" in request.path  # whoever loses the Lease has an excuse to be silent
        if spared or not request.writes:
            return None
        return Refusal(status=429, reason="TooManyRequests", retry_after_s=2)

    names = [next(_names) for _ in range(8)]
    gone = registration(next(_names))
    cluster.apply(gone)
    until(lambda: cluster.ready(str(gone["metadata"]["name"])) == "True")  # type: ignore[index]  # ours
    way.taken()
    with way.spoiling(busy):
        cluster.apply(*(registration(name) for name in names))
        cluster.remove(gone)
        time.sleep(STORM_S)  # noqa: TID251  # outside of any loop
    until(lambda: all(cluster.serves(name) and cluster.ready(name) == "True" for name in names))
    assert not cluster.serves(str(gone["metadata"]["name"]))  # type: ignore[index]  # ours
    tries: dict[tuple[str, str, str], list[tuple[float, int]]] = defaultdict(list)
    for request, status in way.taken():
        if "/events" not in request.path:  # each is another one
            tries[request.agent, request.verb, request.path].append((request.at, status))
    refused = [pair for each in tries.values() for pair in pairwise(each) if pair[0][1] == 429]
    assert len(refused) > 5
    assert min(later - sooner for (sooner, _), (later, _) in refused) > 2.0 - TOLERANCE_S


def test_a_leader_that_is_asked_to_wait_for_the_lease_waits(
    cluster: SmallCluster, way: Interference, controller: Program
) -> None:
    def busy(request: Request) -> Refusal | None:
        ours = "/leases" in request.path and request.writes
        return Refusal(status=429, reason="TooManyRequests", retry_after_s=3) if ours else None

    way.taken()
    with way.spoiling(busy):
        time.sleep(STORM_S)  # noqa: TID251  # outside of any loop
    comes_and_goes(cluster)
    times = [(request.at, status) for request, status in way.taken() if "/leases" in request.path and request.writes]
    assert 429 in [status for _, status in times]
    for (sooner, status), (later, _) in pairwise(times):
        assert status != 429 or later - sooner > 3.0 - TOLERANCE_S


def test_a_controller_that_is_killed_between_any_two_writes(cluster: SmallCluster, way: Interference) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  # shown where the test fails
    dice = random.Random(seed)
    kept = [key.rpartition("/")[2] for key in cluster.admin.versions(schema.REGISTRATION)]
    kept.append(next(_names))
    cluster.apply(registration(kept[-1]))
    for _ in range(ROUNDS):
        kill_at(cluster, way, writes=dice.randrange(1, 9), carried_out=dice.random() < 0.5, dice=dice, kept=kept)
    with cluster.leading():
        until(lambda: {tool.partition("_")[0] for tool in cluster.tools()} == set(kept))
        until(lambda: all(cluster.ready(name) == "True" for name in kept))
        before = cluster.admin.versions(schema.REGISTRATION)
        time.sleep(2)  # noqa: TID251  # whatever is left to do
        assert cluster.admin.versions(schema.REGISTRATION) == before


def kill_at(
    cluster: SmallCluster, way: Interference, *, writes: int, carried_out: bool, dice: random.Random, kept: list[str]
) -> None:
    """A controller begins, everything changes, and it dies at its ``writes``-th write, carried out or not."""
    program = cluster.controller(pod=f"controller-{time.monotonic_ns()}")
    left, lock = writes, threading.Lock()

    def last(request: Request) -> bool:
        nonlocal left
        if not request.writes or request.agent != CONTROLLER or "/leases" in request.path:
            return False
        with lock:
            left -= 1
        return left <= 0

    def before(request: Request) -> Refusal | None:
        if last(request):
            program.process.kill()
            if not carried_out:
                return Refusal(status=503, reason="Dead")
        return None

    def after(request: Request, status: int) -> None:
        if program.process.poll() is not None:
            raise Lost

    way.rule, way.answered = before, after
    for _ in range(3):
        kept.append(next(_names))
        cluster.apply(registration(kept[-1]))
    cluster.remove(registration(kept.pop(dice.randrange(len(kept)))))
    program.process.wait(60)
    way.rule, way.answered = lambda request: None, lambda request, status: None
    cluster.admin.delete(LEASE, SYSTEM, CONTROLLER)  # nobody has to wait until it is old


def test_what_a_frozen_leader_had_sent_already_comes_too_late(
    cluster: SmallCluster, way: Interference, controller: Program
) -> None:
    name, held, free = next(_names), list[Request](), threading.Event()

    def hold(request: Request) -> Refusal | None:
        if request.writes and request.agent == CONTROLLER and "/leases" not in request.path and not free.is_set():
            held.append(request)
            if len(held) == 1:
                controller.process.send_signal(signal.SIGSTOP)
            free.wait(60)
        return None

    with way.spoiling(hold):
        cluster.apply(registration(name))
        until(lambda: held)
    other = cluster.controller(pod="controller-overtaking")
    other.wait_for("leading")
    until(lambda: cluster.serves(name) and cluster.ready(name) == "True")
    before = cluster.config()
    way.taken()
    free.set()
    until(lambda: way.seen.qsize() >= len(held))
    late = [(request, status) for request, status in way.taken() if request in held]
    assert [status for _, status in late] == [409] * len(held)
    controller.process.send_signal(signal.SIGCONT)
    controller.wait_for("not leading any more")
    time.sleep(1)  # noqa: TID251  # long enough for whatever it had in hand
    assert cluster.config() == before
    assert cluster.ready(name) == "True"
    other.end()


def test_both_programs_get_over_a_server_that_nobody_reaches(
    cluster: SmallCluster, way: Interference, controller: Program
) -> None:
    name = next(_names)
    cluster.apply(registration(name))
    until(lambda: cluster.serves(name))
    way.leave()
    controller.wait_for("not leading any more")
    cluster.remove(registration(name))
    assert cluster.serves(name), "the data plane goes on with what it has"
    way.away = False
    assert until(lambda: not cluster.serves(name)) < 20
    comes_and_goes(cluster)


def test_a_lease_that_is_deleted_or_edited_by_hand_is_taken_again(
    cluster: SmallCluster, way: Interference, controller: Program
) -> None:
    cluster.admin.delete(LEASE, SYSTEM, CONTROLLER)
    until(lambda: cluster.holder())
    comes_and_goes(cluster)
    spec = {"holderIdentity": "somebody", "leaseTransitions": 2**31 - 1, "renewTime": "2001-01-01T00:00:00.000000Z"}
    cluster.admin.merge(LEASE, SYSTEM, CONTROLLER, {"spec": spec})
    controller.wait_for("not leading any more")
    until(lambda: cluster.holder() not in ("", "somebody"))
    comes_and_goes(cluster)
