"""Tokens that come back from outside: session ids, cursors, request states, event ids.

A forged, changed, cut, stretched or misplaced one is refused in the documented way and never raises.
"""

import functools

import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock

from mcp_gateway.cell import Cell
from mcp_gateway.gateway.address_book import AddressBook
from mcp_gateway.gateway.call.suspended import SuspendedCalls
from mcp_gateway.gateway.faces.own_answers import Invalid, OwnAnswers
from mcp_gateway.gateway.replay import Replay, ReplayBudget
from mcp_gateway.protocol import json_text
from mcp_gateway.protocol.capabilities import NAMES
from mcp_gateway.protocol.eras import V2025_11_25
from mcp_gateway.routing.decide import ListOf
from mcp_gateway.routing.listing_views import PAGE_ITEMS
from mcp_gateway.routing.snapshot import Kind
from mcp_gateway.sessions.signed import (
    DIGEST_BYTES,
    MAX_ID_CHARS,
    NONCE_BYTES,
    Purpose,
    SessionId,
    Signer,
)
from mcp_gateway.values import JsonObject
from tests.support.json_bytes import Dice, dice, objects
from tests.support.tables import lists, server, snapshot, spec, view_of

SIGNER = Signer((b"the first key", b"an older key"))
STRANGER = Signer((b"a key of somebody else",))
REALMS = ("", "gw|", "gw|finance", "g|w", "team/gw|")
LETTERS = "AZaz09-_.+/= \n\0\xe9\u20ac\ud800"
VIEW = view_of(spec(server("many")), snapshot("many", lists(prompts=[f"p{n}" for n in range(PAGE_ITEMS + 1)])))
OWN = OwnAnswers(server_info=b"{}", signer=Cell(SIGNER))


def changed(token: str, plan: Dice) -> str:
    """The token with one thing wrong with it."""
    at = int.from_bytes(plan.take(2), "big") % (len(token) + 1)
    letter = LETTERS[plan.below(len(LETTERS))]
    match plan.below(7):
        case 0:
            return token[:at]
        case 1:
            return token[:at] + letter + token[at + 1 :]
        case 2:
            return token[:at] + letter + token[at:]
        case 3:
            return token + letter * (1 + plan.below(4))
        case 4:
            return token[:at] + token[at + 1 :]
        case 5:
            return token + token
        case _:
            return token.swapcase()


@given(payload=st.binary(max_size=60), plan=dice)
def test_only_the_exact_token_opens_and_only_for_its_purpose_and_realm(payload: bytes, plan: Dice) -> None:
    purposes = list(Purpose)
    purpose, other = purposes[plan.below(len(purposes))], purposes[plan.below(len(purposes))]
    realm, elsewhere = REALMS[plan.below(len(REALMS))], REALMS[plan.below(len(REALMS))]
    token = SIGNER.seal(purpose, realm, payload)
    opened = SIGNER.open(other, elsewhere, token)
    assert opened == (payload if (other, elsewhere) == (purpose, realm) else None)
    assert STRANGER.open(purpose, realm, token) is None
    assert SIGNER.open(purpose, realm, STRANGER.seal(purpose, realm, payload)) is None
    tampered = changed(token, plan)
    assert tampered == token or SIGNER.open(purpose, realm, tampered) is None


@given(token=st.text(max_size=80) | st.text(max_size=80).map("1.".__add__))
def test_no_text_is_a_token_by_chance(token: str) -> None:
    assert SIGNER.open(Purpose.SESSION, "gw|", token) is None
    assert SessionId.decode(SIGNER, "gw|", token) is None
    assert isinstance(OWN.listed(ListOf(kind=Kind.PROMPTS, cursor=token), V2025_11_25, VIEW, "gw|"), Invalid)
    assert parking().open(token, "gw|", b"b" * 16) is None


