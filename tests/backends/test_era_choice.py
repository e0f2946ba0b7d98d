"""In which era requests go up, as a table of all that it depends on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.era_choice import Circumstances, family_for
from mcp_gateway.protocol.eras import Family

OLD, NEW = Family.LEGACY, Family.MODERN
BOTH = frozenset(Family)
FLAGS = [False, True]


@pytest.mark.parametrize(
    "client, askable, sessionless, room, goes_up",
    [
        pytest.param(NEW, False, False, True, NEW, id="a 2026 client goes up in its own era"),
        pytest.param(NEW, True, False, True, NEW, id="whatever it can be asked"),
        pytest.param(NEW, True, True, False, NEW, id="and however the 2025 side is"),
        pytest.param(OLD, False, False, True, OLD, id="a 2025 client goes up in its own era"),
        pytest.param(OLD, True, False, True, OLD, id="also if it can be asked: on its session"),
        pytest.param(OLD, True, True, True, NEW, id="where no session can ask it, it is bridged"),
        pytest.param(OLD, False, True, True, OLD, id="who cannot be asked needs no session"),
        pytest.param(OLD, False, True, False, OLD, id="nor a place for one"),
        pytest.param(OLD, False, False, False, NEW, id="without a place who cannot be asked is bridged"),
        pytest.param(OLD, True, False, False, OLD, id="who can be asked is told that there is no place"),
        pytest.param(OLD, True, True, False, NEW, id="unless no place was needed"),
    ],
)
def test_at_a_server_of_both_eras_over_http(
    client: Family, askable: bool, sessionless: bool, room: bool, goes_up: Family
) -> None:
    case = Circumstances(spoken=BOTH, client=client, askable=askable, sessionless=sessionless, room=room)
    assert family_for(case) is goes_up


@pytest.mark.parametrize(
    "client, askable, room, goes_up",
    [
        pytest.param(NEW, True, True, NEW, id="a 2026 client shares the process"),
        pytest.param(NEW, False, True, NEW, id="whatever it can be asked"),
        pytest.param(OLD, False, True, NEW, id="a 2025 client shares it too, bridged"),
        pytest.param(OLD, True, True, OLD, id="one with a process of its own has it in its own era"),
        pytest.param(OLD, True, False, NEW, id="without a place for that it shares"),
    ],
)
def test_at_a_process_of_both_eras(client: Family, askable: bool, room: bool, goes_up: Family) -> None:
    assert family_for(Circumstances(spoken=BOTH, client=client, askable=askable, room=room, pipe=True)) is goes_up


@given(
    spoken=st.sampled_from([frozenset({OLD}), frozenset({NEW}), BOTH]),
    client=st.sampled_from(Family),
    held=st.sampled_from([None, OLD, NEW]),
    flags=st.tuples(*[st.sampled_from(FLAGS)] * 4),
)
def test_the_era_is_one_that_is_spoken_and_the_one_that_is_held_if_it_still_is(
    spoken: frozenset[Family], client: Family, held: Family | None, flags: tuple[bool, bool, bool, bool]
) -> None:
    askable, sessionless, pipe, room = flags
    chosen = family_for(
        Circumstances(
            spoken=spoken,
            client=client,
            held=held,
            askable=askable,
            sessionless=sessionless,
            pipe=pipe,
            room=room,
        )
    )
    assert chosen in spoken
    if held in spoken:
        assert chosen is held
