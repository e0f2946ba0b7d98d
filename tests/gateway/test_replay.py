"""The memory behind ``Last-Event-ID``: who gives way at which bound."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.gateway.replay import Replay, ReplayBudget

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["write", "new stream", "trim", "clear"]), st.integers(0, 60)),
    max_size=60,
)


async def test_invariant_7_at_the_common_bound_the_quietest_session_gives_way(autojump_clock: MockClock) -> None:
    budget = ReplayBudget(total_bytes=100)
    quiet, loud = (Replay(budget=budget, session_bytes=80, age_s=300) for _ in range(2))
    first, second = quiet.open(), loud.open()
    for log in (first, second):
        for _ in range(3):
            await trio.sleep(1)
            log.append(b"x" * 20)
    assert len(first.after(0) or []) == 2  # its first event, which the client has, went
    assert first.after(-1) is None
    assert len(second.after(-1) or []) == 3
    loud.open().append(b"y" * 20)
    assert first.after(0) is None
    assert budget.used_bytes == 100


async def test_invariant_7_a_session_gives_up_its_oldest_event_whichever_stream_it_is_of(
    autojump_clock: MockClock,
) -> None:
    replay = Replay(budget=ReplayBudget(total_bytes=1000), session_bytes=50, age_s=300)
    one, other = replay.open(), replay.open()
    for log in (one, other, one):
        await trio.sleep(1)
        log.append(b"x" * 20)
    assert one.after(-1) is None
    assert len(one.after(0) or []) == 1
    assert len(other.after(-1) or []) == 1


@given(steps=STEPS, total=st.integers(0, 150), each=st.integers(0, 80))
def test_invariant_7_no_bound_is_ever_exceeded_and_the_books_balance(
    steps: list[tuple[int, str, int]], total: int, each: int
) -> None:
    async def main() -> None:
        budget = ReplayBudget(total_bytes=total)
        replays = [Replay(budget=budget, session_bytes=each, age_s=30) for _ in range(4)]
        logs = [replay.open() for replay in replays]
        for who, what, number in steps:
            await trio.sleep(number / 10)
            match what:
                case "write":
                    logs[who].append(b"x" * number)
                case "new stream":
                    logs[who] = replays[who].open()
                case "trim":
                    replays[who].trim()
                case _:
                    replays[who].clear()
            assert budget.used_bytes == sum(replay.used_bytes for replay in replays) <= total
            assert all(0 <= replay.used_bytes <= each for replay in replays)
        for replay in replays:
            replay.clear()
        assert budget.used_bytes == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
