"""The clock of tests on real time goes by the load."""

import os
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.support import load


async def test_a_test_on_real_time_has_the_clock_that_goes_by_the_load() -> None:
    assert isinstance(trio.lowlevel.current_clock(), load.StretchedClock)


async def test_a_test_that_keeps_time_with_another_process_does_so_in_real_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load.keep_real_time()
    monkeypatch.setattr(load, "factor", lambda: 10.0)
    await trio.sleep(2 * load.LOOK_S)
    began, began_at = time.perf_counter(), trio.current_time()
    await trio.sleep(0.1)
    assert trio.current_time() - began_at == pytest.approx(time.perf_counter() - began, abs=0.05)


async def test_a_test_may_have_a_clock_of_its_own(autojump_clock: MockClock) -> None:
    assert trio.lowlevel.current_clock() is autojump_clock


@pytest.mark.parametrize("busy", [1.0, 4.0])
def test_a_second_is_as_long_as_the_machine_is_busy(monkeypatch: pytest.MonkeyPatch, busy: float) -> None:
    monkeypatch.setattr(load, "factor", lambda: busy)

    async def main() -> tuple[float, float]:
        began, began_at = time.perf_counter(), trio.current_time()
        await trio.sleep(0.1)
        return time.perf_counter() - began, trio.current_time() - began_at

    real_s, own_s = load.run(main)
    assert real_s >= 0.1 * busy
    assert own_s >= 0.1
    assert own_s == pytest.approx(real_s / busy, rel=0.1)


def test_a_machine_that_becomes_idle_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([10.0])
    monkeypatch.setattr(load, "factor", lambda: next(busy, 1.0))

    async def main() -> float:
        began = time.perf_counter()
        await trio.sleep(0.5)
        return time.perf_counter() - began

    assert load.run(main) < 5.0


def test_time_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([1.0, 20.0, 1.0, 7.0, 3.0, 1.0])
    monkeypatch.setattr(load, "factor", lambda: next(busy, 1.0))
    monkeypatch.setattr(load, "LOOK_S", 0.0)
    clock = load.StretchedClock()
    clock.start_clock()
    seen = [clock.current_time() for _ in range(100)]
    assert seen == sorted(seen)


def test_an_idle_machine_stretches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "loadavg"
    file.write_text("0.10 0.10 0.10 1/100 7\n")
    monkeypatch.setattr(load, "LOADAVG", file)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    assert load.stretched(5) == 5
    file.write_text("0.10 0.10 0.10 16/100 7\n")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert load.stretched(5) == 40
    file.write_text("0.10 0.10 0.10 1000/2000 7\n")
    assert load.factor() == load.MOST
    file.unlink()
    monkeypatch.setattr(os, "getloadavg", lambda: (6.0, 0.1, 0.1))
    assert load.factor() == 3