@given(payload=st.binary(max_size=200), plan=dice)
def test_a_session_id_is_what_was_issued_or_unknown(payload: bytes, plan: Dice) -> None:
    """Even with a good signature only what ``encode`` could have written is a session."""
    issued = SessionId(
        nonce=plan.take(NONCE_BYTES),
        version="2025-11-25",
        capabilities=frozenset(name for name in NAMES if plan.below(2)),
        principal=plan.take(DIGEST_BYTES),
        gateway="gw|",
        issued_unix_s=int.from_bytes(plan.take(8), "big"),
    )
    text = issued.encode(SIGNER)
    assert SessionId.decode(SIGNER, "gw|", text) == issued
    assert SessionId.decode(SIGNER, "gw|finance", text) is None
    tampered = changed(text, plan)
    assert tampered == text or SessionId.decode(SIGNER, "gw|", tampered) is None
    signed = SIGNER.seal(Purpose.SESSION, "gw|", payload)
    found = SessionId.decode(SIGNER, "gw|", signed)
    assert found is None or found.encode(SIGNER) == signed
    assert len(signed) <= MAX_ID_CHARS or found is None


@functools.cache
def first_cursor() -> str:
    """The real cursor of a list of two pages."""
    page = OWN.listed(ListOf(kind=Kind.PROMPTS), V2025_11_25, VIEW, "gw|")
    assert isinstance(page, bytes)
    value = json_text.parse(page)
    assert isinstance(value, dict)
    cursor = value["nextCursor"]
    assert isinstance(cursor, str)
    return cursor


@given(plan=dice)
def test_a_cursor_continues_its_own_list_or_is_invalid(plan: Dice) -> None:
    kind = list(Kind)[plan.below(4)]
    realm = REALMS[plan.below(len(REALMS))]
    cursor = first_cursor() if plan.below(4) == 0 else changed(first_cursor(), plan)
    answer = OWN.listed(ListOf(kind=kind, cursor=cursor), V2025_11_25, VIEW, realm)
    good = cursor == first_cursor() and kind is Kind.PROMPTS and realm == "gw|"
    assert isinstance(answer, bytes) if good else isinstance(answer, Invalid)


def parking() -> SuspendedCalls:
    """A parking place on which nothing is parked."""
    return SuspendedCalls(signer=Cell(SIGNER), wall_clock=lambda: 1_800_000_000.0, addresses=AddressBook())


@given(payload=objects, sealed=st.booleans(), plan=dice)
@example(payload={"p": "x", "r": 1, "e": 1_800_000_100, "b": (b"b" * 16).hex()}, sealed=True, plan=Dice(b""))
def test_a_request_state_that_names_no_parked_call_is_refused(payload: JsonObject, sealed: bool, plan: Dice) -> None:
    state: object = plan.value()
    if sealed:
        known = {key: plan.scalar() for key in ("p", "r", "e") if plan.below(2)}
        made = {"b": (b"b" * 16).hex(), **payload, **known}
        state = SIGNER.seal(Purpose.REQUEST_STATE, "gw|", json_text.dumps(made))
    assert parking().open(state, "gw|", b"b" * 16) is None


@given(text=st.text(max_size=30), plan=dice)
def test_an_event_id_names_a_kept_stream_and_an_event_of_it_or_nothing(text: str, plan: Dice) -> None:
    async def main() -> None:
        replay = Replay(budget=ReplayBudget(1000), session_bytes=200, age_s=60)
        logs = [replay.open() for _ in range(3)]
        issued = {log.append(b"x"): (log, seq) for seq in range(3) for log in logs}
        for event_id, place in issued.items():
            assert replay.find(event_id) == place
        one = list(issued)[plan.below(len(issued))]
        for tried in (changed(one, plan), text, f"{logs[0].name}-{text}", f"{text}-1"):
            found = replay.find(tried)
            # "007" is seven too: it is still an event of this stream.
            assert found is None or (found[0] in logs and 0 <= found[1] < 3)

    trio.run(main, clock=MockClock(autojump_threshold=0))
